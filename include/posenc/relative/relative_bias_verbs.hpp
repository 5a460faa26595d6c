// SPDX-License-Identifier: MIT
/// \file  The verbs of biases that are looked up or computed from the positions of a pair: T5, KERPLE, FIRE, Sandwich, ...
#pragma once

#include <posenc/bias_verbs.hpp>
#include <posenc/config.hpp>
#include <posenc/error.hpp>               // require
#include <posenc/executor.hpp>
#include <posenc/gradients.hpp>           // gradient_spans
#include <posenc/kernels/table_bias.hpp>  // every loop over keys lives there
#include <posenc/positions.hpp>
#include <posenc/relative/bias_table.hpp>
#include <posenc/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <numeric>
#include <vector>

namespace POSENC_NAMESPACE {

/// The verbs of `bias_verbs`, `value`, `distance_biases` and `bias_backward` from one function of Derived, which says the biases of a query
/// and some keys for some heads.
///
/// Where the distance alone decides, a table `[head, distance]` is read: of the distances that occur, so its size is heads * (queries +
/// keys), made once by `prepare` for all layers, or else in the call. Where ids are so far apart that it would be more than four times
/// that, and where the query's position counts too, the biases are formed for one query after the other, heads * keys at a time. The bits
/// are the same.
///
/// Derived offers
///   name(), heads(), and to this class:
///   biases(head, heads, query, keys, count, out, stride)   out[h * stride + n] = the bias of head + h between a query and keys[n]
///   add_gradient(query, keys, count, d, stride, sums)       sums += the gradient of all parameters, in their order, where d[h * stride +
///   n]
///                                                           is that of these biases of all heads; only if it has `parameters()`
///   ends()                                                  outside these distances the bias is that of the nearest end
///   distance_decides(at)                                    whether at these positions the distance alone decides
///   nanoseconds_per_bias()                                  what forming one takes, roughly
template <class Derived, compute_scalar S>
class relative_bias_verbs : public bias_verbs<Derived, S> {
 public:
  using state = bias_table<S>;

  /// The biases at these positions, for all layers. In a training step: after each change of the parameters.
  state prepare(const attention_positions& at, const executor& = {}) const {
    require(at.queries.axes() == 1 && at.keys.axes() == 1, this->derived().name(), "positions must have one axis", at.queries.axes(),
            at.keys.axes());
    return table_of(at, 0, this->derived().heads());
  }

  /// What `bias` adds to the score of one pair. \throws argument_error  unless the head exists.
  S value(index_t head, position query, position key) const {
    const Derived& self = this->derived();
    require(head >= 0 && head < self.heads(), self.name(), "head must lie within the heads", self.heads(), head);
    if (query == no_position || key == no_position) return S(0);
    S bias;
    self.biases(head, 1, query, &key, 1, &bias, 1);
    return bias;
  }

  /// The gradient of `bias`: adds to d_parameters, one span per parameter; d_scores becomes the gradient of the scores that came in, which
  /// differs only where a `score_pass` scaled or masked. Sums are formed in double, in an order that depends on shapes and positions alone.
  /// Allocates 8 bytes per entry of the table.
  template <writable_tensor T, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S>)
  void bias_backward(T&& d_scores, const At& at, gradient_spans<S> d_parameters, const score_pass& pass, const executor& run = {}) const {
    const score_view<element_t<T>> d = d_scores;
    this->require_fits(d, at);
    const std::vector<index_t> sizes = parameter_sizes();
    const std::string_view who = this->derived().name();
    require(d_parameters.size() == sizes.size(), who, "there must be one gradient span per parameter", sizes.size(), d_parameters.size());
    for (std::size_t n = 0; n < sizes.size(); ++n)
      require(static_cast<index_t>(d_parameters[n].size()) == sizes[n], who, "gradient spans must have the sizes of the parameters",
              sizes[n], d_parameters[n].size());
    if (d.empty()) return;
    std::vector<double> sums(static_cast<std::size_t>(std::reduce(sizes.begin(), sizes.end())));
    backward(d, detail::positions_of(at), pass, run, sums);
    std::size_t n = 0;
    for (const auto& span : d_parameters)
      for (S& value : span) value += static_cast<S>(sums[n++]);
  }
  template <writable_tensor T, detail::placed_scores At = attention_positions>
    requires(rank_of<T> == 4 && writable_as<element_t<T>, S>)
  void bias_backward(T&& d_scores, const At& at, gradient_spans<S> d_parameters, const executor& run = {}) const {
    bias_backward(d_scores, at, d_parameters, score_pass{}, run);
  }

 protected:
  relative_bias_verbs() = default;

  // What most encoders say; hidden by a member of Derived.
  static constexpr distance_range ends() noexcept { return {std::numeric_limits<position>::min(), std::numeric_limits<position>::max()}; }
  static constexpr bool distance_decides(const attention_positions&) noexcept { return true; }
  static constexpr double nanoseconds_per_bias() noexcept { return 20; }

 private:
  friend bias_verbs<Derived, S>;

  /// Distances that need a table of their own, of positions at hand. Not `low <= high`: no table.
  distance_range table_range(const attention_positions& at) const {
    const Derived& self = this->derived();
    distance_range all = detail::distances_between(at);
    if (all.low > all.high) all = {0, 0};  // no pair has a bias
    const distance_range ends = self.ends();
    all = {std::clamp(all.low, ends.low, ends.high), std::clamp(all.high, ends.low, ends.high)};
    const index_t most = 4 * (at.queries.time() + at.keys.time()) + 64;
    const bool few = all.low >= -positions::limit && all.high <= positions::limit && all.high - all.low < most;
    return few && self.distance_decides(at) ? all : distance_range{1, 0};
  }

  state table_of(const attention_positions& at, index_t head, index_t heads) const {
    const distance_range range = table_range(at);
    if (range.low > range.high) return state(at);
    const index_t count = range.high - range.low + 1;
    std::shared_ptr<S[]> values(
        new S[static_cast<std::size_t>(checked_product(this->derived().name(), std::array{heads, count}, sizeof(S)))]);
    const std::vector<position> distances = counting(range);
    this->derived().biases(head, heads, 0, distances.data(), count, values.get(), count);
    return state(at, std::move(values), heads, range);
  }
  static std::vector<position> counting(const distance_range& range) {
    std::vector<position> all(static_cast<std::size_t>(range.high - range.low + 1));
    std::iota(all.begin(), all.end(), range.low);
    return all;
  }

  const state& ready(const state& table) const {
    const tensor_view<const S, 2> values = table.values();
    require(values.empty() || values.extent(0) == this->derived().heads(), this->derived().name(), "the table must be of this encoder",
            this->derived().heads(), values.extent(0));
    return table;
  }
  state ready(const attention_positions& at) const { return table_of(at, 0, this->derived().heads()); }

  template <class T, class In, class At>
  void run_scores(const score_view<In>& in, const score_view<T>& out, const At& given, const score_pass& pass, const executor& run) const {
    const state& table = ready(given);  // lives on where it is made here
    const attention_positions& at = table.at();
    const index_t heads = out.extent(1), queries = out.extent(2), keys = out.extent(3);
    const bool tabulated = !table.values().empty();
    if (tabulated && (pass.causal || !detail::scattered(at.keys)))
      return detail::for_each_score_block(out, run, detail::nanoseconds_per_value<T>,
                                          [&](index_t b, index_t head, index_t count, index_t query, index_t query_count) {
                                            run_table(detail::block_of(in, out, at, pass, b, head, count, query, query_count), table, head);
                                          });
    const index_t rows = out.extent(0) * queries;
    const double cost =
        (tabulated ? 1 : this->derived().nanoseconds_per_bias()) * static_cast<double>(rows * heads) * static_cast<double>(keys);
    const index_t parts = run.parts(rows, cost), spare = heads * keys;
    std::vector<S> values(static_cast<std::size_t>(parts * spare));
    std::vector<position> ids(static_cast<std::size_t>(parts * keys));
    run.split(rows, parts, [&](index_t part, index_t from, index_t to) {
      for (; from < to; ++from) {
        const index_t b = from / queries, query = from % queries;
        run_row(detail::block_of(in, out, at, pass, b, 0, heads, query, 1), table, 0, values.data() + part * spare,
                ids.data() + part * keys);
      }
    });
  }

  template <class T, class At>
  void run_tile(const kernels::score_block<T>& block, const At& at, const tile_place& place) const {
    const index_t head = place.head;
    if constexpr (std::same_as<At, state>)
      if (!at.values().empty()) return run_table(block, ready(at), head);
    if (!block.query_ids && !block.key_ids && this->derived().distance_decides(detail::positions_of(at))) {
      const attention_positions own{positions::range(block.queries, block.query_first), positions::range(block.keys, block.key_first)};
      return run_table(block, table_of(own, head, 1), 0);
    }
    std::vector<S> values(static_cast<std::size_t>(block.keys));
    std::vector<position> ids(static_cast<std::size_t>(block.keys));
    const state no_table(detail::positions_of(at));
    for (index_t i = 0; i < block.queries; ++i) run_row(row_of(block, i), no_table, head, values.data(), ids.data());
  }

  /// Query i of a block.
  template <class T>
  static kernels::score_block<T> row_of(kernels::score_block<T> block, index_t i) {
    block.scores += i * block.query;
    if (block.in) block.in += i * block.in_query;
    if (block.query_ids) block.query_ids += i;
    block.query_first += i;
    block.queries = 1;
    return block;
  }

  template <class T>
  static kernels::table_bias_call<T> call_of(const kernels::score_block<T>& block, const state& table, index_t head) {
    const tensor_view<const S, 2> values = table.values();
    return {block,
            nullptr,
            0,
            values.data() + head * values.stride(0),
            values.stride(0),
            0,
            kernels::value_of::distance,
            table.distances().low,
            values.extent(1),
            true};
  }
  template <class T>
  static void run_table(const kernels::score_block<T>& block, const state& table, index_t head) {
    detail::for_each_call(block, call_of(block, table, head), [](const auto& call, index_t) { kernels::table_bias(call); });
  }

  /// One query of all heads of the block, from `head` on, looked up in the table if it is not empty; values `[head, key]` and ids `[key]`
  /// are spare memory.
  template <class T>
  void run_row(const kernels::score_block<T>& block, const state& table, index_t head, S* values, position* ids) const {
    const position query = position_row{block.query_ids, block.query_first}[0];
    if (query != no_position) {
      placed_keys(block, query, ids);
      // What the mask hides, nobody reads: half of the work where a network forms each bias.
      const bool hides_last = block.causal && !block.key_ids;
      const index_t seen =
          hides_last ? static_cast<index_t>(std::clamp<position>(detail::distance_of(query, block.key_first), -1, block.keys - 1)) + 1
                     : block.keys;
      if (table.values().empty()) this->derived().biases(head, block.heads, query, ids, seen, values, block.keys);
      else look_up(table, head, block.heads, query, ids, block.keys, values);
    }
    const kernels::table_bias_call<T> all{block, nullptr, 0, values, block.keys, 0, kernels::value_of::key, 0, block.keys, false};
    detail::for_each_call(block, all, [](auto call, index_t from) {
      call.values += from, call.count = call.keys;
      kernels::table_bias(call);
    });
  }
  /// What `biases` would write, from the table; ids: the positions of the keys, which are written over.
  static void look_up(const state& table, index_t head, index_t heads, position query, position* ids, index_t keys, S* values) {
    const distance_range range = table.distances();
    for (index_t j = 0; j < keys; ++j) ids[j] = std::clamp(detail::distance_of(ids[j], query), range.low, range.high) - range.low;
    for (index_t h = 0; h < heads; ++h) {
      const S* const row = table.values().data() + (head + h) * table.values().stride(0);
      for (index_t j = 0; j < keys; ++j) values[h * keys + j] = row[ids[j]];
    }
  }
  /// The positions of the keys; for keys that have none the query's, whose bias nobody reads.
  template <class T>
  static const position* placed_keys(const kernels::score_block<T>& block, position query, position* ids) {
    const position_row keys{block.key_ids, block.key_first};
    for (index_t j = 0; j < block.keys; ++j) ids[j] = keys[j] == no_position ? query : keys[j];
    return ids;
  }

  std::vector<index_t> parameter_sizes() const {
    std::vector<index_t> sizes;
    if constexpr (requires(Derived& self) { self.parameters(); })
      for (const auto& one : const_cast<Derived&>(this->derived()).parameters()) sizes.push_back(static_cast<index_t>(one.values.size()));
    return sizes;
  }

  template <class T>
  void backward(const score_view<T>& d, const attention_positions& at, const score_pass& pass, const executor& run,
                std::vector<double>& sums) const {
    const Derived& self = this->derived();
    const index_t batch = d.extent(0), heads = d.extent(1), queries = d.extent(2), keys = d.extent(3);
    const double cost = 4 * detail::nanoseconds_per_value<T> * static_cast<double>(batch * heads) * static_cast<double>(queries * keys);
    const distance_range range = table_range(at);
    if (range.low <= range.high) {
      const index_t count = range.high - range.low + 1;
      std::vector<double> d_values(static_cast<std::size_t>(checked_product(self.name(), std::array{heads, count}, sizeof(double))));
      // By heads alone: the order of a sum must not depend on the threads.
      run.split(heads, run.parts(heads, cost), [&](index_t, index_t from, index_t to) {
        for (index_t b = 0; b < batch; ++b) {
          const auto block = detail::block_of(d, d, at, pass, b, from, to - from, 0, queries);
          const kernels::table_bias_call<kernel_scalar<T>> all{block,     nullptr, 0,   nullptr, count, 0, kernels::value_of::distance,
                                                               range.low, count,   true};
          detail::for_each_call(block, all, [&](const auto& call, index_t) {
            kernels::table_bias_gradient<kernel_scalar<T>, double>({call, d_values.data() + from * count});
          });
        }
      });
      if constexpr (requires(Derived& e) { e.parameters(); })
        self.add_gradient(0, counting(range).data(), count, d_values.data(), count, sums.data());
      return;
    }
    // Ranges of rows that do not depend on the threads, and sums of their own: so the bits do not either.
    const index_t rows = batch * queries, parts = std::min<index_t>(rows, 16), size = static_cast<index_t>(sums.size());
    std::vector<double> part_sums(static_cast<std::size_t>(parts * size)), d_values(static_cast<std::size_t>(parts * heads * keys));
    std::vector<position> ids(static_cast<std::size_t>(parts * keys));
    run.split(parts, run.parts(parts, cost * 10), [&](index_t, index_t first, index_t last) {
      for (index_t part = first; part < last; ++part)
        for (index_t row = rows * part / parts; row < rows * (part + 1) / parts; ++row) {
          const auto block = detail::block_of(d, d, at, pass, row / queries, 0, heads, row % queries, 1);
          double* const own = d_values.data() + part * heads * keys;
          std::fill_n(own, heads * keys, 0.0);
          const kernels::table_bias_call<kernel_scalar<T>> all{block, nullptr, 0, nullptr, keys, 0, kernels::value_of::key, 0, keys, false};
          detail::for_each_call(block, all, [&](auto call, index_t from) {
            call.count = call.keys;
            kernels::table_bias_gradient<kernel_scalar<T>, double>({call, own + from});
          });
          const position query = position_row{block.query_ids, block.query_first}[0];
          if (query == no_position) continue;
          if constexpr (requires(Derived& e) { e.parameters(); })
            self.add_gradient(query, placed_keys(block, query, ids.data() + part * keys), keys, own, keys, part_sums.data() + part * size);
        }
    });
    for (index_t part = 0; part < parts; ++part)
      for (index_t n = 0; n < size; ++n) sums[static_cast<std::size_t>(n)] += part_sums[static_cast<std::size_t>(part * size + n)];
  }
};

}  // namespace POSENC_NAMESPACE
