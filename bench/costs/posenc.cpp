// SPDX-License-Identifier: MIT
#include <posenc/rope.hpp>

int main() {}
