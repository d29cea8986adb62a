// u8 rows of A, straight from the scratchpad where channels come in fours, else gathered, against packed s8 columns of B. Signed
// bytes have their top bit turned on the way, which makes them unsigned ones 128 higher.
#include <utility>

#include "sim/translate/lanes/integers.h"
#include "sim/translate/lanes/tile_source.h"

#ifdef SYSTOLE_X86
namespace systole::avx512 {
namespace {

using Multiply = void (*)(const IntegerSums&, const PixelPlaces&, int64_t, int64_t, const uint8_t*);

template <int kRows, int kVectors, bool kTurn>
LANES void tile(const IntegerSums& sums, const PixelPlaces& places, int64_t segments, int64_t quads, const uint8_t* b) {
  const __m512i top = _mm512_set1_epi32(static_cast<int32_t>(0x80808080u));
  __m512i sum[kRows][kVectors];
  SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
    SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) sum[r][c] = _mm512_loadu_si512(sums.start + 16 * c);
  if (sums.keeps) {
    SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
      SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) sum[r][c] = add(sum[r][c], _mm512_loadu_si512(sums.to[c] + r * sums.pitch));
  }
  for (int64_t s = 0; s < segments; ++s) {
    const uint8_t* at[kRows];
    SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r) at[r] = places.at(s, r);
    for (int64_t q = 0; q < quads; ++q, b += 64 * kVectors) {
      __m512i column[kVectors];
      SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) column[c] = _mm512_loadu_si512(b + 64 * c);
      SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r) {
        int32_t four;
        __builtin_memcpy(&four, at[r] + 4 * q, 4);
        __m512i a = _mm512_set1_epi32(four);
        if (kTurn) a = _mm512_xor_si512(a, top);
        SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) sum[r][c] = _mm512_dpbusd_epi32(sum[r][c], a, column[c]);
      }
    }
  }
  SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
    SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) _mm512_storeu_si512(sums.to[c] + r * sums.pitch, sum[r][c]);
}

struct ByRows {
  Multiply multiply[kIntegerRows];
};
template <int kVectors, bool kTurn, size_t... I>
constexpr ByRows tiles(std::index_sequence<I...>) {
  return {{tile<static_cast<int>(I) + 1, kVectors, kTurn>...}};
}
using Rows = std::make_index_sequence<kIntegerRows>;
/// By width and by whether A is turned.
constexpr ByRows kTiles[2][2] = {{tiles<2, false>(Rows()), tiles<2, true>(Rows())}, {tiles<1, false>(Rows()), tiles<1, true>(Rows())}};

bool reads_directly(const isa::MatrixDesc& d) { return d.channels % kIntegerDepth == 0 && d.a_channel_pitch == 1; }

}  // namespace

IntegerRows::IntegerRows(const isa::MatrixDesc& d, const PixelMap& pixels, int64_t depth) : d_(d), pixels_(pixels), depth_(depth) {
  if (reads_directly(d_)) outside_.assign(d_.channels, static_cast<uint8_t>(d_.a_zero));
}

int IntegerRows::zero() const { return d_.a_zero + (d_.a_signed ? 128 : 0); }

void IntegerRows::read(int64_t first, int count, IntegerTile& tile) const {
  tile.count = count;
  if (!outside_.empty()) {
    tile.places = pixels_.places(first, count, outside_.data(), tile.offsets);
    return;
  }
  tile.bytes.resize(static_cast<size_t>(depth_ * count) + 64);
  for (int i = 0; i < count; ++i) read_row(d_, pixels_, first + i, tile.bytes.data() + i * depth_);
  tile.find_bytes(depth_);
}

void IntegerRows::multiply(const IntegerSums& sums, const IntegerTile& tile, const uint8_t* b, bool narrow) const {
  const bool direct = !outside_.empty();
  multiply_rows(sums, tile, direct ? int64_t{d_.kernel_h} * d_.kernel_w : 1, direct ? d_.channels : depth_, b, narrow, d_.a_signed);
}

void multiply_rows(const IntegerSums& sums, const IntegerTile& tile, int64_t segments, int64_t depth, const uint8_t* b, bool narrow, bool turn) {
  kTiles[narrow][turn].multiply[tile.count - 1](sums, tile.places, segments, depth / kIntegerDepth, b);
}

}  // namespace systole::avx512
#endif
