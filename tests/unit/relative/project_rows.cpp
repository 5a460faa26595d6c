// SPDX-License-Identifier: MIT
/// \file  Rows of a table, projected to heads.
#include <posenc/relative/project_rows.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/finite_difference.hpp"
#include "reference/refuses.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace {

using namespace posenc;
using reference::bit_difference, reference::difference;

constexpr index_t row_count = 150, dim = 3, head_count = 2, channels = 4, outputs = head_count * channels;

struct arrays {
  std::vector<double> rows = random_vector<double>(1, row_count* dim), weight = random_vector<double>(2, outputs* dim),
                      bias = random_vector<double>(3, outputs);

  tensor_view<const double, 2> table() const { return {rows.data(), {row_count, dim}}; }
  row_projection<double> by() const { return {{weight.data(), {outputs, dim}}, bias}; }
  std::vector<double> expected() const {
    std::vector<double> all;
    for (index_t h = 0; h < head_count; ++h)
      for (index_t n = 0; n < row_count; ++n)
        for (index_t out = h * channels; out < (h + 1) * channels; ++out) {
          double sum = bias[static_cast<std::size_t>(out)];
          for (index_t d = 0; d < dim; ++d)
            sum += rows[static_cast<std::size_t>(n * dim + d)] * weight[static_cast<std::size_t>(out * dim + d)];
          all.push_back(sum);
        }
    return all;
  }
};

TEST_CASE("rows are projected to heads", "[project_rows]") {
  arrays of;
  std::vector<double> projected(head_count * row_count * channels), threaded = projected;
  project_rows(of.table(), of.by(), tensor_view<double, 3>(projected.data(), {head_count, row_count, channels}));
  CHECK(difference(projected, of.expected(), 1e-14) == "");

  std::vector<double> by_row(projected.size()), expected(projected.size());
  Eigen::ThreadPool pool(3);
  Eigen::ThreadPoolDevice device(&pool, 3);
  project_rows(of.table(), of.by(),
               tensor_view<double, 3>(by_row.data(), {head_count, row_count, channels}, {channels, head_count * channels, 1}),
               executor(device));
  for (index_t h = 0; h < head_count; ++h)
    for (index_t n = 0; n < row_count; ++n)
      for (index_t c = 0; c < channels; ++c)
        expected[static_cast<std::size_t>((n * head_count + h) * channels + c)] =
            projected[static_cast<std::size_t>((h * row_count + n) * channels + c)];
  CHECK(bit_difference(by_row, expected) == "");

  std::vector<double> without(projected.size());
  project_rows(of.table(), {of.by().weight}, tensor_view<double, 3>(without.data(), {head_count, row_count, channels}));
  std::ranges::fill(of.bias, 0);
  CHECK(difference(without, of.expected(), 1e-14) == "");
}

TEST_CASE("gradients of projected rows are the derivatives", "[project_rows]") {
  arrays of;
  const auto d_projected = random_vector<double>(4, head_count * row_count * channels);
  const auto loss = [&] { return reference::dot(d_projected, of.expected()); };
  std::vector<double> d_rows(of.rows.size(), 1), d_weight(of.weight.size(), 2), d_bias(of.bias.size(), 3);
  const tensor_view<const double, 3> d(d_projected.data(), {head_count, row_count, channels});
  Eigen::ThreadPool pool(3);
  Eigen::ThreadPoolDevice device(&pool, 3);
  project_rows_backward(of.table(), of.by(), d, {{d_rows.data(), {row_count, dim}}, {d_weight.data(), {outputs, dim}}, d_bias},
                        executor(device));
  const auto plus = [&](std::vector<double>& x, double start) {
    auto all = reference::derivatives(x, loss, 0.25);
    for (double& one : all) one += start;
    return all;
  };
  CHECK(difference(d_rows, plus(of.rows, 1), 1e-10) == "");
  CHECK(difference(d_weight, plus(of.weight, 2), 1e-10) == "");
  CHECK(difference(d_bias, plus(of.bias, 3), 1e-10) == "");

  std::vector<double> rows_alone(of.rows.size(), 1), weight_alone(of.weight.size(), 2);
  project_rows_backward(of.table(), of.by(), d, {.rows = {rows_alone.data(), {row_count, dim}}});
  project_rows_backward(of.table(), of.by(), d, {.weight = {weight_alone.data(), {outputs, dim}}});
  CHECK(bit_difference(rows_alone, d_rows) == "");
  CHECK(bit_difference(weight_alone, d_weight) == "");
}

TEST_CASE("projections that do not fit are refused", "[project_rows]") {
  using reference::refuses;
  const arrays of;
  std::vector<double> out(head_count * row_count * channels);
  const tensor_view<double, 3> to(out.data(), {head_count, row_count, channels});
  const auto refused = [&](const char* text, const tensor_view<const double, 2>& rows, const row_projection<double>& by,
                           const tensor_view<double, 3>& projected) {
    refuses(out, std::string("[project_rows] ") + text, [&] { project_rows(rows, by, projected); });
  };
  refused("the weight must have heads times channels rows but got 8 and 7", of.table(), {{of.weight.data(), {7, dim}}}, to);
  refused("the weight's columns must be the rows' channels but got 3 and 2", of.table(), {{of.weight.data(), {outputs, 2}}}, to);
  refused("there must be one projected row per row but got 9 and 150", {of.rows.data(), {9, dim}}, of.by(), to);
  refused("the bias must have heads times channels values but got 8 and 7", of.table(),
          {of.by().weight, std::span<const double>(of.bias).first(7)}, to);
  refused("the last axis must be contiguous but got 2", {of.rows.data(), {row_count, dim}, {6, 2}}, of.by(), to);
  refused("the last axis must be contiguous but got 8", of.table(), {{of.weight.data(), {outputs, dim}, {1, outputs}}}, to);
  refused("the elements of an output must be distinct, with strides that nest but got [0, 4, 1]", of.table(), of.by(),
          {out.data(), {head_count, row_count, channels}, {0, channels, 1}});

  std::vector<double> d_rows(row_count * dim), d_weight(outputs * dim), d_bias(outputs);
  const auto backward = [&](const char* text, const row_projection_gradient<double>& d) {
    refuses(std::string("[project_rows_backward] ") + text,
            [&] { project_rows_backward(of.table(), of.by(), tensor_view<const double, 3>(to), d); });
  };
  backward("gradients must have the shapes of what they are of but got [150, 3] and [149, 3]", {.rows = {d_rows.data(), {149, dim}}});
  backward("gradients must have the shapes of what they are of but got [8, 3] and [3, 8]", {.weight = {d_weight.data(), {dim, outputs}}});
  backward("the gradient of the bias must be asked for with the weight's, and have its size but got 8 and 8", {.bias = d_bias});
  backward("the gradient of the bias must be asked for with the weight's, and have its size but got 8 and 7",
           {.weight = {d_weight.data(), {outputs, dim}}, .bias = std::span(d_bias).first(7)});
}

}  // namespace
