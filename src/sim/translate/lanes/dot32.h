// Inner kernels of float contractions: the blocks of dot32 (numerics/dot32.h) on packed operands, bit for bit.
#pragma once
#include "machine/cost.h"
#include "numerics/dot32.h"
#include "sim/translate/lanes/lanes.h"
#include "sim/translate/pair_products.h"
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
inline constexpr int kQuadNarrowRows = 14;  ///< the same of multiply_points with quads: pictures of 14, 28, 56
inline constexpr int kDotPanels = 4;       ///< adjacent panels at once, of a single row

/// Columns of a panel of packed B, of a product with so many outputs, and the bytes from panel to panel.
inline int panel_width(int64_t outputs, int64_t panel) { return outputs - panel * kDotColumns <= kDotColumns / 2 ? kDotColumns / 2 : kDotColumns; }
inline int64_t panel_bytes(int64_t blocks) { return blocks * kDotBlock * kDotColumns * 2; }

/// Whether an instruction's B comes in fours of k and its A as bf16 rows, for products of pairs (pair_products.h). Taps of two channels more than a
/// four are not worth the copies of A, unless many columns read them.
inline bool in_quads(const isa::MatrixOp& op) {
  const isa::MatrixDesc& d = *op.desc;
  const bool whole = static_cast<MacFormat>(d.format) != MacFormat::kBF16 || (int64_t{d.channels} + 1) / 2 * d.kernel_w % 2 == 0;
  return kReadsInPlace && has_pair_products() && (whole || op.n > 2 * kDotColumns);
}
/// Bytes from the start of a panel of `width` columns to a number of packed B. Pairs of k: the even one and the odd one of each column. Fours: as
/// pairs of the even ones and of the odd ones, each turned around, of columns 0, 1, 4, 5 ... of sixteen, then 2, 3, 6, 7 ...
inline int64_t packed_place(int64_t k, int64_t column, int64_t width, bool quads) {
  if (!quads) return (k / 2 * width + column) * 4 + k % 2 * 2;
  const int64_t sixteen = k / 4 * width * 8 + column / 16 * 128, place = column % 4 / 2 * 16 + column / 4 % 4 * 4 + column % 2 * 2 + k % 2;
  return sixteen + place * 4 + (k % 4 < 2 ? 2 : 0);
}

/// Rows of A: fp32, `pitch` from row to row, `pairs` pairs of k; or, where `wide` is null, bf16 as they lie, `pairs` pairs under each of `segments` taps.
struct DotRows {
  int count;
  int64_t pairs, segments = 1;
  const float* wide = nullptr;
  int64_t pitch = 0;
  bool split = false;  ///< a block of `wide` has its even elements first, then the odd ones (kSplits)
  PixelPlaces places = {};
  bool quads = false;  ///< `pairs` is even, and B in fours of k
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
  bool quads = false;  ///< as in DotRows
};

/// sums += A by B in blocks of 16 pairs of k, of which the last may have fewer, over `panels` adjacent panels (1, or up to kDotPanels where count is 1).
/// b: [panel] as packed_place says, `panel_pitch` bytes apart. `narrow`: one panel of 16 columns, up to kDotNarrowRows rows. The caller holds FlushMode.
void multiply_dot32(const DotSums& sums, const DotRows& a, const uint8_t* b, int64_t panel_pitch, int panels, bool narrow);
/// The same for one panel and any number of pixels (kReadsInPlace).
void multiply_points(DotSums sums, DotPoints a, const uint8_t* b, bool narrow);

}  // namespace systole::SYSTOLE_LANES
#endif
