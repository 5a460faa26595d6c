// SPDX-License-Identifier: MIT
/// \file  Where two tensors differ, as a text that a failing check shows. One check per tensor: a check per element is slow and says less.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <sstream>
#include <string>

namespace reference {

template <class S>
bool same_bits(S a, S b) {
  return std::memcmp(&a, &b, sizeof(S)) == 0;
}

namespace detail {
std::string difference(const auto& got, const auto& expected, auto&& same) {
  const auto count = static_cast<std::ptrdiff_t>(got.size());
  std::ostringstream text;
  text.precision(17);
  if (count != static_cast<std::ptrdiff_t>(expected.size())) text << count << " elements instead of " << expected.size();
  else
    for (std::ptrdiff_t i = 0, others = 0; i < count; ++i)
      if (!same(got.data()[i], expected.data()[i]) && others++ < 3)
        text << "at " << i << ": " << got.data()[i] << " instead of " << expected.data()[i] << "; ";
  return text.str();
}
}  // namespace detail

/// Empty where all bits are the same; one NaN is as good as another.
std::string bit_difference(const auto& got, const auto& expected) {
  return detail::difference(got, expected, [](auto a, auto b) { return same_bits(a, b) || (std::isnan(a) && std::isnan(b)); });
}

/// Empty where no element differs by more than `tolerance`; with 0, by value: equal, or both NaN.
std::string difference(const auto& got, const auto& expected, double tolerance) {
  return detail::difference(got, expected, [&](auto one, auto other) {
    const auto a = static_cast<double>(one), b = static_cast<double>(other);
    return a == b || (std::isnan(a) && std::isnan(b)) || std::abs(a - b) <= tolerance;
  });
}

}  // namespace reference
