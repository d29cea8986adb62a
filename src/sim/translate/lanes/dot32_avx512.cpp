#include <algorithm>

#include "numerics/dot32.h"
#include "sim/translate/lanes/dot32.h"

#ifdef SYSTOLE_X86
namespace systole::avx512 {
namespace {

/// kVectors: 1 for a narrow panel, else two per panel.
template <int kRows, int kVectors>
LANES void tile(float* sums, const float* a, int64_t a_pitch, const uint8_t* b, int64_t panel_bytes, int64_t pairs) {
  constexpr int kPitch = 16 * kVectors, kStep = kVectors == 1 ? 64 : 128;
  const __m512i high = _mm512_set1_epi32(static_cast<int32_t>(0xFFFF0000u));
  for (int64_t k = 0; k < pairs; k += kDotBlock / 2, a += kDotBlock, b += kStep * kDotBlock / 2) {
    const int here = static_cast<int>(std::min<int64_t>(kDotBlock / 2, pairs - k));
    __m512 even[kRows][kVectors], odd[kRows][kVectors];
    SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
      SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) even[r][c] = odd[r][c] = _mm512_setzero_ps();
    for (int i = 0; i < here; ++i) {
      __m512 b0[kVectors], b1[kVectors];
      SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) {
        const __m512i pair = _mm512_loadu_si512(b + (c / 2) * panel_bytes + kStep * i + 64 * (c % 2));
        b0[c] = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16)), b1[c] = _mm512_castsi512_ps(_mm512_and_si512(pair, high));
      }
      SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r) {
        const __m512 a0 = _mm512_set1_ps(a[r * a_pitch + 2 * i]), a1 = _mm512_set1_ps(a[r * a_pitch + 2 * i + 1]);
        SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) even[r][c] = _mm512_fmadd_ps(a0, b0[c], even[r][c]);
        SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) odd[r][c] = _mm512_fmadd_ps(a1, b1[c], odd[r][c]);
      }
    }
    if (here < kDotBlock / 2) {  // what a block's zeros do to a chain: -0 becomes 0
      SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
        SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) even[r][c] = _mm512_add_ps(even[r][c], _mm512_setzero_ps()), odd[r][c] = _mm512_add_ps(odd[r][c], _mm512_setzero_ps());
    }
    SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r) {
      SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) {
        float* at = sums + r * kPitch + 16 * c;
        _mm512_storeu_ps(at, _mm512_add_ps(_mm512_loadu_ps(at), _mm512_add_ps(even[r][c], odd[r][c])));
      }
    }
  }
}

}  // namespace

void multiply_dot32(float* sums, const float* a, int64_t a_pitch, int count, const uint8_t* b, int64_t panel_bytes, int panels, int64_t pairs, bool narrow, bool) {
  using Multiply = void (*)(float*, const float*, int64_t, const uint8_t*, int64_t, int64_t);
  static constexpr Multiply kByRows[kDotRows] = {tile<1, 2>, tile<2, 2>, tile<3, 2>, tile<4, 2>, tile<5, 2>, tile<6, 2>};
  static constexpr Multiply kByPanels[4] = {tile<1, 2>, tile<1, 4>, tile<1, 6>, tile<1, 8>};
  static constexpr Multiply kNarrow[kDotNarrowRows] = {tile<1, 1>, tile<2, 1>, tile<3, 1>, tile<4, 1>, tile<5, 1>, tile<6, 1>, tile<7, 1>, tile<8, 1>, tile<9, 1>, tile<10, 1>, tile<11, 1>, tile<12, 1>};
  (narrow ? kNarrow[count - 1] : count == 1 ? kByPanels[panels - 1] : kByRows[count - 1])(sums, a, a_pitch, b, panel_bytes, pairs);
}

}  // namespace systole::avx512
#endif
