// SPDX-License-Identifier: MIT
#include "encode.hpp"

bytes first() { return encode(); }
