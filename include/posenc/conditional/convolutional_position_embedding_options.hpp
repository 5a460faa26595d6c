// SPDX-License-Identifier: MIT
/// \file  Which convolutions a convolutional position embedding is made of.
#pragma once

#include <posenc/config.hpp>
#include <posenc/required.hpp>
#include <posenc/tensor.hpp>  // index_t

namespace POSENC_NAMESPACE {

struct convolutional_position_embedding_options {
  required<index_t> dim;
  required<index_t> groups;  ///< that divide the channels; each output reads those of its own
  required<index_t> kernel;  ///< frames that an output sees: kernel / 2 before its own, (kernel - 1) / 2 after it
  bool weight_norm = true;
  bool layer_norm = false;  ///< before each activation, without parameters, with epsilon 1e-5
  index_t layers = 1;       ///< one after the other, before all is added to x

  /// wav2vec 2.0, HuBERT and WavLM, base and large (dim 768 and 1024).
  static convolutional_position_embedding_options wav2vec2(index_t dim) { return {.dim = dim, .groups = 16, .kernel = 128}; }
  static convolutional_position_embedding_options data2vec_audio(index_t dim) {
    return {.dim = dim, .groups = 16, .kernel = 19, .weight_norm = false, .layer_norm = true, .layers = 5};
  }
  friend bool operator==(const convolutional_position_embedding_options&, const convolutional_position_embedding_options&) = default;
};

}  // namespace POSENC_NAMESPACE
