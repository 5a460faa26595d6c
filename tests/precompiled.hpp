// SPDX-License-Identifier: MIT
/// \file  What nearly every test includes, compiled once. Never included by hand: the build puts it in front of each test.
#pragma once

// Eigen's thread pool exists only where this stands before the first inclusion of Eigen, so it must stand here.
#ifndef EIGEN_USE_THREADS
#define EIGEN_USE_THREADS
#endif

#if __has_include(<unsupported/Eigen/CXX11/Tensor>)
#include <unsupported/Eigen/CXX11/Tensor>
#else
#include <unsupported/Eigen/Tensor>
#endif

#include "catch.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#if !POSENC_PLAIN_LOOPS
#include "kernels/once.hpp"
#endif
