// SPDX-License-Identifier: MIT
/// \file  What codes and embeddings tell: how similar they are, and what a linear map can read off them. Not for hot paths.
#pragma once

#include <posenc/config.hpp>
#include <posenc/error.hpp>   // require
#include <posenc/random.hpp>
#include <posenc/tensor.hpp>

#include <Eigen/Cholesky>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace POSENC_NAMESPACE {

enum class similarity_measure {
  dot,    ///< the product of two rows
  cosine  ///< the same over the product of their lengths; 0 where a row is zero, also with itself
};

/// How a linear probe is fitted and judged.
struct probe_options {
  double ridge = 1e-6;      ///< what is added to each channel's variance, as a share of the channels' mean variance
  double held_out = 0.25;   ///< the share of rows, rounded down, that the fit does not see and the result is measured on
  std::uint64_t seed = 0;   ///< which rows those are

  friend bool operator==(const probe_options&, const probe_options&) = default;
};

namespace detail {
/// \throws argument_error  unless all values are finite.
template <class T>
Eigen::MatrixXd matrix_of(std::string_view who, const tensor_view<T, 2>& table) {
  Eigen::MatrixXd all(table.extent(0), table.extent(1));
  for (index_t r = 0; r < all.rows(); ++r)
    for (index_t c = 0; c < all.cols(); ++c) {
      all(r, c) = static_cast<double>(table(r, c));
      require(std::isfinite(all(r, c)), who, "the values must be finite", all(r, c));
    }
  return all;
}

/// Which rows a probe is fitted to, and which it is judged on.
struct probe_rows {
  std::vector<index_t> fitted, held_out;
};
inline probe_rows split_rows(std::string_view who, index_t rows, const probe_options& options) {
  require(options.held_out > 0 && options.held_out < 1, who, "held_out must lie between 0 and 1", options.held_out);
  require(options.ridge > 0 && std::isfinite(options.ridge), who, "ridge must be positive and finite", options.ridge);
  const auto kept = static_cast<index_t>(options.held_out * static_cast<double>(rows));
  require(kept >= 1 && rows - kept >= 1, who, "there must be rows to fit to and rows to hold out", rows - kept, kept);
  std::vector<index_t> order(static_cast<std::size_t>(rows));
  std::iota(order.begin(), order.end(), index_t{0});
  random_source random(options.seed);
  for (std::size_t left = order.size(); left > 1; --left) std::swap(order[left - 1], order[random.below(left)]);  // Fisher, Yates
  return {{order.begin() + kept, order.end()}, {order.begin(), order.begin() + kept}};
}

/// What a ridge regression of targets `[row, target]` on the fitted rows says of those held out.
inline Eigen::MatrixXd predictions(const Eigen::MatrixXd& table, const Eigen::MatrixXd& targets, const probe_rows& rows, double ridge) {
  Eigen::MatrixXd x = table(rows.fitted, Eigen::all);
  Eigen::MatrixXd y = targets(rows.fitted, Eigen::all);
  const Eigen::RowVectorXd x_mean = x.colwise().mean(), y_mean = y.colwise().mean();
  x.rowwise() -= x_mean, y.rowwise() -= y_mean;
  Eigen::MatrixXd moments = x.transpose() * x;
  const double variance = moments.trace() / static_cast<double>(std::max<index_t>(moments.rows(), 1));
  moments.diagonal().array() += variance > 0 ? ridge * variance : 1;  // nothing to tell rows apart by: the mean is the answer
  const Eigen::MatrixXd weight = moments.llt().solve(x.transpose() * y);
  Eigen::MatrixXd said = table(rows.held_out, Eigen::all);
  said.rowwise() -= x_mean;
  said = (said * weight).eval();
  said.rowwise() += y_mean;
  return said;
}
}  // namespace detail

/// The similarity of each row of a table `[row, channel]` with each, `[row, row]`, in double.
/// \throws argument_error  unless all values are finite.
template <readable_tensor T>
  requires(rank_of<T> == 2)
Eigen::MatrixXd similarity(const T& table, similarity_measure measure) {
  Eigen::MatrixXd x = detail::matrix_of("similarity", view_of(table));
  if (measure == similarity_measure::cosine)
    for (index_t r = 0; r < x.rows(); ++r)
      if (const double length = x.row(r).stableNorm(); length > 0) x.row(r) /= length;
  return x * x.transpose();
}

/// How well a linear probe (ridge regression with an intercept) reads a number, such as its position, off each row of a table
/// `[row, channel]`: the share of the variance R^2 = 1 - residual / total of the held-out rows. 1: exactly; 0: no better than their
/// mean; below 0: worse. Linear probes: Alain, Bengio 2016.
/// \throws argument_error  unless there is one finite target per row, not all of those held out are equal, and the options make sense.
template <readable_tensor T>
  requires(rank_of<T> == 2)
double probe_number(const T& table, std::span<const double> targets, const probe_options& options = {}) {
  constexpr std::string_view who = "probe_number";
  const Eigen::MatrixXd x = detail::matrix_of(who, view_of(table));
  require(static_cast<index_t>(targets.size()) == x.rows(), who, "there must be one target per row", x.rows(), targets.size());
  const Eigen::MatrixXd y = detail::matrix_of(who, tensor_view<const double, 2>(targets.data(), {x.rows(), 1}));
  const auto rows = detail::split_rows(who, x.rows(), options);
  const Eigen::VectorXd truth = y(rows.held_out, 0), said = detail::predictions(x, y, rows, options.ridge);
  const double total = (truth.array() - truth.mean()).square().sum();
  require(total > 0, who, "the held-out targets must not all be equal", truth(0));
  return 1 - (truth - said).squaredNorm() / total;
}

/// How often a linear probe (the same regression, on one-hot vectors) names the right label of a held-out row: its position, where
/// several rows stand at each, or its token. Chance is the share of the commonest label.
/// \throws argument_error  unless there is one label per row, and the options make sense.
template <readable_tensor T>
  requires(rank_of<T> == 2)
double probe_label(const T& table, std::span<const index_t> labels, const probe_options& options = {}) {
  constexpr std::string_view who = "probe_label";
  const Eigen::MatrixXd x = detail::matrix_of(who, view_of(table));
  require(static_cast<index_t>(labels.size()) == x.rows(), who, "there must be one label per row", x.rows(), labels.size());
  const auto rows = detail::split_rows(who, x.rows(), options);
  std::vector<index_t> known(labels.begin(), labels.end());
  std::ranges::sort(known);
  known.erase(std::unique(known.begin(), known.end()), known.end());
  Eigen::MatrixXd y = Eigen::MatrixXd::Zero(x.rows(), static_cast<index_t>(known.size()));
  for (index_t r = 0; r < x.rows(); ++r) y(r, std::ranges::lower_bound(known, labels[static_cast<std::size_t>(r)]) - known.begin()) = 1;
  const Eigen::MatrixXd said = detail::predictions(x, y, rows, options.ridge);
  index_t right = 0;
  for (index_t r = 0; r < said.rows(); ++r) {
    index_t best = 0;
    said.row(r).maxCoeff(&best);
    right += known[static_cast<std::size_t>(best)] == labels[static_cast<std::size_t>(rows.held_out[static_cast<std::size_t>(r)])];
  }
  return static_cast<double>(right) / static_cast<double>(said.rows());
}

}  // namespace POSENC_NAMESPACE
