// SPDX-License-Identifier: MIT
/// \file  Position tables resized as six systems resize them.
#include <posenc/learned/resize.hpp>

#include "catch.hpp"
#include "golden/compare.hpp"

#include <string>
#include <vector>

namespace {

using namespace posenc;
using golden::absolute, golden::load, golden::npy;

/// The last two axes of a table; those in front are of extent 1.
template <class T>
auto rows_of(T& array) {
  const std::size_t rank = array.shape.size();
  return tensor_view<std::remove_pointer_t<decltype(array.values.data())>, 2>(array.values.data(),
                                                                              {array.shape[rank - 2], array.shape[rank - 1]});
}

struct golden_case {
  std::string name;
  resize_taps taps;
  double reference_deviation;
  double gradient_deviation = -1;  ///< where there is a gradient
};

std::vector<golden_case> cases() {
  using enum grid_filter;
  const auto plain = [](std::array<index_t, 2> from, std::array<index_t, 2> to, grid_filter filter, bool antialias, index_t prefix) {
    return resize_grid_options{.from = from, .to = to, .filter = filter, .align_corners = false, .antialias = antialias, .prefix = prefix};
  };
  return {
      {"bicubic_vit_down", plain({8, 8}, {5, 5}, bicubic, false, 1), 1.75e-6},
      {"bicubic_vit_up", plain({4, 4}, {6, 8}, bicubic, false, 1), 5.6e-7},
      {"mae_interpolate", plain({4, 4}, {7, 7}, bicubic, false, 1), 1.44e-6},
      {"timm_bicubic_antialias_down", plain({8, 8}, {5, 3}, bicubic, true, 1), 5e-7},
      {"timm_bicubic_antialias_up", plain({4, 4}, {6, 8}, bicubic, true, 1), 6.2e-7},
      {"timm_bilinear_antialias_down", plain({9, 9}, {4, 4}, bilinear, true, 0), 1.1e-7},
      {"timm_bilinear_up", plain({4, 4}, {7, 7}, bilinear, false, 0), 6e-7},
      {"vit_jax_zoom_bilinear",
       resize_grid_options{.from = {4, 4}, .to = {7, 7}, .filter = bilinear, .align_corners = true, .antialias = false, .prefix = 1}, 6e-8},
      {"linear_extend", resize_length_options{.from = 16, .to = 40, .rule = length_rule::linear}, 8.3e-7, 1.14e-6},
      {"linear_extend_align_corners", resize_length_options{.from = 16, .to = 33, .rule = length_rule::linear_align_corners}, 1.2e-7,
       2.1e-7},
  };
}

/// Some twenty roundings in double of numbers around 3; and the truth's coordinates, up to 16, are off by as much in their last place.
constexpr double double_bound = 1e-14;

TEST_CASE("tables are resized as the systems do it", "[golden][learned][resize]") {
  for (const auto& [name, taps, reference_deviation, gradient_deviation] : cases()) {
    const std::string folder = "learned/" + name + "/";
    INFO(name);
    const auto table = load<float>(folder + "table");
    const auto truth = load<double>(folder + "out_f64");
    auto in_double = npy<double>::filled(truth.shape, -1);
    resize(rows_of(table), taps, rows_of(in_double));
    CHECK(absolute(in_double, truth) <= double_bound);

    auto in_float = npy<float>::filled(truth.shape, -1);
    resize(rows_of(table), taps, rows_of(in_float));
    const double own = golden::largest_magnitude(truth) * golden::rounding<float> + double_bound;
    CHECK(absolute(in_float, truth) <= own);
    CHECK(absolute(in_float, load<float>(folder + "out")) <= own + reference_deviation);
  }
}

TEST_CASE("gradients of tables are those of the systems", "[golden][learned][resize]") {
  int compared = 0;
  for (const auto& [name, taps, reference_deviation, gradient_deviation] : cases()) {
    if (gradient_deviation < 0) continue;
    ++compared;
    const std::string folder = "learned/" + name + "/";
    INFO(name);
    const auto d_resized = load<float>(folder + "grad_out");
    const auto truth = load<double>(folder + "grad_table_f64");
    auto in_double = npy<double>::filled(truth.shape, 0);
    resize_backward(rows_of(d_resized), taps, rows_of(in_double));
    CHECK(absolute(in_double, truth) <= double_bound);

    auto in_float = npy<float>::filled(truth.shape, 0);
    resize_backward(rows_of(d_resized), taps, rows_of(in_float));
    const double own = golden::largest_magnitude(truth) * golden::rounding<float> + double_bound;
    CHECK(absolute(in_float, truth) <= own);
    CHECK(absolute(in_float, load<float>(folder + "grad_table")) <= own + gradient_deviation);
  }
  CHECK(compared == 2);
}

}  // namespace
