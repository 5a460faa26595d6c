// SPDX-License-Identifier: MIT
/// \file  Fourier position embedding (FoPE): rotary position embedding whose pairs of channels turn by sums of waves instead of one wave
/// each. Hua et al. 2024, "Fourier Position Embedding: Enhancing Attention's Periodic Extension for Length Generalization".
#pragma once

#include <posenc/concepts.hpp>  // rotary_encoder
#include <posenc/config.hpp>
#include <posenc/coordinates.hpp>
#include <posenc/error.hpp>  // require
#include <posenc/executor.hpp>
#include <posenc/fourier/fope_coefficients.hpp>
#include <posenc/fourier/fope_columns.hpp>
#include <posenc/fourier/fope_spectrum.hpp>
#include <posenc/fourier/fope_tables.hpp>
#include <posenc/frequencies.hpp>
#include <posenc/gradients.hpp>  // parameter, gradient_spans
#include <posenc/heads.hpp>      // head_view
#include <posenc/positions.hpp>
#include <posenc/random.hpp>
#include <posenc/required.hpp>
#include <posenc/rope/rotary_table_verbs.hpp>  // the verbs
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

namespace POSENC_NAMESPACE {

/// How many pairs are mixed where frequencies of 0 are ignored; otherwise all are.
enum class fope_width {
  paper,  ///< as many as there are waves, at most dim / 4: the authors
  vllm    ///< as many as there are waves
};

/// What stands in the table for the pairs behind those.
enum class fope_padding {
  ones,     ///< sine 1 and cosine 1, a turn by 45 degrees and a factor of sqrt(2): the authors, who mean it
  rotation  ///< sine 0 and cosine 1, which leaves channels as they are: vLLM
};

struct fope_options {
  required<fope_spectrum> spectrum;
  required<fope_width> width;
  required<fope_padding> padding;
  index_t heads = 0;           ///< that have coefficients of their own, key heads where there are fewer of them; 0: the same for all
  bool separate_basis = true;  ///< sines and cosines have coefficients of their own
  bool fourier_norm = false;   ///< coefficients are divided by their sum over the waves

  friend bool operator==(const fope_options&, const fope_options&) = default;
};

/// Multiplies pair k of head h at position p, as complex numbers, by c + i s where
///
///     c[h, p, k] = sum over waves f of cos(p theta_f) cos_coef[h, f, k],   s[h, p, k] likewise of sines and sin_coef
///
/// for the pairs that are mixed; those behind are padded. With H heads in a tensor and `heads` that have coefficients, head h takes those
/// of head h heads / H: a query head those of its key head (the authors' repeat_interleave, vLLM's key heads).
///
/// The product neither keeps lengths nor depends on the difference of positions alone, so that cached keys cannot be moved. Tables are
/// within (3.1e-8 + (waves + 1) 2^-24) (float) and (2.3e-16 + (waves + 1) 2^-53) (double) times the sum of |coefficients| over the waves,
/// times the attention factors; a token without a position has c = 1 and s = 0. See `rotary_table_verbs` for the verbs. `inverse` divides
/// by c^2 + s^2; where both are 0 nothing is left of a pair, and it comes back as 0. Positions have one axis.
template <compute_scalar S>
class fope : public rotary_table_verbs<fope<S>, S> {
  using base = rotary_table_verbs<fope, S>;
  friend base;

 public:
  /// The tables, and where the tokens stand: the gradient of a coefficient is a sum over positions.
  struct state : rotary_tables<S> {
    std::variant<attention_positions, attention_coordinates> at;
  };

  /// \param sin_coef  [heads, waves, mixed pairs], or [waves, mixed pairs] where heads is 0, of the waves that `inspect` would tell.
  /// \throws argument_error  unless the descriptor is valid, the spectrum as `fope_series` asks, heads not negative, there is a pair to mix
  ///                         and no more than dim / 2 of them, and as many coefficients as heads, waves and pairs ask for, for sines and
  ///                         cosines apart if and only if the options say so, all finite.
  fope(const rotary_descriptor& descriptor, const fope_options& options, std::span<const S> sin_coef, std::span<const S> cos_coef)
      : fope(descriptor, options) {
    require(options_.separate_basis, name(), "sines and cosines must share their coefficients unless separate_basis is set");
    give(sin_coef_, sin_coef);
    give(cos_coef_, cos_coef);
  }
  /// \param fourier_coef  of sines and cosines alike.
  fope(const rotary_descriptor& descriptor, const fope_options& options, std::span<const S> fourier_coef) : fope(descriptor, options) {
    require(!options_.separate_basis, name(), "there must be coefficients of sines and of cosines where separate_basis is set");
    give(sin_coef_, fourier_coef);
  }
  /// With coefficients to start from, those of sines first. \throws argument_error  as above, and for a gain out of range.
  fope(const rotary_descriptor& descriptor, const fope_options& options, const fope_initialization& start, random_source& random)
      : fope(descriptor, options) {
    const initialize::fope_shape shape{.heads = options_.heads, .inputs = waves(), .outputs = mixed_};
    for (auto* coefficients : {&sin_coef_, &cos_coef_})
      if (!coefficients->empty()) initialize::fope_coefficients(*coefficients, random, shape, start);
  }

  static constexpr std::string_view name() noexcept { return "fope"; }
  const fope_options& options() const noexcept { return options_; }
  /// The waves that are mixed, and the attention factor of the schedule.
  const rotary_spectrum& inspect() const noexcept { return spectrum_; }
  index_t mixed_pairs() const noexcept { return mixed_; }

  /// The mixtures of queries and of the keys that are turned, of the coefficients as they are now, once per forward pass, for all layers;
  /// one table where they stand at the same positions. Allocates batch * time * heads * dim values, 128 rows of waves for each part of
  /// the work, and copies of the coefficients where they are divided or an attention factor is not 1.
  /// \throws argument_error  unless positions have one axis, and the sums to divide by are finite and not 0.
  state prepare(const attention_positions& at, const executor& run = {}) const { return {tables(at, run), at}; }
  /// The same for tokens between the integers.
  state prepare(const attention_coordinates& at, const executor& run = {}) const { return {tables(at, run), at}; }
  /// The table of queries and keys at these positions.
  rotary_table<S> prepare(const positions& at, const executor& run = {}) const { return table(at, run); }
  rotary_table<S> prepare(const coordinates& at, const executor& run = {}) const { return table(at, run); }

  /// What the authors' code calls inverse: the sign of the sines alone is turned round, which undoes `rotate` only where c^2 + s^2 = 1. It
  /// is the transpose, `rotate_backward`.
  template <class T>
    requires writable_as<T, S>
  void paper_inverse(head_view<T> x, operand role, const rotary_tables<S>& tables, const executor& run = {}) const {
    base::rotate_backward(x, role, tables, run);
  }

  using base::rotate_backward;
  /// The gradient of `rotate`: d as `rotary_table_verbs` has it, in and out, and d_parameters added to, in double, in an order that depends
  /// on shapes alone. What was rotated is found by undoing it, so that pairs with c = s = 0, which are all of a column of zeros, give no
  /// gradient: see `rotate_backward_from_inputs`. Allocates 16 bytes a wave for each token and 32 for each coefficient.
  /// \param rotated  what `rotate` wrote.
  template <class T>
    requires writable_as<T, S>
  void rotate_backward(head_view<T> d, std::type_identity_t<head_view<const T>> rotated, operand role, const state& made,
                       gradient_spans<S> d_parameters, const executor& run = {}) const {
    backward(d, rotated, detail::fope_from::written, role, made, d_parameters, run);
  }
  /// The same from what `rotate` read, for those who keep it: exact for all coefficients.
  template <class T>
    requires writable_as<T, S>
  void rotate_backward_from_inputs(head_view<T> d, std::type_identity_t<head_view<const T>> inputs, operand role, const state& made,
                                   gradient_spans<S> d_parameters, const executor& run = {}) const {
    backward(d, inputs, detail::fope_from::read, role, made, d_parameters, run);
  }

  /// "sin_coef" and "cos_coef", or "fourier_coef": [heads, waves, mixed pairs], or [waves, mixed pairs].
  std::vector<parameter<S>> parameters() {
    std::vector<index_t> shape{waves(), mixed_};
    if (options_.heads > 0) shape.insert(shape.begin(), options_.heads);
    if (!options_.separate_basis) return {{"fourier_coef", sin_coef_, shape}};
    return {{"sin_coef", sin_coef_, shape}, {"cos_coef", cos_coef_, shape}};
  }

  friend bool operator==(const fope& a, const fope& b) {
    return a.descriptor() == b.descriptor() && a.options_ == b.options_ && a.sin_coef_ == b.sin_coef_ && a.cos_coef_ == b.cos_coef_;
  }

 private:
  fope(const rotary_descriptor& descriptor, const fope_options& options) : base(descriptor), options_(options) {
    const index_t dim = descriptor.dim;
    const fope_spectrum rule = options.spectrum;
    auto made = fope_series(name(), dim, rule);
    spectrum_ = {frequencies::from_radians(name(), made.radians), made.attention_factor};
    mixed_ = !rule.ignore_zero ? dim / 2 : options.width == fope_width::paper ? std::min(waves(), dim / 4) : waves();
    require(mixed_ > 0 && mixed_ <= dim / 2, name(), "the pairs that are mixed must be positive and at most dim / 2", mixed_, dim);
    require(options.heads >= 0, name(), "heads must not be negative", options.heads);
    const std::array shape{std::max<index_t>(options.heads, 1), waves(), mixed_};
    const auto size = static_cast<std::size_t>(checked_product(name(), shape, sizeof(double)));
    sin_coef_.resize(size);
    if (options.separate_basis) cos_coef_.resize(size);
  }
  static constexpr bool heads_share_rows() noexcept { return true; }

  void give(std::vector<S>& to, std::span<const S> values) {
    require(values.size() == to.size(), name(), "coefficients must be heads * waves * mixed pairs", to.size(), values.size(),
            options_.heads, waves(), mixed_);
    for (const S value : values) require(std::isfinite(value), name(), "coefficients must be finite", value);
    to.assign(values.begin(), values.end());
  }
  index_t waves() const noexcept { return spectrum_.frequencies.count(); }
  double factor() const noexcept { return spectrum_.attention_factor * this->descriptor().attention_factor; }
  const std::vector<S>& cosines() const noexcept { return options_.separate_basis ? cos_coef_ : sin_coef_; }

  detail::fope_columns<S> columns(const std::vector<S>& coefficients) const {
    return {name(), coefficients, std::max<index_t>(options_.heads, 1), waves(), mixed_, options_.fourier_norm, factor()};
  }
  detail::fope_mixture<S> mixture(const S* sines, const S* cosines) const {
    const S one = static_cast<S>(factor());
    const bool ones = options_.padding == fope_padding::ones;
    return {spectrum_.frequencies, this->descriptor().dim / 2, mixed_, options_.heads, sines, cosines, ones ? one : S(0), one, factor()};
  }
  template <class At>
  rotary_table<S> table(const At& at, const executor& run) const {
    require(at.axes() == 1, name(), "the positions must have as many axes as the encoder", 1, at.axes());
    if (!options_.fourier_norm && factor() == 1) return detail::fope_table(name(), mixture(sin_coef_.data(), cosines().data()), at, run);
    const std::vector<S> s = columns(sin_coef_).scaled(), c = options_.separate_basis ? columns(cos_coef_).scaled() : s;
    return detail::fope_table(name(), mixture(s.data(), c.data()), at, run);
  }
  template <class At>
  rotary_tables<S> tables(const At& at, const executor& run) const {
    const auto &queries = at.turned(operand::query), &keys = at.turned(operand::key);
    const rotary_table<S> first = table(queries, run);
    return {first, keys == queries ? first : table(keys, run)};
  }

  template <class T>
  void backward(head_view<T> d, const head_view<const T>& x, detail::fope_from side, operand role, const state& made,
                gradient_spans<S> d_parameters, const executor& run) const {
    this->require_fits(d, role, made);
    require(x.by_time().extents() == d.by_time().extents(), name(), "the gradient must have the shape of what it is of",
            x.by_time().extents(), d.by_time().extents());
    require_rows(name(), x.by_time());
    const std::size_t count = options_.separate_basis ? 2 : 1;
    require(d_parameters.size() == count, name(), "there must be a gradient span for each parameter", count, d_parameters.size());
    for (const auto& span : d_parameters)
      require(span.size() == sin_coef_.size(), name(), "there must be a gradient for each coefficient", sin_coef_.size(), span.size());
    const auto channels = detail::paired_channels(name(), this->descriptor(), d.channels());
    const auto turning = detail::turning_heads(name(), this->descriptor(), d.count());
    const detail::fope_columns<S> s = columns(sin_coef_), c = columns(cosines());
    s.require_sums(), c.require_sums();
    const detail::fope_sums sums = std::visit(
        [&](const auto& at) {
          return detail::fope_coefficient_sums(mixture(nullptr, nullptr), this->descriptor(), d, x, side, at.turned(role), made[role],
                                               channels, turning, run);
        },
        made.at);
    s.add_gradients(sums.sines, d_parameters.front());
    c.add_gradients(sums.cosines, d_parameters.back());
    base::rotate_backward(d, role, made, run);
  }
  fope_options options_;
  rotary_spectrum spectrum_;
  index_t mixed_ = 0;
  std::vector<S> sin_coef_, cos_coef_;  // the latter empty where both are one
};

static_assert(rotary_encoder<fope<float>> && trains_rotation<fope<double>> && trainable<fope<float>> && !is_shiftable<fope<float>>);
static_assert(!additive_encoder<fope<float>> && !bias_encoder<fope<float>>);

}  // namespace POSENC_NAMESPACE
