// SPDX-License-Identifier: MIT
/// \file  Options without a default: `{.dim = 64}` does not compile where `pairing` is required too.
#pragma once

#include <posenc/config.hpp>

namespace POSENC_NAMESPACE {

/// A member of an options aggregate that has no default: leaving it out does not compile.
template <class T>
class required {
 public:
  required() = delete;  // no default on purpose: name this option
  constexpr required(T value) : value_(value) {}
  constexpr operator T() const { return value_; }

 private:
  T value_;
};

}  // namespace POSENC_NAMESPACE
