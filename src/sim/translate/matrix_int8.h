// Inner kernels of integer contractions: u8 rows of A against packed s8 columns of B, exact in int32.
#pragma once
#include <cstdint>

namespace systole {

inline constexpr int kInt8Rows = 12;       ///< pixels of a tile: 12 x 2 accumulator registers, two of B, one of A
inline constexpr int kInt8Columns = 32;    ///< columns of a panel of packed B
inline constexpr int kInt8Depth = 4;       ///< k packed together

/// sums[row][32 or 16] = sum over segments and quads of A B. rows: `segments` x `count` pointers, segment-major; each
/// is read for 4 x quads bytes. `narrow`: the panel has 16 columns. `turn`: A's top bits are turned on the way, which makes
/// signed bytes unsigned ones 128 higher.
void multiply_int8(int32_t* sums, const uint8_t* const* rows, int count, int64_t segments, int64_t quads, const uint8_t* b, bool narrow, bool turn);

}  // namespace systole
