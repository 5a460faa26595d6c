// SPDX-License-Identifier: MIT
/// \file  What encoders may ask for besides positions, and where the gradients of it go.
#pragma once

#include <posenc/config.hpp>
#include <posenc/heads.hpp>  // head_view
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>

namespace POSENC_NAMESPACE {

/// What a score encoder may ask for besides positions; give what you have. Empty views mean "not given", and an encoder that needs one
/// says so in its error. S is the scalar of q and k.
///
/// scores = scale * (q.k + contextual terms before the scale) + bias + mask: the scores come in scaled, and each encoder documents on
/// which side of the scale its terms sit (Shaw and Transformer-XL before it, T5 and ALiBi after).
template <storage_scalar S>
struct attention_inputs {
  required<double> scale;                              ///< what q.k was multiplied by; it has no default
  head_view<const S> queries{}, keys{};                ///< before scaling
  bool causal = false;                                 ///< keys after the query do not count
  index_t window = 0;                                  ///< keys that many positions away do not count; 0: all do
  tensor_view<const compute_t<S>, 3> log_gates{};      ///< of forgetting, [batch, key, head], natural logarithms
  head_view<const S> values{};                         ///< as many as keys
  head_view<const S> gate_keys{};                      ///< what CoPE's gates read instead of the keys, where a model has such
  tensor_view<const compute_t<S>, 2> query_gates{}, key_gates{};  ///< [batch, query] and [batch, key], for `gated`
  tensor_view<const S, 4> scores{};                    ///< [batch, head, query, key] as they came in, where a gradient reads them
};

/// Where the gradients of those inputs are accumulated; empty views are skipped.
template <storage_scalar S>
struct attention_gradients {
  head_view<S> queries{}, keys{};
  tensor_view<compute_t<S>, 3> log_gates{};
  head_view<S> values{}, gate_keys{};
  tensor_view<compute_t<S>, 2> query_gates{}, key_gates{};
};

/// The same for what is added to embeddings. S is the scalar of the embeddings.
template <storage_scalar S>
struct embedding_inputs {
  tensor_view<const compute_t<S>, 2> gates{};  ///< [batch, time], for `gated`
};
template <storage_scalar S>
struct embedding_gradients {
  tensor_view<compute_t<S>, 2> gates{};
};

/// What may ride on the pass of a bias over the scores: score = score * scale + bias, then minus infinity where `causal` and the key's
/// position lies after the query's. The default adds the bias and nothing else.
struct score_pass {
  double scale = 1;
  bool causal = false;
};

/// Where a tile `[query, key]` of the scores of one batch row and head lies in the whole: for fused attention, which never holds more.
struct tile_place {
  index_t batch, head, query, key;  ///< of the tile's first element
};

}  // namespace POSENC_NAMESPACE
