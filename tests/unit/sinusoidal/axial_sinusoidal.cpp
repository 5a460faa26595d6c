// SPDX-License-Identifier: MIT
#include <posenc/sinusoidal/axial_sinusoidal.hpp>

#include <posenc/grid_coordinates.hpp>

#include "catch.hpp"
#include "random.hpp"
#include "reference/difference.hpp"
#include "reference/refuses.hpp"
#include "reference/sinusoidal.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace {

using namespace posenc;
using Eigen::RowMajor;
using reference::bit_difference;

template <class S>
using tensor2 = Eigen::Tensor<S, 2, RowMajor>;
template <class S>
using tensor3 = Eigen::Tensor<S, 3, RowMajor>;
using widths = std::vector<index_t>;

constexpr auto interleaved = channel_order::interleaved, sin_cos = channel_order::sin_cos, cos_sin = channel_order::cos_sin;
constexpr auto blocks = sinusoidal_arrangement::blocks, across = sinusoidal_arrangement::across;
const any_exponent_rule vaswani = exponent_rule::vaswani{};

template <class O>
concept axial_without_order = requires { O{.dim = 4, .widths = {4}, .arrangement = blocks, .exponent_rule = vaswani}; };
template <class O>
concept axial_without_arrangement = requires { O{.dim = 4, .widths = {4}, .order = sin_cos, .exponent_rule = vaswani}; };
template <class O>
concept axial_without_rule = requires { O{.dim = 4, .widths = {4}, .order = sin_cos, .arrangement = blocks}; };
template <class O>
concept axial_with_all = requires { O{.dim = 4, .widths = {4}, .order = sin_cos, .arrangement = blocks, .exponent_rule = vaswani}; };
static_assert(axial_with_all<axial_sinusoidal_options> && !axial_without_order<axial_sinusoidal_options> &&
              !axial_without_arrangement<axial_sinusoidal_options> && !axial_without_rule<axial_sinusoidal_options>);

/// What each channel holds, by laying out one after the other.
std::vector<reference::wave> laid_out(const axial_sinusoidal_options& options) {
  std::vector<std::vector<reference::wave>> groups(1);  // of pairs that lie together
  for (std::size_t axis = 0; axis < options.widths.size(); ++axis) {
    if (options.arrangement == blocks) groups.emplace_back();
    for (index_t k = 0; k < options.widths[axis] / 2; ++k) groups.back().push_back({true, k, static_cast<index_t>(axis)});
  }
  std::vector<reference::wave> channels;
  const auto put = [&](reference::wave one, bool is_sine) {
    one.is_sine = is_sine;
    channels.push_back(one);
  };
  for (const auto& group : groups) {
    if (options.order == interleaved)
      for (const auto& one : group) put(one, true), put(one, false);
    else
      for (const bool is_sine : {options.order == sin_cos, options.order == cos_sin})
        for (const auto& one : group) put(one, is_sine);
  }
  return channels;
}

std::vector<double> expected(const axial_sinusoidal_options& options, index_t batch, const auto& at) {
  const auto channels = laid_out(options);
  std::vector<double> all;
  for (index_t b = 0; b < batch; ++b)
    for (index_t t = 0; t < at.time(); ++t)
      for (std::size_t c = 0; c < static_cast<std::size_t>(options.dim); ++c) {
        const auto place = at(b, t, at.axes() == 1 || c >= channels.size() ? 0 : channels[c].axis);
        if (c >= channels.size() || place != place || at(b, t) == decltype(place)(no_position)) {
          all.push_back(0);
          continue;
        }
        const auto& one = channels[c];
        const long double turn = options.full_turns ? 6.283185307179586476925286766559L : 1.0L;
        const long double speed =
            reference::frequency(options.exponent_rule, options.widths[static_cast<std::size_t>(one.axis)], one.k) * turn;
        all.push_back(
            reference::sinusoid(one.is_sine, reference::moved(place, options.start) * speed * options.angle_scale, options.scale));
      }
  return all;
}

template <class S>
void check_codes(const axial_sinusoidal_options& options, const auto& at) {
  tensor3<S> out(2, at.time(), static_cast<index_t>(options.dim));
  out.setConstant(S(9));
  axial_sinusoidal<S>(options).encode(at, out);
  const double tolerance = (sizeof(S) == 4 ? 3.1e-8 : 2.3e-16) * (std::abs(options.scale) > 1 ? 2 : 1) + 1.2e-16;
  CAPTURE(static_cast<index_t>(options.dim), static_cast<int>(static_cast<channel_order>(options.order)),
          static_cast<int>(static_cast<sinusoidal_arrangement>(options.arrangement)), options.widths.size());
  CHECK(reference::difference(out, expected(options, 2, at), tolerance) == "");
}

/// Distinct on every axis, with a token in each row that has no position; [axis, 2, 3].
positions some(index_t axes) {
  std::vector<position> ids;
  for (index_t axis = 0; axis < axes; ++axis)
    for (const position id : {0, 3, -1, 2, -1, 41}) ids.push_back(id == -1 ? no_position : id * (axis + 2) - 7 * axis);
  return positions::multi_axis(ids, axes, 2);
}

const axial_sinusoidal_options film{
    .dim = 14, .widths = {4, 6, 2}, .order = sin_cos, .arrangement = across, .exponent_rule = exponent_rule::tensor2tensor{}};

}  // namespace

TEMPLATE_TEST_CASE("axial sinusoidal codes follow the formula in every arrangement", "[sinusoidal][axial]", float, double) {
  struct {
    index_t dim;
    widths shares;
  } const shapes[] = {{8, {8}},        {8, {4, 4}},     {12, {2, 8}}, {13, {6, 6}},  // a zero remainder
                      {14, {4, 6, 2}}, {10, {0, 6, 4}}, {6, {0, 0}},  {5, {2}}};
  for (const auto& [dim, shares] : shapes)
    for (const auto order : {interleaved, sin_cos, cos_sin})
      for (const auto arrangement : {blocks, across}) {
        const auto at = some(static_cast<index_t>(shares.size()));
        check_codes<TestType>({.dim = dim, .widths = shares, .order = order, .arrangement = arrangement, .exponent_rule = vaswani}, at);
        check_codes<TestType>({.dim = dim,
                               .widths = shares,
                               .order = order,
                               .arrangement = arrangement,
                               .exponent_rule = exponent_rule::tensor2tensor{.max_timescale = 100},
                               .start = 1,
                               .scale = 1.5,
                               .angle_scale = 0.75},
                              at);
        const any_exponent_rule turns = exponent_rule::log_linear{0.5, 0.125};
        check_codes<TestType>(
            {.dim = dim, .widths = shares, .order = order, .arrangement = arrangement, .exponent_rule = turns, .full_turns = true}, at);
      }
}

TEMPLATE_TEST_CASE("axial sinusoidal codes truncated to dim", "[sinusoidal][axial]", float, double) {
  for (const auto order : {interleaved, sin_cos, cos_sin})
    for (const auto arrangement : {blocks, across})
      for (const index_t dim : {1, 5, 7, 9, 10, 12}) {
        check_codes<TestType>(
            {.dim = dim, .widths = {4, 6}, .order = order, .arrangement = arrangement, .exponent_rule = vaswani, .truncate = true},
            some(2));
      }
}

TEMPLATE_TEST_CASE("axial sinusoidal codes of coordinates", "[sinusoidal][axial]", float, double) {
  const std::vector<double> places{0.5, -3.75, no_coordinate, 64.125, 7, 0.1, 17.5, 2, no_coordinate, 3.3, -0.001, 31.0625};
  for (const auto& at : {coordinates::values(places, 2, 2), coordinates::values(places, 2), coordinates::values(places, 1, 2)})
    for (const auto arrangement : {blocks, across})
      check_codes<TestType>(
          {.dim = 11, .widths = {6, 4}, .order = cos_sin, .arrangement = arrangement, .exponent_rule = vaswani, .start = 2}, at);
  // Whole numbers have the codes of positions.
  const axial_sinusoidal<TestType> encoder(film);
  tensor3<TestType> by_position(2, 3, 14), by_coordinate(2, 3, 14);
  encoder.encode(some(3), by_position);
  encoder.encode(coordinates::of(some(3)), by_coordinate);
  CHECK(bit_difference(by_coordinate, by_position) == "");
}

TEST_CASE("positions of one axis stand on all axes of axial sinusoidal codes", "[sinusoidal][axial]") {
  const axial_sinusoidal<double> encoder(film);
  const std::vector<position> line{5, no_position, -2, 7};
  std::vector<position> thrice;
  for (int axis = 0; axis < 3; ++axis) thrice.insert(thrice.end(), line.begin(), line.end());
  tensor2<double> one(4, 14), three(4, 14), places(4, 14);
  encoder.encode(positions::ids(line), one);
  encoder.encode(positions::multi_axis(thrice, 3), three);
  encoder.encode(coordinates::of(positions::ids(line)), places);
  CHECK(bit_difference(one, three) == "");
  CHECK(bit_difference(places, three) == "");
  check_codes<float>(film, positions::range(3, 100));
}

TEST_CASE("MAE: x first, and a class token that keeps its value", "[sinusoidal][axial]") {
  const axial_sinusoidal<double> mae({.dim = 8, .widths = {4, 4}, .order = sin_cos, .arrangement = blocks, .exponent_rule = vaswani});
  const auto at = grid_positions({.extents = {2, 3}, .order = grid_order::fastest_first, .prefix = 1});
  const auto x = random_tensor<tensor3<double>>(1, 2, 7, 8);
  tensor3<double> code(2, 7, 8), sum = x;
  mae.encode(at, code);
  mae.add(sum, at);
  for (index_t c = 0; c < 8; ++c) CHECK((code(1, 0, c) == 0 && reference::same_bits(sum(1, 0, c), x(1, 0, c))));
  // The last cell: x = 2, y = 1; frequencies 1 and 0.01.
  const double wanted[] = {0.9092974268256817, 0.019998666693333079,  -0.4161468365471424, 0.99980000666657776,
                           0.8414709848078965, 0.0099998333341666645, 0.5403023058681398,  0.9999500004166653};
  for (index_t c = 0; c < 8; ++c) CHECK(std::abs(code(0, 6, c) - wanted[c]) < 3e-16);
}

TEMPLATE_TEST_CASE("axial sinusoidal add adds the code that encode writes", "[sinusoidal][axial]", float, double, Eigen::bfloat16) {
  using S = compute_t<TestType>;
  const axial_sinusoidal<S> encoder(film);
  std::vector<position> ids;
  for (index_t n = 0; n < 3 * 2 * 300; ++n) ids.push_back(n % 300 == 17 ? no_position : n * 7919 % 1009 - 500);
  for (const auto& at : {positions::multi_axis(ids, 3, 2), positions::multi_axis(ids, 3).slice(5, 300),
                         grid_positions({.extents = {3, 10, 10}, .order = grid_order::slowest_first})}) {
    tensor3<TestType> x(2, 300, 14);
    const auto numbers = random_vector<S>(4, x.size());
    std::transform(numbers.begin(), numbers.end(), x.data(), [](S one) { return TestType(one); });
    tensor3<S> code(2, 300, 14);
    tensor3<TestType> sum = x, out(2, 300, 14), wanted(2, 300, 14), rounded(2, 300, 14);
    encoder.encode(at, code);
    for (index_t n = 0; n < x.size(); ++n) wanted.data()[n] = TestType(S(x.data()[n]) + code.data()[n]);
    for (index_t n = 0; n < x.size(); ++n) rounded.data()[n] = TestType(code.data()[n]);
    encoder.encode(at, sum);
    CHECK(bit_difference(sum, rounded) == "");
    sum = x;
    encoder.add(sum, at);
    encoder.add(x, out, at);
    CHECK(bit_difference(sum, wanted) == "");
    CHECK(bit_difference(out, wanted) == "");
    Eigen::Tensor<TestType, 3> columns(14, 300, 2);  // the same memory
    std::copy_n(x.data(), x.size(), columns.data());
    encoder.add(columns, at);
    CHECK(bit_difference(columns, wanted) == "");
    // Token by token, as in decoding.
    tensor3<TestType> steps = x;
    for (index_t t = 0; t < 300; ++t) encoder.add(tensor_view<TestType, 3>(&steps(0, t, 0), {2, 1, 14}, {300 * 14, 14, 1}), at.slice(t, 1));
    CHECK(bit_difference(steps, wanted) == "");
  }
}

TEST_CASE("axial sinusoidal codes fill all of the spare memory they are given", "[sinusoidal][axial]") {
  const axial_sinusoidal<float> wide(film),
      narrow({.dim = 13, .widths = {4, 6}, .order = sin_cos, .arrangement = across, .exponent_rule = vaswani, .start = 1});
  const auto check = [](const axial_sinusoidal<float>& encoder, const positions& at) {
    tensor3<float> codes(2, 3, encoder.dim());
    encoder.encode(at, codes);
    std::vector<float> spare(static_cast<std::size_t>(2 * encoder.spare_values()), std::numeric_limits<float>::quiet_NaN());
    const auto source = encoder.codes(at, 1, 1, 2, spare.data(), nullptr);
    CHECK((source.table == spare.data() && source.scale == 1 && source.ids == nullptr));
    for (index_t t = 0; t < 2; ++t)
      for (index_t c = 0; c < encoder.dim(); ++c) CHECK(source.table[t * source.time + c] == codes(1, 1 + t, c));
  };
  check(wide, positions::ids(std::array{0, 0, 0, 3, 7, 9}, 2));
  check(narrow, positions::ids(std::array{0, 0, 0, 3, 7, 9}, 2));
}

TEST_CASE("widths of systems", "[sinusoidal][axial]") {
  CHECK(diffusers_film_widths(16) == widths{4, 6, 6});
  CHECK(diffusers_film_widths(1920) == widths{480, 720, 720});
  CHECK(multidim_widths(16, 2) == widths{8, 8});
  CHECK(multidim_widths(10, 2) == widths{6, 6});  // 2 * ceil(10 / 4)
  CHECK(multidim_widths(33, 1) == widths{34});
  CHECK(multidim_widths(25, 3) == widths{10, 10, 10});
  CHECK(multidim_widths(1, 2) == widths{2, 2});
  CHECK(timing_signal_widths(24, 2) == widths{12, 12});
  CHECK(timing_signal_widths(15, 2) == widths{6, 6});  // 2 * (15 / 4)
  CHECK(timing_signal_widths(3, 2) == widths{0, 0});
  using reference::refuses;
  refuses("[diffusers_film_widths] dim must be a positive multiple of 16 but got 24", [] { diffusers_film_widths(24); });
  refuses("[diffusers_film_widths] dim must be a positive multiple of 16 but got 0", [] { diffusers_film_widths(0); });
  refuses("[multidim_widths] there must be 1 to 8 axes but got 0", [] { multidim_widths(4, 0); });
  refuses("[multidim_widths] dim must be positive but got 0", [] { multidim_widths(0, 2); });
  refuses("[timing_signal_widths] there must be 1 to 8 axes but got 9", [] { timing_signal_widths(4, 9); });
  refuses("[timing_signal_widths] dim must be positive but got -1", [] { timing_signal_widths(-1, 2); });
}

TEST_CASE("films of diffusers stand at time, x, y", "[sinusoidal][axial]") {
  const auto at = diffusers_film_positions(2, 3, 4);
  CHECK((at.axes() == 3 && at.batch() == 0 && at.time() == 24));
  for (index_t t = 0, token = 0; t < 2; ++t)
    for (index_t y = 0; y < 3; ++y)
      for (index_t x = 0; x < 4; ++x, ++token) CHECK((at(0, token, 0) == t && at(0, token, 1) == x && at(0, token, 2) == y));
}

TEST_CASE("axial sinusoidal encoders are equal where their options are", "[sinusoidal][axial]") {
  const axial_sinusoidal<float> encoder(film);
  const auto with = [&](auto&& change) {
    auto other = film;
    change(other);
    return axial_sinusoidal<float>(other);
  };
  CHECK(encoder == with([](auto&) {}));
  CHECK(encoder != with([](auto& o) { o.dim = 15; }));
  CHECK(encoder != with([](auto& o) { o.widths = {6, 4, 2}; }));
  CHECK(encoder != with([](auto& o) { o.order = cos_sin; }));
  CHECK(encoder != with([](auto& o) { o.arrangement = blocks; }));
  CHECK(encoder != with([](auto& o) { o.exponent_rule = vaswani; }));
  CHECK(encoder != with([](auto& o) { o.truncate = true; }));
  CHECK(encoder != with([](auto& o) { o.start = 1; }));
  CHECK(encoder != with([](auto& o) { o.scale = 2; }));
  CHECK(encoder != with([](auto& o) { o.angle_scale = 2; }));
  CHECK(encoder != with([](auto& o) { o.full_turns = true; }));
  CHECK((encoder.options() == film && encoder.dim() == 14 && encoder.axes() == 3));
  // [axes, pairs]: each axis stands still where the pairs are another's.
  const frequencies& speeds = encoder.inspect();
  CHECK((speeds.axes() == 3 && speeds.count() == 6));
  CHECK((speeds.radians(0) == 1 && speeds.radians(1) == 1e-4 && speeds.radians(2) == 0));
  CHECK((speeds.radians(6) == 0 && speeds.radians(6 + 2) == 1 && speeds.radians(6 + 3) == 1e-2 && speeds.radians(6 + 4) == 1e-4));
  CHECK((speeds.radians(12 + 4) == 0 && speeds.radians(12 + 5) == 1));
}

TEST_CASE("axial sinusoidal refuses what does not fit", "[sinusoidal][axial][errors]") {
  const auto refused = [&](const std::string& text, auto&& change) {
    auto options = film;
    change(options);
    reference::refuses("[axial_sinusoidal] " + text, [&] { axial_sinusoidal<float>{options}; });
  };
  constexpr double infinity = std::numeric_limits<double>::infinity();
  constexpr index_t much = index_t{1} << 60;
  refused("dim must be positive but got 0", [](auto& o) { o.dim = 0; });
  refused("there must be 1 to 8 axes but got 0", [](auto& o) { o.widths = {}; });
  refused("there must be 1 to 8 axes but got 9", [](auto& o) { o.widths = widths(9, 0); });
  refused("widths must be even and not negative but got 3", [](auto& o) { o.widths = {4, 3}; });
  refused("widths must be even and not negative but got -2", [](auto& o) { o.widths = {4, -2}; });
  refused("widths must not exceed dim together but got 14 and 16", [](auto& o) { o.widths = {4, 6, 6}; });
  refused("widths must fit in 63 bits together but got 9223372036854775806 and 2",
          [](auto& o) { o.widths = {std::numeric_limits<index_t>::max() - 1, 2}, o.truncate = true; });
  refused("the size in bytes must fit in 63 bits but got [2, 1152921504606846976]",
          [](auto& o) { o.widths = {much, much}, o.truncate = true; });
  refused("scale must be finite but got inf", [](auto& o) { o.scale = infinity; });
  refused("angle_scale must be finite but got inf", [](auto& o) { o.angle_scale = infinity; });
  refused("start must lie in [-2^61, 2^61] but got -2305843009213693953", [](auto& o) { o.start = -(position{1} << 61) - 1; });
  refused("base must be positive and finite but got 0", [](auto& o) { o.exponent_rule = exponent_rule::vaswani{.base = 0}; });

  const axial_sinusoidal<float> encoder(film);
  auto x = random_tensor<tensor3<float>>(8, 2, 3, 14);
  const auto verb_refused = [&](const std::string& text, auto&& act) { reference::refuses(x, "[axial_sinusoidal] " + text, act); };
  verb_refused("the positions must have as many axes as the encoder but got 3 and 2", [&] { encoder.add(x, some(2)); });
  verb_refused("the positions must have as many axes as the encoder but got 3 and 2", [&] { encoder.encode(coordinates::of(some(2)), x); });
  verb_refused("time must match the positions but got 3 and 2", [&] { encoder.add(x, some(3).slice(0, 2)); });
  verb_refused("coordinate times frequency must stay below 2^31 turns but got 1e+11 and 0.15915494309189535",
               [&] { encoder.add(x, coordinates::values(std::vector{0., 0., 0., 1., 2., 1e11, 0., 0., 0.}, 3)); });
}
