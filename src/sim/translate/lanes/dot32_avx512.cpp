#include <algorithm>
#include <utility>

#include "sim/translate/lanes/dot32.h"
#include "sim/translate/lanes/matrix.h"
#include "sim/translate/lanes/pixel_runs.h"

#ifdef SYSTOLE_X86
namespace systole::avx512 {
namespace {

constexpr int kPairs = kDotBlock / 2;  ///< of a block

/// The chains of a tile's rows and vectors of sixteen columns, and where their sums are.
template <int kRows, int kVectors>
struct Chains {
  __m512 even[kRows][kVectors], odd[kRows][kVectors];
  const float* from[kVectors];
  float* to[kVectors];
  int64_t from_pitch, to_pitch;

  LANES_INLINE explicit Chains(const DotSums& sums) : from_pitch(sums.from_pitch), to_pitch(sums.to_pitch) {
    SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) from[c] = sums.from[c], to[c] = sums.to[c];
    clear();
  }
  LANES_INLINE void clear() {
    SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
      SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) even[r][c] = odd[r][c] = _mm512_setzero_ps();
  }
  /// What a block's zeros do to a chain: -0 becomes 0.
  LANES_INLINE void fill() {
    SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
      SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) even[r][c] = _mm512_add_ps(even[r][c], _mm512_setzero_ps()), odd[r][c] = _mm512_add_ps(odd[r][c], _mm512_setzero_ps());
  }
  template <bool kLast>
  LANES_INLINE void add_to_sums() {
    SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r) {
      SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) {
        const __m512 sum = _mm512_add_ps(_mm512_loadu_ps(from[c] + r * from_pitch), _mm512_add_ps(even[r][c], odd[r][c]));
        _mm512_storeu_ps(to[c] + r * to_pitch, kLast ? canonical(sum) : sum);
      }
    }
    SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) from[c] = to[c];
    from_pitch = to_pitch;
  }
};

/// kVectors: 1 for a narrow panel, else two per panel. In place, the two numbers of a pair come apart on the way: hosts whose integer
/// operations do not wait for multiply-adds do so for nothing.
template <int kRows, int kVectors, bool kInPlace>
LANES void tile(const DotSums& sums, const DotRows& a, const uint8_t* b, int64_t panel_pitch) {
  constexpr int kStep = kVectors == 1 ? 64 : 128;
  const __m512i high = _mm512_set1_epi32(static_cast<int32_t>(0xFFFF0000u));
  Chains<kRows, kVectors> chains(sums);
  const float* wide = a.wide;
  int filled = 0;
  for (int64_t tap = 0; tap < a.segments; ++tap) {
    const uint8_t* at[kRows];
    if (kInPlace) {
      SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r) at[r] = a.places.at(tap, r);
    }
    for (int64_t pair = 0; pair < a.pairs;) {
      const int here = static_cast<int>(std::min<int64_t>(kPairs - filled, a.pairs - pair));
      for (int i = 0; i < here; ++i) {
        __m512 b0[kVectors], b1[kVectors];
        SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) {
          const __m512i both = _mm512_loadu_si512(b + (c / 2) * panel_pitch + kStep * i + 64 * (c % 2));
          b0[c] = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16)), b1[c] = _mm512_castsi512_ps(_mm512_and_si512(both, high));
        }
        SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r) {
          __m512 a0, a1;
          if (kInPlace) {
            int32_t two;
            __builtin_memcpy(&two, at[r] + 4 * (pair + i), 4);
            const __m512i both = _mm512_set1_epi32(two);
            a0 = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16)), a1 = _mm512_castsi512_ps(_mm512_and_si512(both, high));
          } else {
            a0 = _mm512_set1_ps(wide[r * a.pitch + 2 * i]), a1 = _mm512_set1_ps(wide[r * a.pitch + 2 * i + 1]);
          }
          SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) chains.even[r][c] = _mm512_fmadd_ps(a0, b0[c], chains.even[r][c]);
          SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) chains.odd[r][c] = _mm512_fmadd_ps(a1, b1[c], chains.odd[r][c]);
        }
      }
      b += kStep * here, wide += 2 * here, pair += here, filled += here;
      if (tap + 1 == a.segments && pair == a.pairs) break;
      if (filled < kPairs) continue;  // the block goes on under the next tap
      chains.template add_to_sums<false>();
      chains.clear();
      filled = 0;
    }
  }
  if (filled < kPairs) chains.fill();
  chains.template add_to_sums<true>();
}

/// kRows pixels of `a` again and again, `tiles` times. kOne: of one segment.
template <int kRows, int kVectors, bool kOne>
LANES void point_tiles(const DotSums& sums, const DotPoints& a, int64_t tiles, const uint8_t* panel) {
  constexpr int kStep = kVectors == 1 ? 64 : 128;
  const __m512i high = _mm512_set1_epi32(static_cast<int32_t>(0xFFFF0000u));
  const int64_t pitch = a.pitch, segments = kOne ? 1 : a.segments;
  Chains<kRows, kVectors> chains(sums);
  for (int64_t t = 0; t < tiles; ++t) {
    SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) chains.from[c] = sums.from[c] + t * kRows * sums.from_pitch, chains.to[c] = sums.to[c] + t * kRows * sums.to_pitch;
    chains.from_pitch = sums.from_pitch;
    const uint8_t* b = panel;
    int filled = 0;
    for (int64_t s = 0; s < segments; ++s) {
      const uint8_t* at = a.at[s] + (a.first + t * kRows) * pitch;
      for (int64_t left = a.pairs; left > 0;) {
        const int here = static_cast<int>(std::min<int64_t>(kPairs - filled, left));
        for (int i = 0; i < here; ++i, b += kStep, at += 4) {
          __m512 b0[kVectors], b1[kVectors];
          SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) {
            const __m512i both = _mm512_loadu_si512(b + 64 * c);
            b0[c] = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16)), b1[c] = _mm512_castsi512_ps(_mm512_and_si512(both, high));
          }
          SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r) {
            int32_t two;
            __builtin_memcpy(&two, at + r * pitch, 4);
            const __m512i both = _mm512_set1_epi32(two);
            const __m512 a0 = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16)), a1 = _mm512_castsi512_ps(_mm512_and_si512(both, high));
            SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) chains.even[r][c] = _mm512_fmadd_ps(a0, b0[c], chains.even[r][c]);
            SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) chains.odd[r][c] = _mm512_fmadd_ps(a1, b1[c], chains.odd[r][c]);
          }
        }
        left -= here, filled += here;
        if (filled < kPairs || (s + 1 == segments && left == 0)) continue;  // the block goes on, or is the last
        chains.template add_to_sums<false>();
        chains.clear();
        filled = 0;
      }
    }
    if (filled < kPairs) chains.fill();
    chains.template add_to_sums<true>();
    chains.clear();
  }
}

using Multiply = void (*)(const DotSums&, const DotRows&, const uint8_t*, int64_t);
template <int kVectors, bool kInPlace, size_t... I>
Multiply of_rows(int count, std::index_sequence<I...>) {
  static constexpr Multiply kTable[] = {tile<static_cast<int>(I) + 1, kVectors, kInPlace>...};
  return kTable[count - 1];
}
template <bool kInPlace>
Multiply kernel(int count, int panels, bool narrow) {
  static constexpr Multiply kByPanels[kDotPanels] = {tile<1, 2, kInPlace>, tile<1, 4, kInPlace>, tile<1, 6, kInPlace>, tile<1, 8, kInPlace>};
  if (narrow) return of_rows<1, kInPlace>(count, std::make_index_sequence<kDotNarrowRows>());
  return count == 1 ? kByPanels[panels - 1] : of_rows<2, kInPlace>(count, std::make_index_sequence<kDotRows>());
}

using MultiplyPoints = void (*)(const DotSums&, const DotPoints&, int64_t, const uint8_t*);
template <int kVectors, bool kOne, size_t... I>
MultiplyPoints points_of_rows(int64_t count, std::index_sequence<I...>) {
  static constexpr MultiplyPoints kTable[] = {point_tiles<static_cast<int>(I) + 1, kVectors, kOne>...};
  return kTable[count - 1];
}
template <bool kOne>
MultiplyPoints points_kernel(int64_t count, bool narrow) {
  return narrow ? points_of_rows<1, kOne>(count, std::make_index_sequence<kDotNarrowRows>()) : points_of_rows<2, kOne>(count, std::make_index_sequence<kDotRows>());
}

}  // namespace

void multiply_points(DotSums sums, DotPoints a, const uint8_t* b, bool narrow) {
  in_tiles(a.count, narrow ? kDotNarrowRows : kDotRows, [&](int64_t rows, int64_t tiles) {
    (a.segments == 1 ? points_kernel<true> : points_kernel<false>)(rows, narrow)(sums, a, tiles, b);
    a.first += rows * tiles;
    for (int c = 0; c < (narrow ? 1 : 2); ++c) sums.from[c] += rows * tiles * sums.from_pitch, sums.to[c] += rows * tiles * sums.to_pitch;
  });
}

void multiply_dot32(const DotSums& sums, const DotRows& a, const uint8_t* b, int64_t panel_pitch, int panels, bool narrow) {
  (a.wide ? kernel<false> : kernel<true>)(a.count, panels, narrow)(sums, a, b, panel_pitch);
}

}  // namespace systole::avx512
#endif
