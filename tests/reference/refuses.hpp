// SPDX-License-Identifier: MIT
/// \file  Checks of errors.
#pragma once

#include <posenc/error.hpp>

#include "catch.hpp"
#include "reference/difference.hpp"

#include <string>

namespace reference {

/// Checks that `act` throws an argument_error that reads `text`.
void refuses(const std::string& text, auto&& act) {
  INFO("expected error: " << text);
  std::string got = "nothing thrown";
  try {
    act();
  } catch (const posenc::argument_error& error) {
    got = error.what();
  }
  CHECK(got == text);
}

/// The same, and that nothing has been written to `memory` before.
void refuses(auto& memory, const std::string& text, auto&& act) {
  const auto before = memory;
  refuses(text, act);
  INFO("expected error: " << text);
  CHECK(bit_difference(memory, before) == "");
}

}  // namespace reference
