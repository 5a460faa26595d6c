// SPDX-License-Identifier: MIT
/// \file  A test double: a trainable encoder whose code depends on positions alone.
#pragma once

#include <posenc/concepts.hpp>
#include <posenc/gradients.hpp>

#include "doubles.hpp"

#include <cstddef>
#include <string_view>
#include <vector>

namespace doubles {

/// Row p of a table for the token at position p; zeros without a position.
struct table_codes {
  using scalar = double;
  table<double> codes;

  static constexpr std::string_view name() { return "table_codes"; }
  index_t dim() const { return codes.channels; }
  void add(token_view<double> x, const positions& at) const {
    for_each(x.extents(), [&](index_t b, index_t t, index_t c) { x(b, t, c) += at(b, t) == no_position ? 0 : codes(at(b, t), c); });
  }
  void encode(const positions& at, token_view<double> out) const {
    for_each(out.extents(), [&](index_t b, index_t t, index_t c) { out(b, t, c) = at(b, t) == no_position ? 0 : codes(at(b, t), c); });
  }
  void encode_backward(const positions& at, token_view<const double> d, gradient_spans<double> d_parameters, double scale = 1,
                       const executor& = {}) const {
    require(d_parameters.size() == 1, name(), "there must be one gradient span", d_parameters.size());
    for_each(d.extents(), [&](index_t b, index_t t, index_t c) {
      if (at(b, t) != no_position) d_parameters[0][static_cast<std::size_t>(at(b, t) * codes.channels + c)] += scale * d(b, t, c);
    });
  }
  std::vector<parameter<double>> parameters() { return codes.parameters("codes"); }
  friend bool operator==(const table_codes&, const table_codes&) = default;
};

static_assert(code_encoder<table_codes> && trainable<table_codes> && position_encoder<table_codes>);

}  // namespace doubles
