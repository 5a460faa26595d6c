// SPDX-License-Identifier: MIT
/// \file  The Fourier family: includes only.
#pragma once

// Of positions.
#include <posenc/fourier/current_length_basis.hpp>
#include <posenc/fourier/fope.hpp>
#include <posenc/fourier/fourier_basis.hpp>

// Of coordinates.
#include <posenc/fourier/fourier_features.hpp>
#include <posenc/fourier/learnable_fourier_features.hpp>
#include <posenc/fourier/random_fourier_features.hpp>
