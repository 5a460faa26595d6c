// SPDX-License-Identifier: MIT
/// \file  How `cope` goes through scores: blocks of queries of one head, the products that their rows need, and what they count.
#pragma once

#include <posenc/conditional/cope_options.hpp>
#include <posenc/conditional/visible_spans.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>  // checked_product
#include <posenc/executor.hpp>
#include <posenc/heads.hpp>
#include <posenc/inputs.hpp>
#include <posenc/kernels/cope.hpp>
#include <posenc/kernels/linear.hpp>
#include <posenc/positions.hpp>
#include <posenc/relative/relative_vectors.hpp>  // widen_rows
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

namespace POSENC_NAMESPACE::detail {

/// Queries [query, query + count) of one head. first, final: of those that share a head of gate keys.
struct cope_block {
  index_t b, h, query, count;
  bool first, final;
};
/// What one thread works with.
template <class S>
struct cope_work {
  std::vector<S> rows, z, positions, gates, key_rows;  ///< gates: what they are of, and then the gradient of that
  std::vector<S> slopes, d_z, d_keys;
  std::vector<double> sums;
  index_t low = 0, width = 0;  ///< the keys that some query of the block sees
};

/// One call's blocks. Options and embeddings must outlive it.
template <class S>
class cope_blocks {
 public:
  cope_blocks(const cope_options& options, const S* embeddings) noexcept : options_(options), embeddings_(embeddings) {}

  bool of_keys() const noexcept { return cope_gates{options_.gates} != cope_gates::scores; }
  S last() const noexcept { return static_cast<S>(max_positions() - 1); }
  double z_scale(double scale) const noexcept { return cope_bias{options_.bias} == cope_bias::scaled ? scale : 1; }
  relative_vectors<S> vectors() const noexcept {
    return {embeddings_, options_.per_head ? max_positions() * channels() : 0, channels(), max_positions(), 0, false, nullptr};
  }
  const S* z_of(const cope_work<S>& mine, index_t n) const noexcept { return mine.z.data() + n * z_row(); }
  static const std::int64_t* ids_of(const attention_positions& at, index_t b, const key_span& span) noexcept {
    return span.gaps ? at.keys.row(b).ids + span.begin : nullptr;
  }

  /// Calls act(block, work) for blocks that together are the scores. `together` heads, where it is not 0, stay in one thread with all batch
  /// rows, in order: sums over them must not depend on the threads.
  template <class T, class Act>
  void split(const score_view<T>& scores, const executor& run, index_t together, const Act& act) const {
    const index_t batch = scores.extent(0), queries = scores.extent(2), keys = scores.extent(3);
    const index_t widest = std::max(max_positions(), of_keys() ? keys : 1);
    const index_t count = std::min(queries, std::clamp<index_t>((index_t{1} << 16) / widest, 4, 64)),
                  blocks = (queries + count - 1) / count;
    const index_t unit = together == 0 ? 1 : together * batch * blocks, units = heads() * batch * blocks / unit;
    const double products = static_cast<double>(max_positions()) + (of_keys() ? static_cast<double>(keys) : 0);
    const double cost =
        (nanoseconds_per_product<S>(channels()) * products + 0.2 * static_cast<double>(sizeof(S)) * static_cast<double>(keys)) *
        static_cast<double>(heads() * batch * queries) * (together == 0 ? 1 : 3);
    const index_t parts = run.parts(units, cost);
    std::vector<cope_work<S>> all(static_cast<std::size_t>(parts));
    for (cope_work<S>& mine : all) {
      const auto size = [&](auto& memory, std::initializer_list<index_t> extents) {
        index_t product = 1;
        for (const index_t extent : extents) product = checked_product("cope", std::array{product, extent}, sizeof(double));
        memory.resize(static_cast<std::size_t>(product));
      };
      size(mine.rows, {count, channels()});
      size(mine.z, {count, z_row()});
      size(mine.positions, {keys});
      if (of_keys()) size(mine.gates, {count, keys}), size(mine.key_rows, {keys_together, channels()});
      if (together == 0) continue;
      size(mine.d_z, {count, max_positions()});
      size(mine.sums, {max_positions() + 1});
      if (of_keys()) size(mine.d_keys, {keys, channels()});
      else size(mine.slopes, {keys});
    }
    const index_t group = std::max<index_t>(together, 1);
    run.split(units, parts, [&](index_t part, index_t from, index_t to) {
      for (index_t item = from * unit; item < to * unit; ++item) {
        const index_t block = item % blocks, of_group = item / blocks % group, b = item / (blocks * group) % batch,
                      h = item / (blocks * group * batch) * group + of_group, query = block * count;
        act(cope_block{b, h, query, std::min(count, queries - query), block == 0 && of_group == 0,
                       block + 1 == blocks && of_group + 1 == group},
            all[static_cast<std::size_t>(part)]);
      }
    });
  }

  /// What queries of the block multiply the embeddings to, and their products with gate keys, where gates are of these.
  template <class Q>
  void read(const attention_inputs<Q>& inputs, const visible_spans& spans, const cope_block& block, cope_work<S>& mine) const {
    read_queries(inputs, block, mine);
    if (of_keys()) read_gate_keys(inputs, spans, block, mine);
  }
  template <class Q, class Act>
  void for_each_gate_keys(const attention_inputs<Q>& inputs, const cope_block& block, cope_work<S>& mine, const Act& act) const {
    const index_t head = block.h / (heads() / inputs.gate_keys.count());
    for (index_t done = 0, count; done < mine.width; done += count) {
      count = std::min(keys_together, mine.width - done);
      widen_rows<Q, S>(inputs.gate_keys, block.b, mine.low + done, count, head, mine.key_rows.data(), nullptr, S(1));
      act(mine.low + done, count, mine.key_rows.data());
    }
  }
  template <class Q>
  static const Q* score_row(const attention_inputs<Q>& inputs, const cope_block& block, index_t n, const key_span& span) {
    return inputs.scores ? &inputs.scores(block.b, block.h, block.query + n, span.begin) : nullptr;
  }
  /// `cope_positions` of the gates of query n of the block; row: the scores, for gates of these.
  template <class T>
  index_t count(const T* row, const key_span& span, index_t n, const std::int64_t* ids, const cope_work<S>& mine, S* positions, S* slopes,
                double scale) const {
    const index_t keys = span.end - span.begin;
    if (of_keys())
      return kernels::cope_positions<S>({.scores = mine.gates.data() + n * mine.width + (span.begin - mine.low),
                                         .keys = keys,
                                         .scale = static_cast<S>(scale),
                                         .key_ids = ids,
                                         .last = last(),
                                         .positions = positions,
                                         .slopes = slopes});
    return kernels::cope_positions<kernel_scalar<T>>({.scores = kernel_pointer(row),
                                                      .keys = keys,
                                                      .scale = S(1),
                                                      .key_ids = ids,
                                                      .last = last(),
                                                      .positions = positions,
                                                      .slopes = slopes});
  }

 private:
  static constexpr index_t keys_together = 64;

  index_t heads() const noexcept { return options_.heads; }
  index_t channels() const noexcept { return options_.channels; }
  index_t max_positions() const noexcept { return options_.max_positions; }
  index_t z_row() const noexcept { return max_positions() + kernels::cope_padding; }

  template <class Q>
  void read_queries(const attention_inputs<Q>& inputs, const cope_block& block, cope_work<S>& mine) const {
    widen_rows<Q, S>(inputs.queries, block.b, block.query, block.count, block.h, mine.rows.data(), nullptr, S(1));
    const relative_vectors<S> e = vectors();
    kernels::linear<S>({.x = mine.rows.data(),
                        .y = mine.z.data(),
                        .tokens = block.count,
                        .in = channels(),
                        .out = max_positions(),
                        .x_token = channels(),
                        .y_token = z_row(),
                        .w = e.data + block.h * e.head,
                        .w_row = e.distance});
    const S scale = static_cast<S>(z_scale(inputs.scale));
    for (index_t n = 0; n < block.count; ++n) {
      S* const z = mine.z.data() + n * z_row();
      for (index_t p = 0; p < max_positions(); ++p) z[p] *= scale;
      std::fill_n(z + max_positions(), kernels::cope_padding, z[max_positions() - 1]);
    }
  }
  template <class Q>
  void read_gate_keys(const attention_inputs<Q>& inputs, const visible_spans& spans, const cope_block& block, cope_work<S>& mine) const {
    mine.low = inputs.gate_keys.time();
    index_t high = 0;
    for (index_t n = 0; n < block.count; ++n) {
      const key_span& span = spans(block.b, block.query + n);
      if (span.begin < span.end) mine.low = std::min(mine.low, span.begin), high = std::max(high, span.end);
    }
    mine.width = std::max<index_t>(high - mine.low, 0);
    for_each_gate_keys(inputs, block, mine, [&](index_t from, index_t count, const S* keys) {
      kernels::linear<S>({.x = mine.rows.data(),
                          .y = mine.gates.data() + from - mine.low,
                          .tokens = block.count,
                          .in = channels(),
                          .out = count,
                          .x_token = channels(),
                          .y_token = mine.width,
                          .w = keys,
                          .w_row = channels()});
    });
  }

  const cope_options& options_;
  const S* embeddings_;
};

}  // namespace POSENC_NAMESPACE::detail
