// SPDX-License-Identifier: MIT
/// \file  Conditional position encodings, which change with what the tokens are: includes only.
#pragma once

// Convolutions of the tokens.
#include <posenc/conditional/conv_relative_position.hpp>
#include <posenc/conditional/convolutional_position_embedding.hpp>
#include <posenc/conditional/peg.hpp>

// Biases that read queries, keys or gates.
#include <posenc/conditional/cope.hpp>
#include <posenc/conditional/cumulative_gates.hpp>
#include <posenc/conditional/forget_gate.hpp>
#include <posenc/conditional/forgetting_gates.hpp>
#include <posenc/conditional/log_sigmoid.hpp>
#include <posenc/conditional/row_forgetting_gates.hpp>
