// SPDX-License-Identifier: MIT
// What every program with Eigen tensors compiles anyway.
#include <unsupported/Eigen/CXX11/Tensor>

int main() {}
