// SPDX-License-Identifier: MIT
/// \file  Relative position encodings: includes only. ALiBi has a header of its own.
#pragma once

// Of sequences, from positions alone.
#include <posenc/relative/dynamic_position_bias.hpp>
#include <posenc/relative/fire.hpp>
#include <posenc/relative/kerple.hpp>
#include <posenc/relative/proximal_bias.hpp>
#include <posenc/relative/sandwich.hpp>
#include <posenc/relative/t5_bias.hpp>

// Of sequences, from queries and keys.
#include <posenc/relative/deberta.hpp>
#include <posenc/relative/gated_bias.hpp>
#include <posenc/relative/music_transformer.hpp>
#include <posenc/relative/project_rows.hpp>
#include <posenc/relative/relative_logits.hpp>
#include <posenc/relative/shaw.hpp>
#include <posenc/relative/transformer_xl.hpp>

// Of pictures and windows.
#include <posenc/relative/continuous_position_bias.hpp>
#include <posenc/relative/decomposed_bias.hpp>
#include <posenc/relative/resize_window_bias.hpp>
#include <posenc/relative/shifted_windows.hpp>
#include <posenc/relative/window_bias.hpp>
#include <posenc/relative/window_mask.hpp>
