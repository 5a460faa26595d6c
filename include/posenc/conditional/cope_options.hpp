// SPDX-License-Identifier: MIT
/// \file  The options of `cope`.
#pragma once

#include <posenc/config.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>  // index_t

namespace POSENC_NAMESPACE {

/// What the gate of a query and a key is the sigmoid of. Checkpoints do not record it.
enum class cope_gates {
  scores,    ///< the score as it comes in: the paper's, x-transformers'
  gate_keys  ///< scale * (q . k) of the `gate_keys` of the inputs (cope_sep_key); of the values, if these are given (cope_val_gates)
};

/// On which side of the scale the bias stands. Checkpoints do not record it.
enum class cope_bias {
  scaled,   ///< scale * (q . k + bias): the authors' training code by default
  unscaled  ///< scale * (q . k) + bias: the paper's listing, x-transformers; cope_nodiv in the authors' code
};

struct cope_options {
  required<index_t> heads;
  required<index_t> channels;       ///< of a head
  required<index_t> max_positions;  ///< npos: 16 in x-transformers, 64 in the paper's experiments on text
  required<cope_gates> gates;
  required<cope_bias> bias;
  bool per_head = false;            ///< each head has embeddings of its own

  friend bool operator==(const cope_options& a, const cope_options& b) {
    return index_t{a.heads} == b.heads && index_t{a.channels} == b.channels && index_t{a.max_positions} == b.max_positions &&
           cope_gates{a.gates} == b.gates && cope_bias{a.bias} == b.bias && a.per_head == b.per_head;
  }
};

}  // namespace POSENC_NAMESPACE
