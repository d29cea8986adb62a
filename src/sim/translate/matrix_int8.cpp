#include "sim/translate/matrix_int8.h"

#include <utility>

#include "sim/translate/host.h"

#ifdef SYSTOLE_HAS_AVX512
#include <immintrin.h>
#endif

namespace systole {
#ifdef SYSTOLE_HAS_AVX512
namespace {

using Multiply = void (*)(int32_t*, const uint8_t* const*, int64_t, int64_t, const uint8_t*);

template <int kRows, int kVectors, bool kTurn>
SYSTOLE_AVX512 void tile(int32_t* sums, const uint8_t* const* rows, int64_t segments, int64_t quads, const uint8_t* b) {
  const __m512i top = _mm512_set1_epi32(static_cast<int32_t>(0x80808080u));
  __m512i sum[kRows][kVectors];
  SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
    SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) sum[r][c] = _mm512_setzero_si512();
  for (int64_t s = 0; s < segments; ++s, rows += kRows) {
    const uint8_t* at[kRows];
    SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r) at[r] = rows[r];
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
    SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) _mm512_storeu_si512(sums + r * kInt8Columns + 16 * c, sum[r][c]);
}

struct ByRows {
  Multiply multiply[kInt8Rows];
};
template <int kVectors, bool kTurn, size_t... I>
constexpr ByRows tiles(std::index_sequence<I...>) {
  return {{tile<static_cast<int>(I) + 1, kVectors, kTurn>...}};
}
using Rows = std::make_index_sequence<kInt8Rows>;
/// By width and by whether A is turned.
constexpr ByRows kTiles[2][2] = {{tiles<2, false>(Rows()), tiles<2, true>(Rows())}, {tiles<1, false>(Rows()), tiles<1, true>(Rows())}};

}  // namespace

void multiply_int8(int32_t* sums, const uint8_t* const* rows, int count, int64_t segments, int64_t quads, const uint8_t* b, bool narrow, bool turn) {
  kTiles[narrow][turn].multiply[count - 1](sums, rows, segments, quads, b);
}
#else
void multiply_int8(int32_t*, const uint8_t* const*, int, int64_t, int64_t, const uint8_t*, bool, bool) {}
#endif

}  // namespace systole
