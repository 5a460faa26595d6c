// One value says which position each token has, for every encoder.
#include <posenc/positions.hpp>

#include <cstdio>
#include <vector>

int main() {
  using posenc::positions;

  const auto whole = positions::range(512);                                          // 0 ... 511
  const auto behind_cache = positions::range(4, 1000);                               // 1000 ... 1003
  const auto per_row = positions::offsets(std::vector{17, 5, 230}, 1);               // one new token in each of three sequences
  const auto left_padded = positions::from_padding_mask(std::vector{0, 0, 1, 1, 1}, 1);  // - - 0 1 2: padding has no position
  const auto documents = positions::packed(std::vector{0, 3, 5});                    // 0 1 2 0 1: two documents in one row
  const auto any_order = positions::ids(std::vector{7, -3, 7});                      // ids of your own

  const bool right = whole(0, 511) == 511 && behind_cache(0, 3) == 1003 && per_row(2, 0) == 230 && left_padded(0, 2) == 0 &&
                     left_padded(0, 0) == posenc::no_position && documents(0, 3) == 0 && any_order(0, 1) == -3;
  std::puts(right ? "positions as the comments say" : "not as the comments say");
  return right ? 0 : 1;
}
