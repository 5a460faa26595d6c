// SPDX-License-Identifier: MIT
/// \file  The frequencies of Fourier features, by the rules that systems have for them.
#pragma once

#include <posenc/config.hpp>
#include <posenc/double_double.hpp>
#include <posenc/error.hpp>   // require
#include <posenc/tensor.hpp>  // index_t, checked_product

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

/// `count` frequencies, the same for all coordinates or some for each; what unit they have, the encoder is told. Given to 106 bits, with a
/// relative error below 2^-90 where a power has to be taken.
///
/// All \throws argument_error  unless count is positive and each frequency finite and at most 2^40 in magnitude.
class feature_bands {
 public:
  /// 2^first, 2^(first + 1), ...: NeRF, mip-NeRF (degrees), tiny-cuda-nn.
  static feature_bands powers_of_two(index_t count, index_t first = 0) {
    require(first >= -1000 && first <= 40, name, "exponents must lie in [-1000, 40]", first);
    return made(count, [&](index_t k) { return double_double{std::ldexp(1.0, static_cast<int>(k < 41 ? first + k : 41)), 0}; });
  }
  /// 2^e for exponents from the first to the last, evenly spaced, both included: nerfstudio.
  static feature_bands log_spaced(index_t count, double first, double last) {
    require(std::abs(first) <= 1000 && std::abs(last) <= 1000, name, "exponents must lie in [-1000, 1000]", first, last);
    return made(count, [&](index_t k) { return exp(between(first, last, k, count) * ln_2); });
  }
  /// From the first to the last, evenly spaced, both included: bmild/nerf without log sampling (1, 2^(count - 1)), Perceiver
  /// (1, resolution / 2) and timm's pixel bands (1, max / 2).
  static feature_bands linear(index_t count, double first, double last) {
    require(std::isfinite(first) && std::isfinite(last), name, "first and last must be finite", first, last);
    return made(count, [&](index_t k) { return between(first, last, k, count); });
  }
  /// base^(k / count): rff's positional encoding (base sigma), timm's language bands (base 1 / temperature).
  static feature_bands geometric(index_t count, double base) {
    require(std::isfinite(base) && base > 0, name, "base must be positive and finite", base);
    const double_double slope = log(base);
    return made(count, [&](index_t k) {
      return exp(slope * double_double{static_cast<double>(k), 0} / double_double{static_cast<double>(count), 0});
    });
  }
  /// These; {1}: the basic features of Tancik et al.
  static feature_bands given(const std::vector<double>& all) {
    return made(static_cast<index_t>(all.size()), [&](index_t k) { return double_double{all[static_cast<std::size_t>(k)], 0}; });
  }
  /// Some for each coordinate, as many for all. \throws argument_error  if they are not, or one of them has its own by coordinate.
  static feature_bands by_axis(const std::vector<feature_bands>& axes) {
    require(!axes.empty(), name, "there must be at least one axis", axes.size());
    feature_bands all;
    all.axes_ = static_cast<index_t>(axes.size()), all.count_ = axes[0].count_;
    for (const feature_bands& one : axes) {
      require(one.count_ == all.count_ && one.axes_ == 0, name, "axes must have the same number of bands", all.count_, one.count_);
      all.values_.insert(all.values_.end(), one.values_.begin(), one.values_.end());
    }
    return all;
  }

  index_t count() const noexcept { return count_; }
  index_t axes() const noexcept { return axes_; }  ///< 0: the same for any number
  double_double operator()(index_t axis, index_t k) const noexcept {
    return values_[static_cast<std::size_t>((axes_ == 0 ? 0 : axis) * count_ + k)];
  }
  friend bool operator==(const feature_bands& a, const feature_bands& b) {
    const auto same = [](double_double x, double_double y) { return x.high == y.high && x.low == y.low; };
    return a.axes_ == b.axes_ && std::ranges::equal(a.values_, b.values_, same);
  }

 private:
  static constexpr std::string_view name = "feature_bands";

  feature_bands() = default;
  static feature_bands made(index_t count, const auto& frequency) {
    require(count > 0, name, "count must be positive", count);
    feature_bands all;
    all.count_ = count;
    all.values_.reserve(static_cast<std::size_t>(checked_product(name, std::array{count}, sizeof(double_double))));
    for (index_t k = 0; k < count; ++k) {
      const double_double one = frequency(k);
      require(std::abs(one.high) <= 0x1p40, name, "frequencies must be finite and at most 2^40", one.high);
      all.values_.push_back(one);
    }
    return all;
  }
  static double_double between(double first, double last, index_t k, index_t count) noexcept {
    const double_double from{first, 0};
    if (k == 0) return from;
    const double_double share = double_double{static_cast<double>(k), 0} / double_double{static_cast<double>(count - 1), 0};
    return from + (double_double{last, 0} - from) * share;
  }

  index_t count_ = 0, axes_ = 0;
  std::vector<double_double> values_;
};

}  // namespace POSENC_NAMESPACE
