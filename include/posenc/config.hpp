// SPDX-License-Identifier: MIT
/// \file  The version and every macro of the library. There are no others: what kernels define for themselves, they undefine.
#pragma once

/// major * 10000 + minor * 100 + patch. CMake reads the version from this line.
#define POSENC_VERSION 100

/// Opens the library's namespace. Its inline part carries the version, so that two versions in one program do not collide:
/// `namespace POSENC_NAMESPACE { ... }`.
#define POSENC_NAMESPACE posenc::inline v0_1

/// Checks what kernels assume of their callers; silent under NDEBUG. Define it before inclusion to report in another way.
#ifndef POSENC_ASSERT
#include <cassert>
#define POSENC_ASSERT(condition) assert(condition)
#endif

/// Define as 1 before inclusion to leave out vector extensions and run-time dispatch: every kernel is then plain loops through the
/// same source, with the same bits. This is also what compilers other than GCC and clang get.
#ifndef POSENC_PLAIN_LOOPS
#if defined(__GNUC__)
#define POSENC_PLAIN_LOOPS 0
#else
#define POSENC_PLAIN_LOOPS 1
#endif
#endif
