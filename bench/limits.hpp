// SPDX-License-Identifier: MIT
/// \file  What the memory allows: the least that can be done to the same bytes, as fast as the instruction set in use can do it.
#pragma once

#include <cstddef>

namespace bench::limits {

// Counts are of bytes, and multiples of 256; memory is aligned to 64 bytes.

/// Reads and writes all of it in place: flips one bit in four bytes, the sign of a float.
void flip(void* data, std::size_t count);

/// data += other.
void add(float* data, const float* other, std::size_t count);

/// Reads only.
void read(const void* data, std::size_t count);

/// Writes only.
void fill(void* data, std::size_t count);

/// Ordinary stores, as in `std::memcpy`; of 16 bytes each in the second. Which of the three is fastest depends on the size.
void copy(void* to, const void* from, std::size_t count);
void copy_narrow(void* to, const void* from, std::size_t count);

/// Stores past the caches: faster where the output does not fit in them, and much slower where it does.
void copy_past_caches(void* to, const void* from, std::size_t count);

}  // namespace bench::limits
