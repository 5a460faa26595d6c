// SPDX-License-Identifier: MIT
/// \file  The frame of the benchmarks: rows of the table, their variants, and the memory they work on.
///
/// A row is one path at one size. Its variants do the same work on the same bytes and are Google Benchmark's `path/size/variant`, run in
/// random order. A new path is a call of `suite::add_row` and one `add` per variant; the table takes care of itself.
#pragma once

#include <benchmark/benchmark.h>
#include <posenc/kernels/instruction_set.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bench {

using index_t = std::ptrdiff_t;

enum class variant {
  posenc,  ///< the library
  limit,   ///< what the memory allows; of several, the fastest counts
  raw,     ///< the plain loop that a user would write, with the same flags
  eigen,   ///< the Eigen expression that a user would write
  other    ///< another way to the same end, named in the table
};

/// What a goal measures: a ratio of times as in the table's columns, or GB/s.
enum class measure {
  limit,
  memcpy,      ///< of the limits, this one
  raw,
  other,
  throughput,  ///< GB/s
  row          ///< GB/s / GB/s of another row of the same size
};

/// `measure` is to be at least that. As part of a row's description it may hold for some sizes and instruction sets only.
struct goal {
  double least;
  measure of;
  std::string_view size{};  ///< empty: at all
  std::string_view set{};   ///< empty: with all
  std::string path{};       ///< for measure::row: of the other row
};

/// What the table says of a row, except for times.
struct row {
  std::string path;      ///< snake_case, the scalar in it: rotate_f32_halves_d128
  std::string size;      ///< 512KB
  std::string shape;     ///< [1, 32, 32, 128]
  double bytes;          ///< of all tensors that grow with the size, once each: whether they fit a cache
  double moved;          ///< bytes that have to be read plus those that have to be written, for GB/s
  double items;          ///< what "ns/item" counts: pairs of channels, or elements
  std::string other{};   ///< what `variant::other` is
  std::optional<posenc::instruction_set> set{};  ///< runs with this one, all variants; the path should end with its name
  bool real_time = false;                        ///< of all variants: where threads other than ours work
  std::vector<goal> goals{};                     ///< add_row keeps those that hold for this size and instruction set

  std::string name() const { return path + '/' + size; }
};

/// A size class: the bytes of all tensors of a row together, and how many times the smallest one that is.
struct size_class {
  std::string name;
  double bytes;
  index_t factor;
};

inline constexpr index_t smallest = 512 * 1024;  ///< fits a second-level cache

/// Pins an instruction set for as long as it lives.
class pinned {
 public:
  explicit pinned(std::optional<posenc::instruction_set> set) : before_(posenc::current_instruction_set()) {
    if (set) posenc::pin_instruction_set(*set);
  }
  ~pinned() { posenc::pin_instruction_set(before_); }
  pinned(const pinned&) = delete;
  pinned& operator=(const pinned&) = delete;

 private:
  posenc::instruction_set before_;
};

/// All rows, in the order of the table.
class suite {
 public:
  /// \param brief  only the smallest size.
  explicit suite(bool brief) {
    for (const auto& [name, factor] : {std::pair{"512KB", 1}, std::pair{"8MB", 16}, std::pair{"134MB", 256}})
      if (!brief || factor == 1) sizes_.push_back({name, static_cast<double>(smallest * factor), factor});
  }

  const std::vector<size_class>& sizes() const { return sizes_; }
  const std::deque<row>& rows() const { return rows_; }

  /// Whether rows with a set of their own can run: not where the processor lacks it, nor beside others with a set of the user's choice.
  bool runs_with(posenc::instruction_set set) const {
    return posenc::has(set) && posenc::current_instruction_set() == posenc::best_instruction_set();
  }

  const row& add_row(row what) {
    const std::string_view set = name(what.set.value_or(posenc::current_instruction_set()));
    std::erase_if(what.goals,
                  [&](const goal& one) { return (!one.size.empty() && one.size != what.size) || (!one.set.empty() && one.set != set); });
    return rows_.emplace_back(std::move(what));
  }

  /// \param suffix   tells variants of one kind apart: `limit_memcpy`.
  /// \param prepare  called before timing, returns what is timed. Buffers are asked for in there.
  template <class Prepare>
  void add(const row& in, variant kind, Prepare prepare, std::string_view suffix = {}) {
    const std::string name = in.name() + '/' + text(kind) + (suffix.empty() ? "" : "_" + std::string(suffix));
    auto* const added =
        benchmark::RegisterBenchmark(name.c_str(), [prepare, moved = in.moved, items = in.items, set = in.set](benchmark::State& state) {
          const pinned with(set);
          auto pass = prepare();
          pass();  // what the work needs comes into the caches, as far as it fits
          for (auto _ : state) {
            pass();
            benchmark::ClobberMemory();
          }
          const auto passes = static_cast<double>(state.iterations());
          state.SetBytesProcessed(static_cast<std::int64_t>(moved * passes));
          state.SetItemsProcessed(static_cast<std::int64_t>(items * passes));
        });
    if (in.real_time) added->UseRealTime();
  }

  static const char* text(variant kind) {
    constexpr const char* names[] = {"posenc", "limit", "raw", "eigen", "other"};
    return names[static_cast<int>(kind)];
  }

 private:
  std::vector<size_class> sizes_;
  std::deque<row> rows_;  // rows stay where they are
};

/// `[1, 32, 32, 128]`
std::string shape_text(std::initializer_list<index_t> extents);

/// Memory that all rows share, `count` values of S filled anew: random ones of either sign between 1/2 and 1, so that nothing overflows
/// or gets subnormal, however often it is worked on. On huge pages where the system has them. A call may free what an earlier one for
/// the same slot returned.
template <class S>
S* buffer(int slot, index_t count);

// The rows, by file.
void add_rotations(suite& all);
void add_rotary_family(suite& all);
void add_tables(suite& all);
void add_additions(suite& all);
void add_biases(suite& all);
void add_copes(suite& all);
void add_forgetting(suite& all);
void add_gated(suite& all);
void add_relative(suite& all);
void add_window_biases(suite& all);
void add_linears(suite& all);
void add_features(suite& all);
void add_fourier_codes(suite& all);
void add_convolutions(suite& all);
void add_fope(suite& all);

}  // namespace bench
