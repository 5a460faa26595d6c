// SPDX-License-Identifier: MIT
/// \file  Options without a default: `{.dim = 64}` does not compile where `pairing` is required too.
#pragma once

#include <posenc/config.hpp>

#include <concepts>
#include <type_traits>
#include <utility>

namespace POSENC_NAMESPACE {

/// A member of an options aggregate that has no default: leaving it out does not compile.
template <class T>
class required {
 public:
  required() = delete;  // no default on purpose: name this option
  constexpr required(T value) : value_(std::move(value)) {}
  /// For choices with members of their own: `.exponent_rule = exponent_rule::vaswani{}` is one of a variant's.
  template <class Choice>
    requires(std::is_class_v<Choice> && !std::same_as<Choice, T> && std::convertible_to<Choice, T>)
  constexpr required(Choice value) : value_(std::move(value)) {}
  constexpr operator T() const { return value_; }

  /// Where T is a class: numbers and enumerations compare as what they convert to.
  friend bool operator==(const required& a, const required& b)
    requires(std::is_class_v<T>)
  {
    return a.value_ == b.value_;
  }

 private:
  T value_;
};

}  // namespace POSENC_NAMESPACE
