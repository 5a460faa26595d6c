// SPDX-License-Identifier: MIT
/// \file  How the library reports bad arguments: `[rope] dim must be even but got 7`.
#pragma once

#include <posenc/config.hpp>

#include <array>
#include <charconv>     // to_chars: the shortest text that reads back as the same number
#include <concepts>
#include <cstddef>
#include <cstdio>       // stderr, where exceptions are off
#include <cstdlib>      // abort
#include <stdexcept>    // invalid_argument
#include <string>
#include <string_view>

namespace POSENC_NAMESPACE {

/// What every function of the library throws when sizes or values do not fit. Nothing has been written when it is thrown.
class argument_error : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

namespace detail {

// Cold: compiled for size and out of the way, for every check of every verb carries one.
[[gnu::cold]] inline std::string text(std::string_view value) { return std::string(value); }

template <class Number>
  requires std::integral<Number> || std::floating_point<Number>
[[gnu::cold]] std::string text(Number value) {
  std::array<char, 64> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  return std::string(digits.data(), end);
}

template <std::size_t Rank>
[[gnu::cold]] std::string text(const std::array<std::ptrdiff_t, Rank>& shape) {
  std::string all = "[";
  for (std::size_t axis = 0; axis < Rank; ++axis) all += (axis ? ", " : "") + text(shape[axis]);
  return all + "]";
}

[[noreturn, gnu::cold]] inline void fail(const std::string& message) {
#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
  throw argument_error(message);
#else
  std::fputs((message + "\n").c_str(), stderr);
  std::abort();
#endif
}

template <class... Got>
[[noreturn, gnu::cold, gnu::noinline]] void refuse(std::string_view who, std::string_view rule, const Got&... got) {
  std::string message = "[";
  (message += who) += "] ";
  message += rule;
  [[maybe_unused]] std::string_view joint = " but got ";
  ((message += joint, message += detail::text(got), joint = " and "), ...);
  fail(message);
}

}  // namespace detail

/// Throws `[who] rule but got a and b` unless `condition` holds. Where exceptions are off, writes the same text to stderr and aborts.
/// \param got  numbers, shapes or strings, formatted only when the check fails.
template <class... Got>
constexpr void require(bool condition, std::string_view who, std::string_view rule, const Got&... got) {
  if (!condition) [[unlikely]]
    detail::refuse(who, rule, got...);
}

}  // namespace POSENC_NAMESPACE
