#include <algorithm>
#include <utility>

#include "sim/translate/lanes/dot32.h"
#include "sim/translate/lanes/matrix.h"
#include "sim/translate/lanes/pixel_runs.h"
#include "sim/translate/upcoming.h"

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
  template <class Step, bool kLast>
  LANES_INLINE void add_to_sums() {
    SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r) {
      SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) {
        const __m512 sum = _mm512_add_ps(_mm512_loadu_ps(from[c] + r * from_pitch), Step::sum(even[r][c], odd[r][c]));
        _mm512_storeu_ps(to[c] + r * to_pitch, kLast ? canonical(sum) : sum);
      }
    }
    SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) from[c] = to[c];
    from_pitch = to_pitch;
  }
};

using Multiply = void (*)(const DotSums&, const DotRows&, const uint8_t*, int64_t);
using MultiplyPoints = void (*)(const DotSums&, const DotPoints&, int64_t, const uint8_t*);

/// A pair of k at a time, whose two numbers come apart and are multiplied one by one.
struct SingleProducts {
  static constexpr int kPairs = 1, kNarrowRows = kDotNarrowRows;
  template <int kVectors>
  struct Columns {
    __m512 even[kVectors], odd[kVectors];
    LANES_INLINE void load(const uint8_t* b, int64_t panel_pitch) {
      SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) {
        const __m512i both = _mm512_loadu_si512(b + (c / 2) * panel_pitch + 64 * (c % 2));
        even[c] = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16)), odd[c] = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(static_cast<int32_t>(0xFFFF0000u))));
      }
    }
  };
  struct Row {
    __m512 even, odd;
  };
  LANES_INLINE static __m512 multiply(__m512 a, __m512 b, __m512 chain) { return _mm512_fmadd_ps(a, b, chain); }
  LANES_INLINE static __m512 sum(__m512 even, __m512 odd) { return _mm512_add_ps(even, odd); }
};
/// Of fp32.
struct WideStep : SingleProducts {
  static constexpr bool kInPlace = false;
  static constexpr int kPairBytes = 8;
  LANES_INLINE Row load(const uint8_t* from) const {
    const auto* pair = reinterpret_cast<const float*>(from);
    return {_mm512_set1_ps(pair[0]), _mm512_set1_ps(pair[1])};
  }
};
/// Of bf16: hosts whose integer operations do not wait for multiply-adds take them apart for nothing.
struct HalfStep : SingleProducts {
  static constexpr bool kInPlace = true;
  static constexpr int kPairBytes = 4;
  LANES_INLINE Row load(const uint8_t* from) const {
    int32_t two;
    __builtin_memcpy(&two, from, 4);
    const __m512i both = _mm512_set1_epi32(two);
    return {_mm512_castsi512_ps(_mm512_slli_epi32(both, 16)), _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(static_cast<int32_t>(0xFFFF0000u))))};
  }
};

#define DOT_CODE LANES
namespace singles {
#include "sim/translate/lanes/dot32_tiles.inl"
}
#undef DOT_CODE

#define DOT_CODE LANES_OF_PAIRS
/// Two pairs of k at a time: the instruction takes two steps of a chain, the upper halves first (pair_products.h). Lanes are in turn a column's
/// even chain and its odd one, so that a row of A comes in one shuffle: `even` has columns 0, 1, 4, 5 ... of sixteen, `odd` 2, 3, 6, 7 ...
struct QuadStep {
  static constexpr bool kInPlace = true;
  static constexpr int kPairs = 2, kPairBytes = 4, kNarrowRows = kQuadNarrowRows;
  template <int kVectors>
  struct Columns {
    __m512i even[kVectors], odd[kVectors];
    LANES_INLINE void load(const uint8_t* b, int64_t panel_pitch) {
      SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) {
        const uint8_t* from = b + (c / 2) * panel_pitch + 128 * (c % 2);
        even[c] = _mm512_loadu_si512(from), odd[c] = _mm512_loadu_si512(from + 64);
      }
    }
  };
  struct Row {
    __m512i even, odd;
  };
  LANES_INLINE Row load(const uint8_t* from) const {
    int64_t four;
    __builtin_memcpy(&four, from, 8);
    const __m512i chains = _mm512_shuffle_epi8(_mm512_set1_epi64(four), _mm512_set1_epi64(0x0302070601000504));  // k 2, 0 and 3, 1
    return {chains, chains};
  }
  LANES_OF_PAIRS_INLINE static __m512 multiply(__m512i a, __m512i b, __m512 chain) { return _mm512_dpbf16_ps(chain, (__m512bh)a, (__m512bh)b); }
  LANES_INLINE static __m512 sum(__m512 even, __m512 odd) { return _mm512_add_ps(_mm512_shuffle_ps(even, odd, 0x88), _mm512_shuffle_ps(even, odd, 0xDD)); }
};
namespace pairs {
#include "sim/translate/lanes/dot32_tiles.inl"
}
#undef DOT_CODE

template <bool kOne>
MultiplyPoints points_kernel(int64_t rows, bool narrow, bool quads) {
  return quads ? pairs::points_kernel<QuadStep, kOne>(rows, narrow) : singles::points_kernel<HalfStep, kOne>(rows, narrow);
}

}  // namespace

void multiply_points(DotSums sums, DotPoints a, const uint8_t* b, bool narrow) {
  in_tiles(a.count, !narrow ? kDotRows : a.quads ? kQuadNarrowRows : kDotNarrowRows, [&](int64_t rows, int64_t tiles) {
    (a.segments == 1 ? points_kernel<true> : points_kernel<false>)(rows, narrow, a.quads)(sums, a, tiles, b);
    a.first += rows * tiles;
    for (int c = 0; c < (narrow ? 1 : 2); ++c) sums.from[c] += rows * tiles * sums.from_pitch, sums.to[c] += rows * tiles * sums.to_pitch;
  });
}

void multiply_dot32(const DotSums& sums, const DotRows& a, const uint8_t* b, int64_t panel_pitch, int panels, bool narrow) {
  (a.wide ? singles::kernel<WideStep> : a.quads ? pairs::kernel<QuadStep> : singles::kernel<HalfStep>)(a.count, panels, narrow)(sums, a, b, panel_pitch);
}

}  // namespace systole::avx512
#endif
