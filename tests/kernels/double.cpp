// SPDX-License-Identifier: MIT
#include "kernels/once.hpp"

namespace POSENC_NAMESPACE::kernels {
POSENC_KERNELS_OF(, double)
POSENC_KERNELS_OF_WIDE(, double)
}  // namespace POSENC_NAMESPACE::kernels
