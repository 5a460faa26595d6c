// SPDX-License-Identifier: MIT
/// \file  Everything: position encodings on Eigen tensors. But for `analysis.hpp`, which programs that only encode do not need.
#pragma once

// What encoders are and what they are given.
#include <posenc/concepts.hpp>   // position_encoder and its kin, the four stages of a transformer
#include <posenc/gradients.hpp>  // parameters, gradient twins
#include <posenc/heads.hpp>      // q, k, v and contexts
#include <posenc/inputs.hpp>     // what encoders may ask for besides positions
#include <posenc/positions.hpp>  // which position each token has
#include <posenc/required.hpp>   // options without a default
#include <posenc/tensor.hpp>     // accepted tensors, views

// Where positions come from.
#include <posenc/augment.hpp>               // coordinates moved and stretched at random
#include <posenc/cape.hpp>                  // positions centred, moved and stretched at random
#include <posenc/coordinates.hpp>           // fractional positions
#include <posenc/dual_chunk_positions.hpp>  // long contexts in chunks
#include <posenc/grid.hpp>                  // pictures and films
#include <posenc/grid_coordinates.hpp>      // the same, scaled by different systems
#include <posenc/masked_grid.hpp>           // padded pictures
#include <posenc/multimodal_positions.hpp>  // text, pictures and films in one sequence
#include <posenc/random.hpp>                // portable random numbers
#include <posenc/randomized_positions.hpp>  // short sequences at positions of long ones

// Encoders.
#include <posenc/alibi.hpp>
#include <posenc/attention_temperature.hpp>
#include <posenc/conditional.hpp>
#include <posenc/fourier.hpp>
#include <posenc/learned.hpp>
#include <posenc/learned/axial_learned.hpp>
#include <posenc/no_encoding.hpp>
#include <posenc/relative.hpp>
#include <posenc/rope.hpp>
#include <posenc/rope/axial_rope.hpp>
#include <posenc/rope/learned_rope.hpp>
#include <posenc/rope/multimodal_rope.hpp>
#include <posenc/rope/pope.hpp>
#include <posenc/rope/xpos.hpp>
#include <posenc/scalable_softmax.hpp>
#include <posenc/sinusoidal.hpp>
#include <posenc/sinusoidal/axial_sinusoidal.hpp>

// Codes and embeddings joined, several encoders as one.
#include <posenc/combine.hpp>

// How it works and how to steer it.
#include <posenc/config.hpp>                          // version, macros
#include <posenc/distance_biases.hpp>                 // what a bias encoder adds, by distance
#include <posenc/error.hpp>                           // argument_error
#include <posenc/executor.hpp>                        // threads, streaming stores
#include <posenc/frequencies.hpp>                     // how fast channel pairs turn
#include <posenc/kernels/instruction_set.hpp>         // pinning
#include <posenc/learned/initialize.hpp>              // what tables are trained from
#include <posenc/learned/resize.hpp>                  // tables of another length or grid
#include <posenc/phase.hpp>                           // angles as fixed-point turns
#include <posenc/rope/convert_pairing.hpp>            // weights and cached keys of another pairing
#include <posenc/sinusoidal/channel_permutation.hpp>  // codes and weights of another channel order
