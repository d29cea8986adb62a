// Sixteen lanes in one register of AVX-512 (with VNNI and VBMI).
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#define LANES_TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,fma,f16c"
#define LANES __attribute__((target(LANES_TARGET)))
#define LANES_INLINE __attribute__((target(LANES_TARGET), always_inline)) inline
/// Where the host has products of pairs too (pair_products.h).
#define LANES_OF_PAIRS __attribute__((target(LANES_TARGET ",avx512bf16")))
#define LANES_OF_PAIRS_INLINE __attribute__((target(LANES_TARGET ",avx512bf16"), always_inline)) inline

namespace systole::avx512 {

using Floats = __m512;
using Ints = __m512i;
using Mask = __mmask16;
using NativeFloats = Floats;
using NativeInts = Ints;
using NativeMask = Mask;
inline constexpr int kNativeLanes = 16;

LANES_INLINE Mask first(int n) { return static_cast<Mask>((1u << n) - 1); }
LANES_INLINE Floats set(float v) { return _mm512_set1_ps(v); }
LANES_INLINE Ints set_ints(int32_t v) { return _mm512_set1_epi32(v); }
LANES_INLINE NativeFloats set_native(float v) { return set(v); }
LANES_INLINE NativeInts set_native_ints(int32_t v) { return set_ints(v); }
LANES_INLINE Ints as_ints(Floats v) { return _mm512_castps_si512(v); }
LANES_INLINE Floats as_floats(Ints v) { return _mm512_castsi512_ps(v); }

LANES_INLINE Floats load_floats(const void* p) { return _mm512_loadu_ps(p); }
LANES_INLINE Floats load_floats(const void* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
LANES_INLINE Ints load_ints(const void* p) { return _mm512_loadu_si512(p); }
LANES_INLINE Ints load_ints(const void* p, int n) { return _mm512_maskz_loadu_epi32(first(n), p); }
LANES_INLINE void store(void* p, Floats v) { _mm512_storeu_ps(p, v); }
LANES_INLINE void store(void* p, Floats v, int n) { _mm512_mask_storeu_ps(p, first(n), v); }
LANES_INLINE void store(void* p, Ints v) { _mm512_storeu_si512(p, v); }
LANES_INLINE void store(void* p, Ints v, int n) { _mm512_mask_storeu_epi32(p, first(n), v); }
/// 16-bit numbers, without their signs.
LANES_INLINE Ints load_halves(const void* p) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p))); }
LANES_INLINE Ints load_halves(const void* p, int n) { return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first(n), p)); }
LANES_INLINE void store_halves(void* p, Ints v, int n) { _mm256_mask_storeu_epi16(p, first(n), _mm512_cvtepi32_epi16(v)); }
/// n bf16 at p in groups of kChannels, as floats: sixteen lanes of whole groups, those of an odd number of channels with a zero behind each.
template <int kChannels>
LANES_INLINE Floats spread_halves(const void* p, int n) {
  constexpr int kEven = (kChannels + 1) / 2 * 2;
  struct Indices {
    alignas(64) uint16_t of[32] = {};
    uint32_t there = 0;
    constexpr Indices() {
      for (int lane = 0; lane < 16; ++lane) {
        if (lane % kEven >= kChannels) continue;
        of[2 * lane + 1] = static_cast<uint16_t>(lane / kEven * kChannels + lane % kEven);
        there |= 2u << (2 * lane);
      }
    }
  };
  static constexpr Indices kIndices;
  return as_floats(_mm512_maskz_permutexvar_epi16(kIndices.there, _mm512_load_si512(kIndices.of), _mm512_castsi256_si512(_mm256_maskz_loadu_epi16(first(n), p))));
}
/// The first n of 16-bit numbers at p in groups of kFrom, zeros behind them up to kTo: 64 bytes.
template <int kFrom, int kTo>
LANES_INLINE void store_spread(void* to, const void* p, int n) {
  struct Indices {
    alignas(64) uint16_t of[32] = {};
    uint32_t there = 0;
    constexpr Indices() {
      for (int i = 0; i < 32 / kTo * kTo; ++i) {
        if (i % kTo >= kFrom) continue;
        of[i] = static_cast<uint16_t>(i / kTo * kFrom + i % kTo);
        there |= 1u << i;
      }
    }
  };
  static constexpr Indices kIndices;
  const __m512i found = _mm512_maskz_loadu_epi16(static_cast<__mmask32>((uint64_t{1} << n) - 1), p);
  _mm512_storeu_si512(to, _mm512_maskz_permutexvar_epi16(kIndices.there, _mm512_load_si512(kIndices.of), found));
}
template <bool kSigned>
LANES_INLINE Ints load_bytes(const void* p, int n) {
  const __m128i bytes = _mm_maskz_loadu_epi8(first(n), p);
  return kSigned ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes);
}
template <bool kWhole>
LANES_INLINE __m128i sixteen_bytes(const uint8_t* p, int n) { return kWhole ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)) : _mm_maskz_loadu_epi8(first(n), p); }
/// Sixteen bytes (the first n, or all) of each of four places, first those at the places, then those behind them ..., top bits turned where signed.
template <bool kSigned, bool kWhole>
LANES_INLINE Ints fours_of(const uint8_t* p0, const uint8_t* p1, const uint8_t* p2, const uint8_t* p3, int n) {
  struct Indices {
    alignas(64) uint8_t of[64] = {};
    constexpr Indices() {
      for (int i = 0; i < 64; ++i) of[i] = static_cast<uint8_t>(i % 4 * 16 + i / 4);
    }
  };
  static constexpr Indices kIndices;
  const Ints low = _mm512_inserti32x4(_mm512_castsi128_si512(sixteen_bytes<kWhole>(p0, n)), sixteen_bytes<kWhole>(p1, n), 1);
  const Ints fours = _mm512_permutexvar_epi8(_mm512_load_si512(kIndices.of), _mm512_inserti32x4(_mm512_inserti32x4(low, sixteen_bytes<kWhole>(p2, n), 2), sixteen_bytes<kWhole>(p3, n), 3));
  return kSigned ? _mm512_xor_si512(fours, _mm512_set1_epi32(static_cast<int32_t>(0x80808080u))) : fours;
}
/// Of each four lanes the first two of a and b in turn, or the last two.
LANES_INLINE Ints interleave_low(Ints a, Ints b) { return _mm512_unpacklo_epi32(a, b); }
LANES_INLINE Ints interleave_high(Ints a, Ints b) { return _mm512_unpackhi_epi32(a, b); }
/// In vectors of which the last is masked.
LANES_INLINE void copy_bytes(uint8_t* to, const uint8_t* from, int64_t n) {
  for (int64_t c = 0; c < n; c += 64) {
    const __mmask64 mask = n - c >= 64 ? ~__mmask64{0} : (__mmask64{1} << (n - c)) - 1;
    _mm512_mask_storeu_epi8(to + c, mask, _mm512_maskz_loadu_epi8(mask, from + c));
  }
}
/// fp16.
LANES_INLINE Floats load_fp16(const void* p, int n) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p)); }
LANES_INLINE Floats floats_of_fp16(Ints bits) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(bits)); }
/// 32 bits at p + offsets.
LANES_INLINE Ints gather(const void* p, Ints offsets, int n) { return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), first(n), offsets, p, 1); }
/// n times 0, 1, 2 ...
LANES_INLINE Ints steps_of(int32_t n) { return _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi32(n)); }

LANES_INLINE Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
LANES_INLINE Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
LANES_INLINE Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
LANES_INLINE Floats quotient(Floats a, Floats b) { return _mm512_div_ps(a, b); }
LANES_INLINE Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
LANES_INLINE Floats floor(Floats v) { return _mm512_floor_ps(v); }
LANES_INLINE Ints truncate(Floats v) { return _mm512_cvttps_epi32(v); }
LANES_INLINE Floats to_floats(Ints v) { return _mm512_cvtepi32_ps(v); }
LANES_INLINE Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
LANES_INLINE Ints subtract(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
LANES_INLINE Ints multiply_low(Ints a, Ints b) { return _mm512_mullo_epi32(a, b); }
LANES_INLINE Ints both(Ints a, Ints b) { return _mm512_and_si512(a, b); }
LANES_INLINE Ints either(Ints a, Ints b) { return _mm512_or_si512(a, b); }
LANES_INLINE Ints exclusive(Ints a, Ints b) { return _mm512_xor_si512(a, b); }
template <int kBits>
LANES_INLINE Ints shift_left(Ints v) { return _mm512_slli_epi32(v, kBits); }
template <int kBits>
LANES_INLINE Ints shift_right(Ints v) { return _mm512_srli_epi32(v, kBits); }
template <int kBits>
LANES_INLINE Ints shift_right_signed(Ints v) { return _mm512_srai_epi32(v, kBits); }
/// sum + products of pairs of 16-bit numbers.
LANES_INLINE Ints add_pair_products(Ints sum, Ints a, Ints b) { return _mm512_dpwssd_epi32(sum, a, b); }
/// sum + products of unsigned by signed bytes, by fours.
LANES_INLINE Ints add_products(Ints sum, Ints a, Ints b) { return _mm512_dpbusd_epi32(sum, a, b); }
/// Bits `kBits` and up of the 64-bit products, which fit 32 bits.
template <int kBits>
LANES_INLINE Ints shifted_product(Ints a, Ints b) {
  const Ints even = _mm512_srli_epi64(_mm512_mul_epi32(a, b), kBits), odd = _mm512_mul_epi32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32));
  return _mm512_mask_mov_epi32(even, 0xAAAA, _mm512_slli_epi64(_mm512_srli_epi64(odd, kBits), 32));
}

// Comparisons are false where a number is NaN, but for `unordered` and `not_less`.
LANES_INLINE Mask less(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
LANES_INLINE Mask at_least(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
LANES_INLINE Mask not_less(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ); }
LANES_INLINE Mask equal(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
LANES_INLINE Mask unordered(Floats v) { return _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q); }
LANES_INLINE Mask equal(Ints a, Ints b) { return _mm512_cmpeq_epi32_mask(a, b); }
LANES_INLINE Mask greater(Ints a, Ints b) { return _mm512_cmpgt_epi32_mask(a, b); }
LANES_INLINE Mask both_of(Mask a, Mask b) { return static_cast<Mask>(a & b); }
LANES_INLINE Mask either_of(Mask a, Mask b) { return static_cast<Mask>(a | b); }
LANES_INLINE Mask none_of(Mask a) { return static_cast<Mask>(~a); }
LANES_INLINE bool any(Mask a) { return a != 0; }
LANES_INLINE Floats select(Mask m, Floats yes, Floats no) { return _mm512_mask_mov_ps(no, m, yes); }
LANES_INLINE Ints select(Mask m, Ints yes, Ints no) { return _mm512_mask_mov_epi32(no, m, yes); }

LANES_INLINE Ints of_32(const int32_t* table, Ints index) { return _mm512_permutex2var_epi32(_mm512_load_si512(table), index, _mm512_load_si512(table + 16)); }
LANES_INLINE Ints of_64(const int32_t* table, Ints index) { return select(_mm512_test_epi32_mask(index, _mm512_set1_epi32(32)), of_32(table + 32, index), of_32(table, index)); }
LANES_INLINE Ints of_128(const int32_t* table, Ints index) { return select(_mm512_test_epi32_mask(index, _mm512_set1_epi32(64)), of_64(table + 64, index), of_64(table, index)); }
/// table[index] of 64, 128 or 256 numbers, aligned to 64 bytes.
template <size_t N>
LANES_INLINE Ints look_up(const int32_t (&table)[N], Ints index) {
  if constexpr (N == 64) return of_64(table, index);
  else if constexpr (N == 128) return of_128(table, index);
  else return select(_mm512_test_epi32_mask(index, _mm512_set1_epi32(128)), of_128(table + 128, index), of_128(table, index));
}
/// v 2^exponent, exact unless the result is subnormal.
LANES_INLINE Floats scale(Floats v, Ints exponent) { return _mm512_scalef_ps(v, _mm512_cvtepi32_ps(exponent)); }
LANES_INLINE __m256 round_scaled_x8(__m512i value, __m512i exponent) { return _mm512_cvtpd_ps(_mm512_scalef_pd(_mm512_cvtepi64_pd(value), _mm512_cvtepi64_pd(exponent))); }
LANES_INLINE __m512 join(__m256 a, __m256 b) { return _mm512_insertf32x8(_mm512_castps256_ps512(a), b, 1); }
LANES_INLINE __m512i low(__m512i v) { return _mm512_cvtepi32_epi64(_mm512_castsi512_si256(v)); }
LANES_INLINE __m512i high(__m512i v) { return _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(v, 1)); }
/// value 2^exponent with one rounding.
LANES_INLINE Floats scale_rounding_once(Ints value, Ints exponent) { return join(round_scaled_x8(low(value), low(exponent)), round_scaled_x8(high(value), high(exponent))); }
LANES_INLINE __m256 sum_in_52_bits_x8(__m512i exponent, __m512i r, __m512i g) {
  const __m512i value = _mm512_add_epi64(_mm512_slli_epi64(exponent, 52), _mm512_mullo_epi64(r, g));
  // Up to 60 bits: ten of them folded into a sticky bit, so that the two roundings below are one.
  const __m512i size = _mm512_abs_epi64(value), rest = _mm512_and_si512(size, _mm512_set1_epi64(0x3FF));
  const __mmask8 large = _mm512_cmpge_epi64_mask(size, _mm512_set1_epi64(int64_t{1} << 53)), negative = _mm512_movepi64_mask(value);
  __m512i folded = _mm512_srli_epi64(size, 10);
  folded = _mm512_mask_or_epi64(folded, _mm512_test_epi64_mask(rest, rest), folded, _mm512_set1_epi64(1));
  const __m512i kept = _mm512_mask_mov_epi64(size, large, folded);
  const __m512i scale = _mm512_mask_mov_epi64(_mm512_set1_epi64(-52), large, _mm512_set1_epi64(-42));
  const __m512i with_sign = _mm512_mask_sub_epi64(kept, negative, _mm512_setzero_si512(), kept);
  return round_scaled_x8(with_sign, scale);
}
LANES_INLINE __m256 product_in_28_bits_x8(__m256 a, __m256i g) { return _mm512_cvtpd_ps(_mm512_mul_pd(_mm512_mul_pd(_mm512_cvtps_pd(a), _mm512_cvtepi32_pd(g)), _mm512_set1_pd(0x1p-28))); }
/// a g 2^-28 with one rounding; g of up to 29 bits.
LANES_INLINE Floats product_in_28_bits(Floats a, Ints g) {
  return join(product_in_28_bits_x8(_mm512_castps512_ps256(a), _mm512_castsi512_si256(g)), product_in_28_bits_x8(_mm512_extractf32x8_ps(a, 1), _mm512_extracti64x4_epi64(g, 1)));
}
/// exponent + r g 2^-52, rounded once.
LANES_INLINE Floats sum_in_52_bits(Ints exponent, Ints r, Ints g) {
  return join(sum_in_52_bits_x8(low(exponent), low(r), low(g)), sum_in_52_bits_x8(high(exponent), high(r), high(g)));
}
/// Of positive finite numbers, subnormals normalised: 23 bits, and the power of two.
LANES_INLINE Ints fraction_of(Floats x) { return both(as_ints(_mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_zero)), set_ints(0x7FFFFF)); }
LANES_INLINE Ints exponent_of(Floats x) { return _mm512_cvtps_epi32(_mm512_getexp_ps(x)); }

}  // namespace systole::avx512
