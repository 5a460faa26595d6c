// SPDX-License-Identifier: MIT
#include <posenc/multimodal_positions.hpp>

#include "catch.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <vector>

using namespace posenc;
using segment::image, segment::text, segment::video;

namespace {

using ids = std::vector<position>;

constexpr position none = no_position;

ids axis_of(const positions& at, index_t axis, index_t b = 0) {
  ids all;
  for (index_t t = 0; t < at.time(); ++t) all.push_back(at(b, t, axis));
  return all;
}

}  // namespace

TEST_CASE("text stands at the same place on all axes", "[multimodal_positions]") {
  const auto row = multimodal_positions({text{3}, text{2}});
  CHECK(row.at.axes() == 3);
  CHECK(row.at.batch() == 0);
  for (index_t axis = 0; axis < 3; ++axis) CHECK(axis_of(row.at, axis) == ids{0, 1, 2, 3, 4});
  CHECK(row.decode_delta == ids{0});
}

TEST_CASE("Qwen2-VL: a film of three frames and five words", "[multimodal_positions]") {  // the example of its documentation
  const auto row = multimodal_positions({video{3, 2, 2}, text{5}});
  CHECK(axis_of(row.at, 0) == ids{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 4, 5, 6, 7});
  CHECK(axis_of(row.at, 1) == ids{0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 3, 4, 5, 6, 7});
  CHECK(axis_of(row.at, 2) == ids{0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 3, 4, 5, 6, 7});
  CHECK(row.decode_delta == ids{-9});
}

TEST_CASE("Qwen2.5-VL: frames are fifty places apart", "[multimodal_positions]") {  // the same, at one frame per second
  const auto row = multimodal_positions({video{.frames = 3, .height = 2, .width = 2, .interval = 50}, text{5}});
  CHECK(axis_of(row.at, 0) == ids{0, 0, 0, 0, 50, 50, 50, 50, 100, 100, 100, 100, 101, 102, 103, 104, 105});
  CHECK(axis_of(row.at, 1) == ids{0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 101, 102, 103, 104, 105});
  CHECK(axis_of(row.at, 2) == ids{0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 101, 102, 103, 104, 105});
  CHECK(row.decode_delta == ids{89});
}

TEST_CASE("a picture among words stands at one time", "[multimodal_positions]") {
  const multimodal_row words{text{2}, image{4, 6}, text{2}, image{2, 2}};  // in patches, four of which make a token
  const auto row = multimodal_positions(words, 2);
  CHECK(axis_of(row.at, 0) == ids{0, 1, 2, 2, 2, 2, 2, 2, 5, 6, 7});
  CHECK(axis_of(row.at, 1) == ids{0, 1, 2, 2, 2, 3, 3, 3, 5, 6, 7});
  CHECK(axis_of(row.at, 2) == ids{0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 7});
  CHECK(row.decode_delta == ids{-3});
}

TEST_CASE("Qwen3-VL: the time of a frame is written in words", "[multimodal_positions]") {
  const auto row = multimodal_positions({text{1}, image{1, 2}, text{1}, image{1, 2}});
  CHECK(axis_of(row.at, 0) == ids{0, 1, 1, 3, 4, 4});
  CHECK(axis_of(row.at, 1) == ids{0, 1, 1, 3, 4, 4});
  CHECK(axis_of(row.at, 2) == ids{0, 1, 2, 3, 4, 5});
}

TEST_CASE("a film without an interval stands at one time", "[multimodal_positions]") {
  const auto row = multimodal_positions({video{.frames = 2, .height = 1, .width = 1, .interval = 0}, text{1}});
  CHECK(axis_of(row.at, 0) == ids{0, 0, 1});
}

TEST_CASE("later transformers: frames do not count where words resume", "[multimodal_positions]") {
  const multimodal_row film{text{1}, video{5, 4, 2}, text{2}};
  const auto paper = multimodal_positions(film, 2), later = multimodal_positions(film, 2, resume_at::behind_picture);
  CHECK(axis_of(paper.at, 0) == ids{0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7});
  CHECK(axis_of(later.at, 0) == ids{0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 3, 4});
  CHECK(axis_of(later.at, 1) == ids{0, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 3, 4});
  CHECK(paper.decode_delta == ids{8 - 13});
  CHECK(later.decode_delta == ids{6 - 13});  // still behind the largest
  const std::vector<multimodal_row> rows{film};
  const auto batch = multimodal_positions(rows, {.padding = padding_side::left, .merge = 2, .resume = resume_at::behind_picture});
  CHECK(axis_of(batch.at, 0) == axis_of(later.at, 0));
  CHECK(batch.decode_delta == later.decode_delta);

  const multimodal_row picture{text{2}, image{4, 6}, image{0, 6}, text{2}};  // of one frame, so both rules agree
  CHECK(multimodal_positions(picture, 2, resume_at::behind_picture).at == multimodal_positions(picture, 2).at);
  CHECK(multimodal_positions(picture, 2).at.last() == 6);
}

TEST_CASE("multimodal rows are padded to one length", "[multimodal_positions]") {
  const std::vector<multimodal_row> rows{{text{1}, image{2, 2}}, {text{3}}, {}};
  const auto left = multimodal_positions(rows, {.padding = padding_side::left});
  CHECK(left.at.axes() == 3);
  CHECK(left.at.batch() == 3);
  CHECK(left.at.time() == 5);
  CHECK(axis_of(left.at, 0, 0) == ids{0, 1, 1, 1, 1});
  CHECK(axis_of(left.at, 1, 0) == ids{0, 1, 1, 2, 2});
  CHECK(axis_of(left.at, 2, 0) == ids{0, 1, 2, 1, 2});
  for (index_t axis = 0; axis < 3; ++axis) {
    CHECK(axis_of(left.at, axis, 1) == ids{none, none, 0, 1, 2});
    CHECK(axis_of(left.at, axis, 2) == ids(5, none));
  }
  CHECK(left.decode_delta == ids{-2, 0, 0});

  const auto right = multimodal_positions(rows, {.padding = padding_side::right});
  for (index_t axis = 0; axis < 3; ++axis) {
    CHECK(axis_of(right.at, axis, 0) == axis_of(left.at, axis, 0));
    CHECK(axis_of(right.at, axis, 1) == ids{0, 1, 2, none, none});
  }
  CHECK(right.decode_delta == left.decode_delta);
  const std::vector<multimodal_row> patches{{image{2, 4}}};
  CHECK(multimodal_positions(patches, {.padding = padding_side::left, .merge = 2}).at.time() == 2);
  CHECK(multimodal_positions(std::vector<multimodal_row>{}, {.padding = padding_side::left}).at.axes() == 3);
}

TEST_CASE("decoding goes on behind the largest position", "[multimodal_positions]") {
  const std::vector<multimodal_row> rows{{text{1}, image{2, 2}}, {text{3}}, {text{1}, video{2, 1, 1, 10}}};
  const auto prompt = multimodal_positions(rows, {.padding = padding_side::right});
  const std::array<index_t, 3> tokens{5, 3, 3};
  const auto next = decode_positions(tokens, prompt.decode_delta, 2);
  CHECK(next.axes() == 3);
  CHECK(next.batch() == 3);
  for (index_t axis = 0; axis < 3; ++axis) {
    CHECK(axis_of(next, axis, 0) == ids{3, 4});
    CHECK(axis_of(next, axis, 1) == ids{3, 4});
    CHECK(axis_of(next, axis, 2) == ids{12, 13});
  }
  const std::array<index_t, 3> later{7, 5, 5};
  CHECK(axis_of(decode_positions(later, prompt.decode_delta, 1), 0, 2) == ids{14});

  // As if the words had been part of the prompt.
  const auto whole = multimodal_positions({text{1}, image{2, 2}, text{2}});
  for (index_t axis = 0; axis < 3; ++axis) CHECK(axis_of(whole.at.slice(5, 2), axis) == axis_of(next, axis, 0));

  const auto nobody = decode_positions({}, {}, 4);
  CHECK(nobody.axes() == 3);
  CHECK(nobody.time() == 4);
}

TEST_CASE("multimodal rows say what does not fit", "[multimodal_positions]") {
  const std::string negative = "[multimodal] extents must not be negative but got ";
  CHECK_THROWS_WITH(multimodal_positions({text{-1}}), negative + "-1");
  CHECK_THROWS_WITH(multimodal_positions({image{2, -4}}), negative + "[1, 2, -4]");
  CHECK_THROWS_WITH(multimodal_positions({video{-3, 2, 4}}), negative + "[-3, 2, 4]");
  CHECK_THROWS_WITH(multimodal_positions({video{2, positions::limit, 4}}),
                    "[multimodal] the size in bytes must fit in 63 bits but got [2, 4611686018427387904, 4]");
  const std::string multiples = "[multimodal] height and width must be multiples of merge but got ";
  const multimodal_row odd_height{image{3, 4}}, odd_width{video{2, 4, 3}};
  CHECK_THROWS_WITH(multimodal_positions(odd_height, 2), multiples + "3 and 4 and 2");
  CHECK_THROWS_WITH(multimodal_positions(odd_width, 2), multiples + "4 and 3 and 2");
  CHECK_THROWS_WITH(multimodal_positions(odd_height, 0), "[multimodal] merge must be positive but got 0");

  const std::string interval = "[multimodal] the interval must not be negative, nor lead beyond 2^62 but got ";
  CHECK_THROWS_WITH(multimodal_positions({video{2, 1, 1, -1}}), interval + "-1");
  CHECK_THROWS_WITH(multimodal_positions({text{1}, video{2, 1, 1, positions::limit}}), interval + "4611686018427387904");
  CHECK(multimodal_positions({video{2, 1, 1, positions::limit}}).at.last() == positions::limit);
  CHECK_THROWS_WITH(multimodal_positions({video{2, 1, 1, positions::limit}, text{1}}),
                    "[positions] ids must lie in [-2^62, 2^62] but got 4611686018427387905");

  const std::array<index_t, 2> two{1, 2}, far{1, std::numeric_limits<index_t>::max()}, before{1, -1};
  const ids one_delta{0}, deltas{0, 0}, far_deltas{0, std::numeric_limits<position>::min()};
  CHECK_THROWS_WITH(decode_positions(two, one_delta, 1), "[multimodal] there must be one number of tokens per row but got 1 and 2");
  const std::string decode = "[multimodal] tokens and deltas must lie in [-2^61, 2^61] but got ";
  CHECK_THROWS_WITH(decode_positions(far, deltas, 1), decode + "9223372036854775807 and 0");
  CHECK_THROWS_WITH(decode_positions(two, far_deltas, 1), decode + "2 and -9223372036854775808");
  CHECK_THROWS_WITH(decode_positions(before, deltas, 1), "[multimodal] the number of tokens must not be negative but got -1");
  CHECK_THROWS_WITH(decode_positions(two, deltas, -1), "[positions] time must not be negative but got -1");
}
