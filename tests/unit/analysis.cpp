// SPDX-License-Identifier: MIT
#include <posenc/analysis.hpp>

#include <posenc/sinusoidal.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/refuses.hpp"

#include <cmath>
#include <limits>
#include <span>
#include <vector>

using namespace posenc;

namespace {

using table = Eigen::Tensor<double, 2, Eigen::RowMajor>;
constexpr double infinity = std::numeric_limits<double>::infinity();

}  // namespace

TEST_CASE("similarities are products and cosines of rows", "[analysis]") {
  table rows(3, 2);
  rows.setValues({{3, 4}, {0, 0}, {-8, 6}});
  const auto dot = similarity(rows, similarity_measure::dot), cosine = similarity(rows, similarity_measure::cosine);
  CHECK(dot == (Eigen::MatrixXd(3, 3) << 25, 0, 0, 0, 0, 0, 0, 0, 100).finished());
  CHECK((((cosine - (Eigen::MatrixXd(3, 3) << 1, 0, 0, 0, 0, 0, 0, 0, 1).finished()).array().abs()) < 1e-15).all());
  Eigen::Tensor<Eigen::half, 2> columns(2, 2);  // [channel, row]
  columns.setValues(
      {{static_cast<Eigen::half>(1.0f), static_cast<Eigen::half>(2.0f)}, {static_cast<Eigen::half>(0.0f), static_cast<Eigen::half>(2.0f)}});
  const auto of_half = similarity(columns, similarity_measure::cosine);
  CHECK(std::abs(of_half(0, 1) - std::sqrt(0.5)) < 1e-15);
  CHECK(std::abs(of_half(1, 0) - std::sqrt(0.5)) < 1e-15);
  rows.setValues({{3e-200, 4e-200}, {1e200, 0}, {0, -1e200}});  // lengths whose squares no double holds
  CHECK(std::abs(similarity(rows, similarity_measure::cosine)(0, 1) - 0.6) < 1e-15);
  CHECK(similarity(table(0, 4), similarity_measure::dot).size() == 0);
}

TEST_CASE("the similarity of sinusoidal codes is the sum of the cosines of w_k (i - j)", "[analysis][sinusoidal]") {
  constexpr index_t time = 40, dim = 16;
  const sinusoidal<double> encoder({.dim = dim, .order = channel_order::sin_cos, .exponent_rule = exponent_rule::vaswani{}});
  table codes(time, dim), shifted(time, dim);
  encoder.encode(positions::range(time), codes);
  encoder.encode(positions::range(time, 1000), shifted);
  const auto all = similarity(codes, similarity_measure::dot);
  CHECK((((all - similarity(shifted, similarity_measure::dot)).array().abs()) < 1e-14).all());
  CHECK((((all / (dim / 2) - similarity(codes, similarity_measure::cosine)).array().abs()) < 1e-14).all());
  for (index_t i = 0; i < time; ++i)
    for (index_t j = 0; j < time; ++j) {
      double sum = 0;
      for (int k = 0; k < dim / 2; ++k) sum += std::cos(static_cast<double>(i - j) * std::pow(10000, -2.0 * k / dim));
      CHECK(std::abs(all(i, j) - sum) < 1e-13);
    }
}

TEST_CASE("a probe reads a number that is a linear function of the row, and none that is not there", "[analysis]") {
  constexpr index_t rows = 400, channels = 6;
  auto x = random_tensor<table>(1, rows, channels);
  std::vector<double> linear, noise;
  random_numbers random(2);
  for (index_t r = 0; r < rows; ++r) {
    linear.push_back(100 + 3 * x(r, 0) - 2 * x(r, 5));
    noise.push_back(random.real<double>());
  }
  CHECK(probe_number(x, linear, {.ridge = 1e-12}) > 1 - 1e-12);
  CHECK(probe_number(x, linear, {.ridge = 10}) < 0.5);  // too strong a ridge
  CHECK(std::abs(probe_number(x, noise)) < 0.1);
  for (index_t n = 0; n < x.size(); ++n) x.data()[n] *= 1e6;
  CHECK(probe_number(x, linear, {.ridge = 1e-12}) > 1 - 1e-12);  // the ridge goes with the scale of the rows
  CHECK(std::abs(probe_number(table(rows, 0), linear)) < 0.1);  // nothing to read from: about the mean
  x.setConstant(3);
  CHECK(std::abs(probe_number(x, linear)) < 0.1);
}

TEST_CASE("with one channel, R^2 is that of the regression by hand", "[analysis]") {
  // A fit to rows (0, 0) and (1, 1) says x; of two held out, (2, 3) and (4, 3.5), it errs by 1 and -0.5. Which are held out, the seed says.
  const std::vector<double> x{0, 1, 2, 4}, y{0, 1, 3, 3.5};
  const tensor_view<const double, 2> rows(x.data(), {4, 1});
  bool found = false;
  for (std::uint64_t seed = 0; seed < 100 && !found; ++seed)
    found = std::abs(probe_number(rows, y, {.ridge = 1e-14, .held_out = 0.5, .seed = seed}) - (1 - (1 + 0.25) / (2 * 0.25 * 0.25))) < 1e-9;
  CHECK(found);
}

TEST_CASE("a probe names labels that a linear map can tell apart, and random ones no better than chance", "[analysis]") {
  constexpr index_t labels = 5, each = 40, rows = labels * each;
  auto x = random_tensor<table>(3, rows, 8);
  std::vector<index_t> known, random_labels;
  random_numbers random(4);
  for (index_t r = 0; r < rows; ++r) {
    known.push_back(1000 - 7 * (r % labels));
    random_labels.push_back(random.integer(0, labels - 1));
    for (index_t c = 0; c < 8; ++c) x(r, c) = 0.1 * x(r, c) + (c == r % labels ? 1 : 0);
  }
  CHECK(probe_label(x, known) == 1);
  CHECK(std::abs(probe_label(x, random_labels, {.held_out = 0.5}) - 0.2) < 0.12);
  CHECK(probe_label(x, std::vector<index_t>(rows, 3)) == 1);  // one label
  const auto noise = random_tensor<table>(5, rows, 8);
  CHECK(probe_label(noise, known, {.held_out = 0.5}) < 0.4);
}

TEST_CASE("held-out rows are not seen by the fit, and the seed says which they are", "[analysis]") {
  // With more channels than rows every label can be fitted: only rows that were not held out could be named.
  constexpr index_t rows = 60;
  const auto x = random_tensor<table>(6, rows, 200);
  std::vector<index_t> labels;
  for (index_t r = 0; r < rows; ++r) labels.push_back(r);
  CHECK(probe_label(x, labels, {.held_out = 0.5}) == 0);
  std::vector<double> numbers;
  for (index_t r = 0; r < rows; ++r) numbers.push_back(static_cast<double>(r * r % 17));
  CHECK(probe_number(x, numbers) == probe_number(x, numbers, {.seed = 0}));
  CHECK(probe_number(x, numbers) != probe_number(x, numbers, {.seed = 1}));
}

TEST_CASE("analysis refuses what it cannot answer", "[analysis]") {
  using reference::refuses;
  const auto x = random_tensor<table>(7, 8, 2);
  const std::vector<double> numbers{1, 2, 3, 4, 5, 6, 7, 8};
  const std::vector<index_t> labels{1, 2, 3, 4, 5, 6, 7, 8};
  auto bad = x;
  bad(3, 1) = infinity;
  refuses("[similarity] the values must be finite but got inf", [&] { similarity(bad, similarity_measure::dot); });
  refuses("[probe_number] the values must be finite but got inf", [&] { probe_number(bad, numbers); });
  refuses("[probe_label] the values must be finite but got inf", [&] { probe_label(bad, labels); });
  auto bad_numbers = numbers;
  bad_numbers[7] = -infinity;
  refuses("[probe_number] the values must be finite but got -inf", [&] { probe_number(x, bad_numbers); });
  refuses("[probe_number] there must be one target per row but got 8 and 7", [&] { probe_number(x, std::span(numbers).first(7)); });
  refuses("[probe_label] there must be one label per row but got 8 and 7", [&] { probe_label(x, std::span(labels).first(7)); });
  refuses("[probe_number] held_out must lie between 0 and 1 but got 1", [&] { probe_number(x, numbers, {.held_out = 1}); });
  refuses("[probe_label] held_out must lie between 0 and 1 but got 0", [&] { probe_label(x, labels, {.held_out = 0}); });
  refuses("[probe_label] ridge must be positive and finite but got 0", [&] { probe_label(x, labels, {.ridge = 0}); });
  refuses("[probe_number] ridge must be positive and finite but got inf", [&] { probe_number(x, numbers, {.ridge = infinity}); });
  refuses("[probe_number] there must be rows to fit to and rows to hold out but got 8 and 0",
          [&] { probe_number(x, numbers, {.held_out = 0.1}); });
  refuses("[probe_label] there must be rows to fit to and rows to hold out but got 0 and 0",
          [&] { probe_label(table(0, 2), std::vector<index_t>{}); });
  refuses("[probe_number] the held-out targets must not all be equal but got 4", [&] { probe_number(x, std::vector<double>(8, 4)); });
}
