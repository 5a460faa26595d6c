// SPDX-License-Identifier: MIT
// Rows of cosines and sines, 64 pairs each: what a rotary table and a sinusoidal code are made of. No allocation is timed.
#include "bench.hpp"
#include "limits.hpp"

#include <posenc/sinusoidal.hpp>

#include <cmath>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace bench {
namespace {

constexpr index_t dim = 128, pairs = dim / 2;

std::vector<double> speeds() {
  std::vector<double> all(pairs);
  for (index_t k = 0; k < pairs; ++k) all[static_cast<std::size_t>(k)] = std::pow(10000.0, -2.0 * static_cast<double>(k) / dim);
  return all;
}

std::vector<posenc::position> scattered(index_t rows) {
  std::mt19937_64 random(1);
  std::vector<posenc::position> ids(static_cast<std::size_t>(rows));
  for (auto& id : ids) id = static_cast<posenc::position>(random() % (1 << 20));
  return ids;
}

template <class S>
[[gnu::noinline]] void raw_table(S* __restrict out, const posenc::position* __restrict ids, const double* __restrict w, index_t rows) {
  for (index_t r = 0; r < rows; ++r, out += dim)
    for (index_t k = 0; k < pairs; ++k) {
      const double angle = static_cast<double>(ids ? ids[r] : r) * w[k];
      out[k] = static_cast<S>(std::cos(angle));
      out[pairs + k] = static_cast<S>(std::sin(angle));
    }
}

template <class S>
void add_table(suite& all, std::string path, const size_class& size, bool consecutive, std::optional<posenc::instruction_set> set = {}) {
  if (set) {
    if (!all.runs_with(*set)) return;
    path += "_" + std::string(posenc::name(*set));
  }
  const index_t rows = static_cast<index_t>(size.bytes) / (dim * static_cast<index_t>(sizeof(S))), count = rows * dim;
  const auto bytes = static_cast<std::size_t>(count) * sizeof(S);
  std::vector<goal> goals{{11, measure::raw, {}, "avx512"}, {7, measure::raw, {}, "avx2"}, {2.4, measure::raw, {}, "baseline"}};
  if (sizeof(S) > sizeof(float)) goals.clear();  // in double a plain loop does the same work
  const row& one = all.add_row({.path = path, .size = size.name, .shape = shape_text({rows, dim}), .bytes = size.bytes, .moved = size.bytes,
                                .items = static_cast<double>(rows * pairs), .set = set,
                                .goals = std::move(goals)});
  const auto ids = [=] { return consecutive ? std::vector<posenc::position>() : scattered(rows); };

  all.add(one, variant::posenc, [=] {
    const posenc::sinusoidal<S> encoder(
        {.dim = dim, .order = posenc::channel_order::cos_sin, .exponent_rule = posenc::exponent_rule::vaswani{}});
    const auto at = consecutive ? posenc::positions::range(rows) : posenc::positions::ids(ids());
    return [=, out = posenc::tensor_view<S, 2>(buffer<S>(0, count), {rows, dim})] { encoder.encode(at, out); };
  });
  all.add(one, variant::limit, [=] { return [=, out = buffer<S>(0, count)] { limits::fill(out, bytes); }; });
  all.add(one, variant::raw, [=] {
    return [=, out = buffer<S>(0, count), ids = ids(), w = speeds()] {
      raw_table(out, consecutive ? nullptr : ids.data(), w.data(), rows);
    };
  });
  if (size.factor == 1)
    all.add(one, variant::eigen, [=] {
      Eigen::VectorXd p(rows);
      const auto at = ids();
      for (index_t r = 0; r < rows; ++r) p[r] = static_cast<double>(consecutive ? r : at[static_cast<std::size_t>(r)]);
      const auto w = speeds();
      using matrix = Eigen::Array<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
      return [p, w, out = Eigen::Map<matrix>(buffer<S>(0, count), rows, dim)]() mutable {
        const Eigen::ArrayXXd angles = p * Eigen::Map<const Eigen::RowVectorXd>(w.data(), pairs);
        out.leftCols(pairs) = angles.cos().template cast<S>();
        out.rightCols(pairs) = angles.sin().template cast<S>();
      };
    });
}

}  // namespace

void add_tables(suite& all) {
  for (const size_class& size : all.sizes()) add_table<float>(all, "table_f32_d128", size, true);
  for (const auto set : {posenc::instruction_set::avx2, posenc::instruction_set::baseline})
    if (set != posenc::best_instruction_set()) add_table<float>(all, "table_f32_d128", all.sizes().front(), true, set);
  for (const size_class& size : all.sizes()) add_table<float>(all, "table_f32_d128_scattered", size, false);
  for (const size_class& size : all.sizes()) add_table<double>(all, "table_f64_d128", size, true);
}

}  // namespace bench
