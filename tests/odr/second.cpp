// SPDX-License-Identifier: MIT
#include "encode.hpp"

bytes second() { return encode(); }
