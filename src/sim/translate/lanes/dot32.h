// Inner kernels of float contractions: the blocks of dot32 (numerics/dot32.h) on packed operands, bit for bit.
#pragma once
#include "sim/translate/lanes/lanes.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {

/// Whether kernels know A split, and multiply it in stretches that the first-level cache holds.
inline constexpr bool kSplits = kNativeLanes == 8;
inline constexpr int kDotRows = 6;         ///< pixels of a tile
inline constexpr int kDotColumns = 32;     ///< columns of a panel of packed B
inline constexpr int kDotNarrowRows = kNativeLanes == 16 ? 12 : 6;  ///< pixels of a tile where all there is are 16 columns

/// sums[row][column] accumulates `pairs` pairs of k, in blocks of 16 of which the last may have fewer, over `panels` adjacent panels (1, or up to 4 where count is 1).
/// a: rows of fp32, `a_pitch` apart; b: [panel][k / 2][32][2] bf16, `panel_bytes` apart. sums rows are kDotColumns x
/// panels apart. `split`: a block of A has its even elements first, then the odd ones (kSplits). `narrow`: one panel of 16 columns, up to kDotNarrowRows rows, 16 apart. The caller holds FlushMode.
void multiply_dot32(float* sums, const float* a, int64_t a_pitch, int count, const uint8_t* b, int64_t panel_bytes, int panels, int64_t pairs, bool narrow, bool split = false);

}  // namespace systole::SYSTOLE_LANES
#endif
