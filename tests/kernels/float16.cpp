// SPDX-License-Identifier: MIT
#include "kernels/once.hpp"

namespace POSENC_NAMESPACE::kernels {
POSENC_KERNELS_OF(, float16)
POSENC_KERNELS_OF_FLOATS(, float16)
POSENC_KERNELS_OF_HALVES(, float16)
}  // namespace POSENC_NAMESPACE::kernels
