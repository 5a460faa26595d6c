// SPDX-License-Identifier: MIT
/// \file  Where the sine and the cosine of a frequency stand.
#pragma once

#include <posenc/config.hpp>

namespace POSENC_NAMESPACE {

/// Of frequency k. Systems differ, and checkpoints do not record it.
enum class channel_order {
  interleaved,  ///< channels 2k and 2k + 1: the paper, Annotated Transformer, DistilBERT, DETR, keras-hub, multidim-positional-encoding
  sin_cos,      ///< all sines, then all cosines: tensor2tensor, fairseq, Whisper, Marian, MAE, Transformer-XL, CTranslate2, diffusers
  cos_sin       ///< all cosines, then all sines: guided-diffusion, ggml, diffusers' flip_sin_to_cos, MLX's cos_first
};

}  // namespace POSENC_NAMESPACE
