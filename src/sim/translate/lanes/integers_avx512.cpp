// u8 rows of A against packed s8 columns of B. Signed
// bytes have their top bit turned on the way, which makes them unsigned ones 128 higher.
#include <algorithm>
#include <utility>

#include "sim/translate/lanes/integers.h"
#include "sim/translate/lanes/pixel_runs.h"
#include "sim/translate/lanes/tile_source.h"
#include "sim/translate/upcoming.h"

#ifdef SYSTOLE_X86
namespace systole::avx512 {
namespace {

/// Where kRows rows lie, `pitch` bytes apart: few enough registers to keep them all, five rows to each base.
template <int kRows>
class RowAddresses {
 public:
  LANES_INLINE RowAddresses(const uint8_t* first, int64_t pitch) : pitch_(pitch), three_(3 * pitch) {
    asm("" : "+r"(three_));  // not to be made of pitch_ once more, nor bases of each other
    SYSTOLE_UNROLL for (int b = 0; b < kBases; ++b) {
      bases_[b] = first + 5 * b * pitch;
      asm("" : "+r"(bases_[b]));
    }
  }
  LANES_INLINE const uint8_t* operator[](int row) const {
    const uint8_t* base = bases_[row / 5];
    return row % 5 == 3 ? base + three_ : base + row % 5 * pitch_;
  }
  LANES_INLINE void advance(int64_t bytes) {
    SYSTOLE_UNROLL for (int b = 0; b < kBases; ++b) bases_[b] += bytes;
  }

 private:
  static constexpr int kBases = (kRows + 4) / 5;
  const uint8_t* bases_[kBases];
  int64_t pitch_, three_;
};

using Multiply = void (*)(const IntegerSums&, const IntegerPoints&, int64_t, const uint8_t*);

constexpr int64_t kBetweenFetches = 16;  ///< steps

/// kRows pixels of `a` again and again, `tiles` times.
template <int kRows, int kVectors, bool kTurn>
LANES void point_tiles(const IntegerSums& sums, const IntegerPoints& a, int64_t tiles, const uint8_t* panel) {
  const __m512i top = _mm512_set1_epi32(static_cast<int32_t>(0x80808080u));
  const int64_t pitch = a.pitch, quads = a.depth / kIntegerDepth;
  int32_t* to[kVectors];
  Upcoming ahead = t_upcoming;
  SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) to[c] = sums.to[c];
  for (int64_t t = 0; t < tiles; ++t) {
    __m512i sum[kRows][kVectors];
    SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
      SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) sum[r][c] = _mm512_loadu_si512(sums.start + 16 * c);
    if (sums.keeps) {
      SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
        SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) sum[r][c] = add(sum[r][c], _mm512_loadu_si512(to[c] + r * sums.pitch));
    }
    const uint8_t* b = panel;
    for (int64_t s = 0; s < a.segments; ++s) {
      RowAddresses<kRows> at(a.at[s] + (a.first + t * kRows) * pitch, pitch);
      for (int64_t left = quads; left > 0; left -= kBetweenFetches) {
        fetch(ahead, 1);
        for (int64_t q = std::min(left, kBetweenFetches); q > 0; --q, b += 64 * kVectors, at.advance(4)) {
          __m512i column[kVectors];
          SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) column[c] = _mm512_loadu_si512(b + 64 * c);
          SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r) {
            int32_t four;
            __builtin_memcpy(&four, at[r], 4);
            __m512i x = _mm512_set1_epi32(four);
            if (kTurn) x = _mm512_xor_si512(x, top);
            SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) sum[r][c] = _mm512_dpbusd_epi32(sum[r][c], x, column[c]);
          }
        }
      }
    }
    SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
      SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) _mm512_storeu_si512(to[c] + r * sums.pitch, sum[r][c]);
    SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) to[c] += kRows * sums.pitch;
  }
  t_upcoming = ahead;
}

struct ByRows {
  Multiply multiply[kIntegerNarrowRows];
};
template <int kVectors, bool kTurn, size_t... I>
constexpr ByRows tiles(std::index_sequence<I...>) {
  return {{point_tiles<static_cast<int>(I) + 1, kVectors, kTurn>...}};
}
using Rows = std::make_index_sequence<kIntegerRows>;
using NarrowRows = std::make_index_sequence<kIntegerNarrowRows>;
/// By width and by whether A is turned.
constexpr ByRows kTiles[2][2] = {{tiles<2, false>(Rows()), tiles<2, true>(Rows())}, {tiles<1, false>(NarrowRows()), tiles<1, true>(NarrowRows())}};

}  // namespace

int32_t integer_zero(const isa::MatrixDesc& d) { return d.a_zero + (d.a_signed ? 128 : 0); }
void read_integers(const isa::MatrixDesc& d, const PixelMap& pixels, int64_t first, int64_t count, uint8_t* to) {
  const IntegerStretch stretch = integer_stretch(d);
  const int64_t row = int64_t{d.kernel_w} * d.channels, row_pitch = stretch.k == row ? stretch.padded : row, depth = integer_depth(d);
  for (int64_t i = 0; i < count; ++i) read_row(d, pixels, first + i, to + i * depth, row_pitch);
}

void multiply_points(IntegerSums sums, IntegerPoints a, const uint8_t* b, bool narrow, bool turn) {
  const ByRows& kernels = kTiles[narrow][turn];
  in_tiles(a.count, narrow ? kIntegerNarrowRows : kIntegerRows, [&](int64_t rows, int64_t tiles) {
    kernels.multiply[rows - 1](sums, a, tiles, b);
    a.first += rows * tiles;
    for (int c = 0; c < (narrow ? 1 : 2); ++c) sums.to[c] += rows * tiles * sums.pitch;
  });
}

}  // namespace systole::avx512
#endif
