// SPDX-License-Identifier: MIT
#include "kernels/once.hpp"

namespace POSENC_NAMESPACE::kernels {
POSENC_KERNELS_OF(, bfloat16)
POSENC_KERNELS_OF_FLOATS(, bfloat16)
POSENC_KERNELS_OF_HALVES(, bfloat16)
}  // namespace POSENC_NAMESPACE::kernels
