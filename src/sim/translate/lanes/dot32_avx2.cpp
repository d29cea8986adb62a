#include <algorithm>

#include "sim/translate/lanes/dot32.h"
#include "sim/translate/lanes/matrix.h"
#include "sim/translate/upcoming.h"

#ifdef SYSTOLE_X86
namespace systole::avx2 {
namespace {

constexpr int kPairs = kDotBlock / 2;  ///< of a block

/// Sixteen registers hold the chains of up to twelve vectors: even and odd ones at once for few rows, else one after the other.
/// kVectors of eight columns from `first`; B is kStep bytes from pair to pair.
template <int kRows, int kVectors, bool kSplit = false>
LANES void tile(const DotSums& sums, int first, const DotRows& rows, const uint8_t* b, int64_t step) {
  constexpr bool kAtOnce = 2 * kRows * kVectors <= 12;
  constexpr int kApart = kSplit ? 1 : 2, kOdd = kSplit ? kPairs : 1;  // of A's even elements, and from them to the odd ones
  const __m256i high = _mm256_set1_epi32(static_cast<int32_t>(0xFFFF0000u));
  const int64_t pairs = rows.pairs, a_pitch = rows.pitch;
  const float* a = rows.wide;
  Upcoming ahead = t_upcoming;
  for (int64_t k = 0; k < pairs; k += kPairs, a += kDotBlock, b += step * kPairs) {
    const int here = static_cast<int>(std::min<int64_t>(kPairs, pairs - k));
    __m256 even[kRows][kVectors], odd[kRows][kVectors];
    SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
      SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) even[r][c] = _mm256_setzero_ps();
    if (kAtOnce) {
      SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
        SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) odd[r][c] = _mm256_setzero_ps();
    }
    for (int i = 0; i < here; ++i) {
      __m256 b0[kVectors], b1[kVectors];
      SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) {
        const __m256i pair = load_256(b + step * i + 32 * c);
        b0[c] = as_floats(_mm256_slli_epi32(pair, 16));
        if (kAtOnce) b1[c] = as_floats(_mm256_and_si256(pair, high));
      }
      SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r) {
        const __m256 a0 = _mm256_broadcast_ss(a + r * a_pitch + kApart * i);
        SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) even[r][c] = _mm256_fmadd_ps(a0, b0[c], even[r][c]);
        if (!kAtOnce) continue;
        const __m256 a1 = _mm256_broadcast_ss(a + r * a_pitch + kApart * i + kOdd);
        SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) odd[r][c] = _mm256_fmadd_ps(a1, b1[c], odd[r][c]);
      }
    }
    if (!kAtOnce) {
      float kept[kRows][kVectors][8];  // registers go to the odd chains
      SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
        SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) _mm256_storeu_ps(kept[r][c], even[r][c]), odd[r][c] = _mm256_setzero_ps();
      for (int i = 0; i < here; ++i) {
        __m256 b1[kVectors];
        SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) b1[c] = as_floats(_mm256_and_si256(load_256(b + step * i + 32 * c), high));
        SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r) {
          const __m256 a1 = _mm256_broadcast_ss(a + r * a_pitch + kApart * i + kOdd);
          SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) odd[r][c] = _mm256_fmadd_ps(a1, b1[c], odd[r][c]);
        }
      }
      SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
        SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) even[r][c] = _mm256_loadu_ps(kept[r][c]);
    }
    if (here < kPairs) {  // what a block's zeros do to a chain: -0 becomes 0
      SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
        SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) even[r][c] = _mm256_add_ps(even[r][c], _mm256_setzero_ps()), odd[r][c] = _mm256_add_ps(odd[r][c], _mm256_setzero_ps());
    }
    fetch(ahead, 1);
    const bool from = k == 0, last = k + kPairs >= pairs;
    SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) {
      const int vector = first + c, sixteen = vector / 2, half = vector % 2 * 8;
      SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r) {
        float* to = sums.to[sixteen] + r * sums.to_pitch + half;
        const __m256 sum = _mm256_add_ps(_mm256_loadu_ps(from ? sums.from[sixteen] + r * sums.from_pitch + half : to), _mm256_add_ps(even[r][c], odd[r][c]));
        _mm256_storeu_ps(to, last ? select(unordered(sum), as_floats(set_native_ints(static_cast<int32_t>(kCanonicalNaN))), sum) : sum);
      }
    }
  }
  t_upcoming = ahead;
}

using Multiply = void (*)(const DotSums&, int, const DotRows&, const uint8_t*, int64_t);
template <bool kSplit>
constexpr Multiply kByRows[kDotRows] = {tile<1, 2, kSplit>, tile<2, 2, kSplit>, tile<3, 2, kSplit>, tile<4, 2, kSplit>, tile<5, 2, kSplit>, tile<6, 2, kSplit>};

}  // namespace

void multiply_dot32(const DotSums& sums, const DotRows& a, const uint8_t* b, int64_t panel_pitch, int panels, bool narrow) {
  const Multiply multiply = (a.split ? kByRows<true> : kByRows<false>)[a.count - 1];
  if (narrow) return multiply(sums, 0, a, b, 64);
  if (a.count == 1 && !a.split) {
    for (int p = 0; p < panels; ++p) tile<1, 4>(sums, 4 * p, a, b + p * panel_pitch, 128);
    return;
  }
  for (int half = 0; half < 2; ++half) multiply(sums, 2 * half, a, b + 64 * half, 128);
}

}  // namespace systole::avx2
#endif
