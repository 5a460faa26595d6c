// SPDX-License-Identifier: MIT
/// \file  Tests at every instruction set of the machine.
#pragma once

#include <posenc/kernels/instruction_set.hpp>

#include "catch.hpp"

#include <string>
#include <vector>

/// Pins an instruction set for a scope.
class pinned {
 public:
  explicit pinned(posenc::instruction_set set) : before_(posenc::current_instruction_set()) { posenc::pin_instruction_set(set); }
  ~pinned() { posenc::pin_instruction_set(before_); }
  pinned(const pinned&) = delete;
  pinned& operator=(const pinned&) = delete;

 private:
  posenc::instruction_set before_;
};

/// Those that this machine has, baseline first.
inline std::vector<posenc::instruction_set> instruction_sets() {
  std::vector<posenc::instruction_set> all;
  for (const auto set : {posenc::instruction_set::baseline, posenc::instruction_set::avx2, posenc::instruction_set::avx512})
    if (set <= posenc::best_instruction_set()) all.push_back(set);
  return all;
}

void at_every_instruction_set(auto&& test) {
  for (const auto set : instruction_sets()) {
    INFO("instruction set: " << std::string(posenc::name(set)));
    const pinned scope(set);
    test();
  }
}
