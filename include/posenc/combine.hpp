// SPDX-License-Identifier: MIT
/// \file  Codes and embeddings joined, and several encoders as one.
#pragma once

#include <posenc/combine/compose.hpp>
#include <posenc/combine/concatenate.hpp>
#include <posenc/combine/concatenate_project.hpp>
#include <posenc/combine/dropout.hpp>
#include <posenc/combine/gated.hpp>
#include <posenc/combine/on_axis.hpp>
#include <posenc/combine/scaled_sum.hpp>
