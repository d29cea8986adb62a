// Inner kernels of float contractions: the blocks of dot32 (numerics/dot32.h) on packed operands, bit for bit.
#pragma once
#include "numerics/dot32.h"
#include "sim/translate/lanes/lanes.h"
#include "sim/translate/pixels.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {

/// Whether kernels know A split, and multiply it in stretches that the first-level cache holds.
inline constexpr bool kSplits = kNativeLanes == 8;
/// Whether kernels know A as bf16 where it lies.
inline constexpr bool kReadsInPlace = kNativeLanes == 16;
inline constexpr int kDotRows = 6;         ///< pixels of a tile
inline constexpr int kDotColumns = 32;     ///< columns of a panel of packed B; a last one that needs no more has 16
inline constexpr int kDotNarrowRows = kNativeLanes == 16 ? 12 : 6;  ///< pixels of a tile where all there is are 16 columns
inline constexpr int kDotPanels = 4;       ///< adjacent panels at once, of a single row

/// Columns of a panel of packed B, of a product with so many outputs, and the bytes from panel to panel.
inline int panel_width(int64_t outputs, int64_t panel) { return outputs - panel * kDotColumns <= kDotColumns / 2 ? kDotColumns / 2 : kDotColumns; }
inline int64_t panel_bytes(int64_t blocks) { return blocks * kDotBlock * kDotColumns * 2; }

/// Rows of A: fp32, `pitch` from row to row, `pairs` pairs of k; or, where `wide` is null, bf16 as they lie, `pairs` pairs under each of `segments` taps.
struct DotRows {
  int count;
  int64_t pairs, segments = 1;
  const float* wide = nullptr;
  int64_t pitch = 0;
  bool split = false;  ///< a block of `wide` has its even elements first, then the odd ones (kSplits)
  PixelPlaces places = {};
};
/// Where the sums of sixteen columns start and where they go, `pitch` floats from row to row; NaNs arrive canonical. May be the same.
struct DotSums {
  const float* from[2 * kDotPanels];
  int64_t from_pitch;
  float* to[2 * kDotPanels];
  int64_t to_pitch;
};

/// Pixels [first, first + count) of a run of bf16, `pitch` bytes apart: `pairs` pairs of k from each of `segments` places on (PixelRuns).
struct DotPoints {
  const uint8_t* const* at;
  int64_t segments, pairs, pitch, first, count;
};

/// sums += A by B in blocks of 16 pairs of k, of which the last may have fewer, over `panels` adjacent panels (1, or up to kDotPanels where count is 1).
/// b: [panel][k / 2][32][2] bf16, `panel_pitch` bytes apart. `narrow`: one panel of 16 columns, up to kDotNarrowRows rows. The caller holds FlushMode.
void multiply_dot32(const DotSums& sums, const DotRows& a, const uint8_t* b, int64_t panel_pitch, int panels, bool narrow);
/// The same for one panel and any number of pixels (kReadsInPlace).
void multiply_points(DotSums sums, DotPoints a, const uint8_t* b, bool narrow);

}  // namespace systole::SYSTOLE_LANES
#endif
