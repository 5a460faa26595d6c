// SPDX-License-Identifier: MIT
/// \file  T5's and DeBERTa's buckets by their papers' formulas in exact arithmetic, and T5's bias pair by pair.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace reference {

/// A whole number that is not negative: digits to the base 10^6, the highest first.
class natural {
 public:
  natural(std::int64_t value) {
    for (; value > 0; value /= base) digits_.insert(digits_.begin(), value % base);
  }
  friend natural operator*(const natural& a, const natural& b) {
    natural product(0);
    product.digits_.assign(a.digits_.size() + b.digits_.size(), 0);
    for (std::size_t i = a.digits_.size(); i-- > 0;) {
      std::int64_t carry = 0;
      for (std::size_t j = b.digits_.size(); j-- > 0;) {
        std::int64_t& digit = product.digits_[i + j + 1];
        carry += digit + a.digits_[i] * b.digits_[j];
        digit = carry % base;
        carry /= base;
      }
      product.digits_[i] += carry;
    }
    product.digits_.erase(product.digits_.begin(), std::ranges::find_if(product.digits_, [](std::int64_t digit) { return digit != 0; }));
    return product;
  }
  friend bool operator<(const natural& a, const natural& b) {
    return a.digits_.size() != b.digits_.size() ? a.digits_.size() < b.digits_.size() : a.digits_ < b.digits_;
  }

  natural power(std::int64_t exponent) const {
    natural result(1), square = *this;
    for (; exponent > 0; exponent /= 2) {
      if (exponent % 2 == 1) result = result * square;
      if (exponent > 1) square = square * square;
    }
    return result;
  }

 private:
  static constexpr std::int64_t base = 1'000'000;
  std::vector<std::int64_t> digits_;
};

/// The least whole n in [low, high] of which `holds`, which stays true from there on; high + 1 if there is none.
std::int64_t least(std::int64_t low, std::int64_t high, auto&& holds) {
  for (++high; low < high;) {
    const std::int64_t middle = low + (high - low) / 2;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/// T5's buckets in one direction: element b is the least distance whose bucket is b or more. ln(n / E) / ln(max / E) * M >= m says that
/// n^M E^m >= max^m E^M.
inline std::vector<std::int64_t> t5_edges(std::int64_t buckets, std::int64_t max_distance) {
  const std::int64_t exact = buckets / 2, others = buckets - exact;
  std::vector<std::int64_t> edges;
  for (std::int64_t b = 0; b < buckets; ++b) {
    if (b < exact) {
      edges.push_back(b);
      continue;
    }
    const natural right = natural(max_distance).power(b - exact) * natural(exact).power(others), factor = natural(exact).power(b - exact);
    edges.push_back(least(exact, max_distance, [&](std::int64_t n) { return !(natural(n).power(others) * factor < right); }));
  }
  return edges;
}

/// Element b: the least |delta| of which ceil(ln(|delta| / mid) / ln((max_position - 1) / mid) * (mid - 1)) + mid is b or more, up to
/// `last`, and |delta| itself up to mid.
inline std::vector<std::int64_t> deberta_edges(std::int64_t bucket_size, std::int64_t max_position, std::int64_t last) {
  const std::int64_t middle = bucket_size / 2;
  std::vector<std::int64_t> edges;
  for (std::int64_t b = 0; b <= last; ++b) {
    if (b <= middle) {
      edges.push_back(b);
      continue;
    }
    const std::int64_t m = b - middle - 1;  // ceil(x) > m says that x > m
    const natural right = natural(max_position - 1).power(m) * natural(middle).power(middle - 1), factor = natural(middle).power(m);
    edges.push_back(least(middle, max_position, [&](std::int64_t n) { return right < natural(n).power(middle - 1) * factor; }));
  }
  return edges;
}

struct t5_rule {
  bool bidirectional;
  std::int64_t num_buckets, max_distance;
};

/// As the paper's code says it, in double, for settings where no distance lies within 1e-12 of an edge but on it.
inline std::int64_t t5_bucket(const t5_rule& rule, std::int64_t query, std::int64_t key) {
  // A distance between two ids may be 2^63; all beyond max_distance have one bucket.
  const double distance = std::clamp(static_cast<double>(key) - static_cast<double>(query), -1e12, 1e12);
  const auto relative = static_cast<std::int64_t>(distance);
  const std::int64_t size = rule.bidirectional ? rule.num_buckets / 2 : rule.num_buckets, exact = size / 2;
  const std::int64_t offset = rule.bidirectional && relative > 0 ? size : 0;
  const std::int64_t n = rule.bidirectional ? std::abs(relative) : std::max<std::int64_t>(-relative, 0);
  if (n < exact) return offset + n;
  const double ratio = std::log(static_cast<double>(n) / static_cast<double>(exact)) /
                       std::log(static_cast<double>(rule.max_distance) / static_cast<double>(exact));
  const double steps = ratio * static_cast<double>(size - exact) + 1e-12;
  return offset + (steps >= static_cast<double>(size) ? size - 1 : std::min(exact + static_cast<std::int64_t>(steps), size - 1));
}

/// What is added to a score; nothing where a token has no position. table: `[num_buckets, heads]`.
inline double t5_bias(const t5_rule& rule, const std::vector<double>& table, std::int64_t heads, std::int64_t head,
                      std::optional<std::int64_t> query, std::optional<std::int64_t> key) {
  if (!query || !key) return 0;
  return table[static_cast<std::size_t>(t5_bucket(rule, *query, *key) * heads + head)];
}

}  // namespace reference
