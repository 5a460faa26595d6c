// SPDX-License-Identifier: MIT
/// \file  Everything: position encodings on Eigen tensors.
#pragma once

// What encoders are and what they are given.
#include <posenc/concepts.hpp>   // position_encoder and its kin, the four stages of a transformer
#include <posenc/gradients.hpp>  // parameters, gradient twins
#include <posenc/heads.hpp>      // q, k, v and contexts
#include <posenc/positions.hpp>  // which position each token has
#include <posenc/required.hpp>   // options without a default
#include <posenc/tensor.hpp>     // accepted tensors, views

// Where positions come from.
#include <posenc/augment.hpp>               // coordinates moved and stretched at random
#include <posenc/coordinates.hpp>           // fractional positions
#include <posenc/dual_chunk_positions.hpp>  // long contexts in chunks
#include <posenc/grid.hpp>                  // pictures and films
#include <posenc/grid_coordinates.hpp>      // the same, scaled by different systems
#include <posenc/multimodal_positions.hpp>  // text, pictures and films in one sequence
#include <posenc/random.hpp>                // portable random numbers
#include <posenc/randomized_positions.hpp>  // short sequences at positions of long ones

// Encoders.
#include <posenc/alibi.hpp>
#include <posenc/no_encoding.hpp>
#include <posenc/rope.hpp>
#include <posenc/rope/axial_rope.hpp>
#include <posenc/rope/learned_rope.hpp>
#include <posenc/rope/multimodal_rope.hpp>
#include <posenc/rope/pope.hpp>
#include <posenc/rope/xpos.hpp>
#include <posenc/sinusoidal.hpp>

// Several encoders as one.
#include <posenc/combine.hpp>

// How it works and how to steer it.
#include <posenc/config.hpp>                   // version, macros
#include <posenc/error.hpp>                    // argument_error
#include <posenc/executor.hpp>                 // threads, streaming stores
#include <posenc/frequencies.hpp>              // how fast channel pairs turn
#include <posenc/kernels/instruction_set.hpp>  // pinning
#include <posenc/phase.hpp>                    // angles as fixed-point turns
#include <posenc/rope/convert_pairing.hpp>     // weights and cached keys of another pairing
