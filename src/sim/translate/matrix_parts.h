// Pieces the matrix kernels share: accumulators in the machine's order, operands as bf16 parts.
#pragma once
#include <cstring>
#include <vector>

#include "machine/cost.h"
#include "numerics/dot32.h"
#include "sim/translate/host.h"

#ifdef SYSTOLE_HAS_AVX512
#include <immintrin.h>
#endif

namespace systole {

inline int parts_of(MacFormat f) { return f == MacFormat::kF32 ? 3 : f == MacFormat::kF16 ? 2 : 1; }
inline const Pass* passes_in(MacFormat f) { return f == MacFormat::kF32 ? kPassesF32 : f == MacFormat::kF16 ? kPassesF16 : kPassesBF16; }

/// Part `q` of the operand at `at`, as fp32 with bf16's significand.
inline float operand_part(MacFormat f, const uint8_t* at, int q) {
  if (f == MacFormat::kF32) {
    float v;
    std::memcpy(&v, at, 4);
    return bf16_part(v, q);
  }
  uint16_t v;
  std::memcpy(&v, at, 2);
  return f == MacFormat::kF16 ? f16_part(f16_to_f32(v), q) : bf16_to_f32(v);
}

#ifdef SYSTOLE_HAS_AVX512
/// bf16_part of 16 values.
SYSTOLE_AVX512_INLINE __m512 bf16_part_x16(__m512 v, int q) {
  const __m512i high = _mm512_set1_epi32(static_cast<int32_t>(0xFFFF0000u)), infinity = _mm512_set1_epi32(0x7F800000);
  for (int i = 0;; ++i) {
    const __m512i top = _mm512_and_si512(_mm512_castps_si512(v), high);
    if (i == q) return _mm512_castsi512_ps(top);
    const __mmask16 finite = _mm512_cmpneq_epi32_mask(_mm512_and_si512(top, infinity), infinity);
    v = _mm512_maskz_sub_ps(finite, v, _mm512_castsi512_ps(top));
  }
}
/// Elements of a masked 16 as fp32.
SYSTOLE_AVX512_INLINE __m512 operand_x16(MacFormat f, __mmask16 mask, const uint8_t* from) {
  if (f == MacFormat::kF32) return _mm512_maskz_loadu_ps(mask, from);
  const __m256i half = _mm256_maskz_loadu_epi16(mask, from);
  if (f == MacFormat::kF16) return _mm512_cvtph_ps(half);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
SYSTOLE_AVX512_INLINE __m512 canonical_x16(__m512 v) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), v, _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int32_t>(kCanonicalNaN))));
}
#endif

/// The accumulators of one instruction: column o of pixel p lies at acc + (o / C x M + p) x C + o mod C.
class Accumulators {
 public:
  Accumulators(Memory& memory, const isa::MatrixOp& op, int64_t columns)
      : init_(op.init), base_(memory.accumulators.data() + op.acc), bias_(memory.scratchpad.data() + op.bias), columns_(columns), m_(int64_t{op.out_rows} * op.out_columns), n_(op.n) {
    for (int64_t o = 0; o < n_; o += 16) sixteens_.push_back(at(0, o) - base_);
  }

  /// Whether sums go on from what the accumulators hold.
  bool keeps() const { return init_ == isa::Init::kKeep; }
  /// Where sums start: the bias of columns from o, or null for zero.
  const uint8_t* bias(int64_t o) const { return init_ == isa::Init::kBias ? bias_ + 4 * o : nullptr; }
  int64_t pixels() const { return m_; }
  int64_t outputs() const { return n_; }
  uint32_t* at(int64_t p, int64_t o) const { return base_ + (o / columns_ * m_ + p) * columns_ + o % columns_; }
  /// Sixteen adjacent columns are adjacent in memory.
  bool whole_vectors() const { return columns_ % 16 == 0; }
  uint32_t initial(int64_t p, int64_t o) const {
    uint32_t v = 0;
    if (init_ == isa::Init::kKeep) v = *at(p, o);
    else if (init_ == isa::Init::kBias) std::memcpy(&v, bias_ + 4 * o, 4);
    return v;
  }
#ifdef SYSTOLE_HAS_AVX512
  static __mmask16 mask(int64_t left) { return left >= 16 ? static_cast<__mmask16>(0xFFFF) : static_cast<__mmask16>((1u << left) - 1); }
  /// Sixteen columns from o, those beyond n as zero.
  SYSTOLE_AVX512_INLINE __m512i initial_x16(int64_t p, int64_t o) const {
    if (init_ == isa::Init::kZero) return _mm512_setzero_si512();
    if (init_ == isa::Init::kBias) return _mm512_maskz_loadu_epi32(mask(n_ - o), bias_ + 4 * o);
    if (whole_vectors()) return _mm512_maskz_loadu_epi32(mask(n_ - o), sixteen(p, o));
    alignas(64) uint32_t v[16] = {};
    for (int64_t i = 0; i < 16 && o + i < n_; ++i) v[i] = *at(p, o + i);
    return _mm512_load_si512(v);
  }
  SYSTOLE_AVX512_INLINE void store_x16(int64_t p, int64_t o, __m512i value) const {
    if (whole_vectors()) return _mm512_mask_storeu_epi32(sixteen(p, o), mask(n_ - o), value);
    alignas(64) uint32_t v[16];
    _mm512_store_si512(v, value);
    for (int64_t i = 0; i < 16 && o + i < n_; ++i) *at(p, o + i) = v[i];
  }
#endif

  /// at(p, o) for o a multiple of 16, without divisions.
  uint32_t* sixteen(int64_t p, int64_t o) const { return base_ + sixteens_[static_cast<size_t>(o / 16)] + p * columns_; }

  /// Elements from a pixel's columns to the next one's.
  int64_t pixel_pitch() const { return columns_; }

 private:
  isa::Init init_;
  uint32_t* base_;
  const uint8_t* bias_;
  int64_t columns_, m_, n_;
  std::vector<int64_t> sixteens_;
};

}  // namespace systole
