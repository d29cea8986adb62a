// Rows of A of an integer contraction, and the inner kernel that multiplies them by packed B, exact in int32.
#pragma once
#include "isa/sequencer.h"
#include "sim/translate/lanes/lanes.h"
#include "sim/translate/pixels.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {

inline constexpr int kIntegerRows = kNativeLanes == 16 ? 12 : 6;  ///< pixels of a tile
inline constexpr int kIntegerNarrowRows = kNativeLanes == 16 ? 14 : 6;  ///< of one with 16 columns
inline constexpr int kIntegerColumns = 32;                        ///< columns of a panel of packed B
inline constexpr int kIntegerDepth = kNativeLanes == 16 ? 4 : 2;  ///< k packed together

/// How k lies in rows of A and in packed B: so many together, then nothing up to `padded`. A kernel row of taps with VNNI, all of k without;
/// all of k in whole steps of tiles.
struct IntegerStretch {
  int64_t k, padded;
};
IntegerStretch integer_stretch(const isa::MatrixDesc& d);
/// Of a row of A, and of packed B.
inline int64_t integer_depth(const isa::MatrixDesc& d) {
  const IntegerStretch s = integer_stretch(d);
  return int64_t{d.kernel_h} * d.kernel_w * d.channels / s.k * s.padded;
}

/// Pixels [first, first + count) of rows `pitch` bytes apart: `depth` bytes from each of `segments` places on.
struct IntegerPoints {
  const uint8_t* const* at;
  int64_t segments, depth, pitch, first, count;
};

/// Where the sums of pixels start and where they go: sixteen columns each, `pitch` numbers from row to row.
struct IntegerSums {
  const int32_t* start;  ///< of 32 columns, the same for all rows
  bool keeps;            ///< and what is there already
  int32_t* to[2];
  int64_t pitch;
};

/// sums += rows of A by a panel of B: [k / kIntegerDepth][32, or 16 where narrow][kIntegerDepth].
/// `turn`: signed bytes become unsigned ones 128 higher on the way.
void multiply_points(IntegerSums sums, IntegerPoints a, const uint8_t* b, bool narrow, bool turn = false);

/// A's zero point as multiply_points sees its numbers.
int32_t integer_zero(const isa::MatrixDesc& d);
/// Bytes of a row that is copied.
inline int64_t integer_row_bytes(int64_t depth) { return kNativeLanes == 16 ? depth : 2 * depth; }
/// Copies what the taps of pixels [first, first + count) see, as multiply_points reads it; may write up to 63 bytes more.
void read_integers(const isa::MatrixDesc& d, const PixelMap& pixels, int64_t first, int64_t count, uint8_t* to);

}  // namespace systole::SYSTOLE_LANES
#endif
