// SPDX-License-Identifier: MIT
/// \file  Encoders with parameters to test with.
#pragma once

#include <posenc/gradients.hpp>

#include "random.hpp"

#include <algorithm>
#include <cstdint>

/// Parameter n gets the numbers of seed + n.
template <class E>
E with_random_parameters(E encoder, std::uint64_t seed = 1) {
  for (const auto& p : posenc::parameters(encoder))
    std::ranges::copy(random_vector<typename E::scalar>(seed++, static_cast<std::ptrdiff_t>(p.values.size())), p.values.begin());
  return encoder;
}
