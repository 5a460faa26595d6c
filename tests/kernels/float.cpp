// SPDX-License-Identifier: MIT
#include "kernels/once.hpp"

namespace POSENC_NAMESPACE::kernels {
POSENC_KERNELS_OF(, float)
POSENC_KERNELS_OF_WIDE(, float)
POSENC_KERNELS_OF_FLOATS(, float)
}  // namespace POSENC_NAMESPACE::kernels
