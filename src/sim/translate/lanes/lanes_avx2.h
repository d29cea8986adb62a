// Sixteen lanes in two registers of AVX2 (with FMA and F16C); a register has eight.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#define LANES __attribute__((target("avx2,fma,f16c")))
#define LANES_INLINE __attribute__((target("avx2,fma,f16c"), always_inline)) inline

namespace systole::avx2 {

using NativeFloats = __m256;
using NativeInts = __m256i;
using NativeMask = __m256i;  ///< all bits of a lane, or none
inline constexpr int kNativeLanes = 8;
struct Floats {
  __m256 low, high;
};
struct Ints {
  __m256i low, high;
};
using Mask = Ints;

LANES_INLINE NativeFloats set_native(float v) { return _mm256_set1_ps(v); }
LANES_INLINE NativeInts set_native_ints(int32_t v) { return _mm256_set1_epi32(v); }
LANES_INLINE NativeInts as_ints(NativeFloats v) { return _mm256_castps_si256(v); }
LANES_INLINE NativeFloats as_floats(NativeInts v) { return _mm256_castsi256_ps(v); }
LANES_INLINE NativeFloats add(NativeFloats a, NativeFloats b) { return _mm256_add_ps(a, b); }
LANES_INLINE NativeFloats subtract(NativeFloats a, NativeFloats b) { return _mm256_sub_ps(a, b); }
LANES_INLINE NativeFloats multiply(NativeFloats a, NativeFloats b) { return _mm256_mul_ps(a, b); }
LANES_INLINE NativeFloats quotient(NativeFloats a, NativeFloats b) { return _mm256_div_ps(a, b); }
LANES_INLINE NativeFloats fma(NativeFloats a, NativeFloats b, NativeFloats c) { return _mm256_fmadd_ps(a, b, c); }
LANES_INLINE NativeFloats floor(NativeFloats v) { return _mm256_floor_ps(v); }
LANES_INLINE NativeInts truncate(NativeFloats v) { return _mm256_cvttps_epi32(v); }
LANES_INLINE NativeFloats to_floats(NativeInts v) { return _mm256_cvtepi32_ps(v); }
LANES_INLINE NativeInts add(NativeInts a, NativeInts b) { return _mm256_add_epi32(a, b); }
LANES_INLINE NativeInts subtract(NativeInts a, NativeInts b) { return _mm256_sub_epi32(a, b); }
LANES_INLINE NativeInts multiply_low(NativeInts a, NativeInts b) { return _mm256_mullo_epi32(a, b); }
LANES_INLINE NativeInts both(NativeInts a, NativeInts b) { return _mm256_and_si256(a, b); }
LANES_INLINE NativeInts either(NativeInts a, NativeInts b) { return _mm256_or_si256(a, b); }
LANES_INLINE NativeInts exclusive(NativeInts a, NativeInts b) { return _mm256_xor_si256(a, b); }
template <int kBits>
LANES_INLINE NativeInts shift_left(NativeInts v) { return _mm256_slli_epi32(v, kBits); }
template <int kBits>
LANES_INLINE NativeInts shift_right(NativeInts v) { return _mm256_srli_epi32(v, kBits); }
template <int kBits>
LANES_INLINE NativeInts shift_right_signed(NativeInts v) { return _mm256_srai_epi32(v, kBits); }
/// sum + products of pairs of 16-bit numbers.
LANES_INLINE NativeInts add_pair_products(NativeInts sum, NativeInts a, NativeInts b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
/// Bits `kBits` and up of the 64-bit products, which fit 32 bits.
template <int kBits>
LANES_INLINE NativeInts shifted_product(NativeInts a, NativeInts b) {
  const __m256i even = _mm256_srli_epi64(_mm256_mul_epi32(a, b), kBits), odd = _mm256_mul_epi32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
  return _mm256_blend_epi32(even, _mm256_slli_epi64(_mm256_srli_epi64(odd, kBits), 32), 0xAA);
}

// Comparisons are false where a number is NaN, but for `unordered` and `not_less`.
LANES_INLINE NativeMask less(NativeFloats a, NativeFloats b) { return as_ints(_mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
LANES_INLINE NativeMask at_least(NativeFloats a, NativeFloats b) { return as_ints(_mm256_cmp_ps(a, b, _CMP_GE_OQ)); }
LANES_INLINE NativeMask not_less(NativeFloats a, NativeFloats b) { return as_ints(_mm256_cmp_ps(a, b, _CMP_NLT_UQ)); }
LANES_INLINE NativeMask equal(NativeFloats a, NativeFloats b) { return as_ints(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)); }
LANES_INLINE NativeMask unordered(NativeFloats v) { return as_ints(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)); }
LANES_INLINE NativeMask equal(NativeInts a, NativeInts b) { return _mm256_cmpeq_epi32(a, b); }
LANES_INLINE NativeMask greater(NativeInts a, NativeInts b) { return _mm256_cmpgt_epi32(a, b); }
LANES_INLINE NativeMask both_of(NativeMask a, NativeMask b) { return _mm256_and_si256(a, b); }
LANES_INLINE NativeMask either_of(NativeMask a, NativeMask b) { return _mm256_or_si256(a, b); }
LANES_INLINE NativeMask none_of(NativeMask a) { return _mm256_xor_si256(a, _mm256_set1_epi32(-1)); }
LANES_INLINE bool any(NativeMask a) { return !_mm256_testz_si256(a, a); }
LANES_INLINE NativeFloats select(NativeMask m, NativeFloats yes, NativeFloats no) { return _mm256_blendv_ps(no, yes, as_floats(m)); }
LANES_INLINE NativeInts select(NativeMask m, NativeInts yes, NativeInts no) { return _mm256_blendv_epi8(no, yes, m); }

// Sixteen lanes: each half as above.
LANES_INLINE Floats set(float v) { return {_mm256_set1_ps(v), _mm256_set1_ps(v)}; }
LANES_INLINE Ints set_ints(int32_t v) { return {_mm256_set1_epi32(v), _mm256_set1_epi32(v)}; }
LANES_INLINE Ints as_ints(Floats v) { return {as_ints(v.low), as_ints(v.high)}; }
LANES_INLINE Floats as_floats(Ints v) { return {as_floats(v.low), as_floats(v.high)}; }
LANES_INLINE Floats add(Floats a, Floats b) { return {add(a.low, b.low), add(a.high, b.high)}; }
LANES_INLINE Floats subtract(Floats a, Floats b) { return {subtract(a.low, b.low), subtract(a.high, b.high)}; }
LANES_INLINE Floats fma(Floats a, Floats b, Floats c) { return {fma(a.low, b.low, c.low), fma(a.high, b.high, c.high)}; }
LANES_INLINE Ints add(Ints a, Ints b) { return {add(a.low, b.low), add(a.high, b.high)}; }
LANES_INLINE Ints multiply_low(Ints a, Ints b) { return {multiply_low(a.low, b.low), multiply_low(a.high, b.high)}; }
LANES_INLINE Ints both(Ints a, Ints b) { return {both(a.low, b.low), both(a.high, b.high)}; }
LANES_INLINE Ints either(Ints a, Ints b) { return {either(a.low, b.low), either(a.high, b.high)}; }
LANES_INLINE Ints exclusive(Ints a, Ints b) { return {exclusive(a.low, b.low), exclusive(a.high, b.high)}; }
template <int kBits>
LANES_INLINE Ints shift_left(Ints v) { return {shift_left<kBits>(v.low), shift_left<kBits>(v.high)}; }
template <int kBits>
LANES_INLINE Ints shift_right(Ints v) { return {shift_right<kBits>(v.low), shift_right<kBits>(v.high)}; }
LANES_INLINE Ints add_pair_products(Ints sum, Ints a, Ints b) { return {add_pair_products(sum.low, a.low, b.low), add_pair_products(sum.high, a.high, b.high)}; }
LANES_INLINE Mask unordered(Floats v) { return {unordered(v.low), unordered(v.high)}; }
LANES_INLINE Mask equal(Ints a, Ints b) { return {equal(a.low, b.low), equal(a.high, b.high)}; }
LANES_INLINE bool any(Mask a) { return any(either(a.low, a.high)); }
LANES_INLINE Floats select(Mask m, Floats yes, Floats no) { return {select(m.low, yes.low, no.low), select(m.high, yes.high, no.high)}; }

// Memory. A count below sixteen goes through masks, or through a copy where elements are narrow.
LANES_INLINE __m256i first_of_eight(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
LANES_INLINE __m256i load_256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
LANES_INLINE __m128i load_128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
LANES_INLINE Ints load_ints(const void* p) { return {load_256(p), load_256(static_cast<const char*>(p) + 32)}; }
LANES_INLINE Ints load_ints(const void* p, int n) {
  if (n == 16) return load_ints(p);
  const auto* at = static_cast<const int*>(p);
  if (n < 8) return {_mm256_maskload_epi32(at, first_of_eight(n)), _mm256_setzero_si256()};
  return {load_256(at), n == 8 ? _mm256_setzero_si256() : _mm256_maskload_epi32(at + 8, first_of_eight(n - 8))};
}
LANES_INLINE Floats load_floats(const void* p) { return as_floats(load_ints(p)); }
LANES_INLINE Floats load_floats(const void* p, int n) { return as_floats(load_ints(p, n)); }
LANES_INLINE void store(void* p, Ints v) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), v.low);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(static_cast<char*>(p) + 32), v.high);
}
LANES_INLINE void store(void* p, Ints v, int n) {
  if (n == 16) return store(p, v);
  auto* at = static_cast<int*>(p);
  if (n < 8) return _mm256_maskstore_epi32(at, first_of_eight(n), v.low);  // slow: some hosts take twenty operations
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), v.low);
  if (n > 8) _mm256_maskstore_epi32(at + 8, first_of_eight(n - 8), v.high);
}
LANES_INLINE void store(void* p, Floats v) { store(p, as_ints(v)); }
LANES_INLINE void store(void* p, Floats v, int n) { store(p, as_ints(v), n); }
/// The first n elements of kBytes at p, the others zero.
template <int kBytes>
struct Padded {
  alignas(32) uint8_t bytes[16 * kBytes] = {};
  LANES_INLINE Padded(const void* p, int n) { std::memcpy(bytes, p, static_cast<size_t>(n) * kBytes); }
};
/// 16-bit numbers, without their signs.
LANES_INLINE Ints load_halves(const void* p) { return {_mm256_cvtepu16_epi32(load_128(p)), _mm256_cvtepu16_epi32(load_128(static_cast<const char*>(p) + 16))}; }
LANES_INLINE Ints load_halves(const void* p, int n) { return n == 16 ? load_halves(p) : load_halves(Padded<2>(p, n).bytes); }
LANES_INLINE void store_halves(void* p, Ints v, int n) {
  const Ints low = both(v, set_ints(0xFFFF));
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low.low, low.high), 0xD8);
  if (n == 16) return _mm256_storeu_si256(static_cast<__m256i*>(p), packed);
  alignas(32) uint8_t bytes[32];
  _mm256_store_si256(reinterpret_cast<__m256i*>(bytes), packed);
  std::memcpy(p, bytes, static_cast<size_t>(n) * 2);
}
/// Eight lanes of spread_halves, of up to sixteen bytes: each 128 bits of the result takes its own from both copies of them.
template <int kChannels, int kFirst>
LANES_INLINE __m256 spread_eight(__m128i halves) {
  constexpr int kEven = (kChannels + 1) / 2 * 2;
  struct Indices {
    alignas(32) int8_t of[32] = {};
    constexpr Indices() {
      for (int lane = 0; lane < 8; ++lane) {
        const int group = (kFirst + lane) / kEven, c = (kFirst + lane) % kEven, from = 2 * (group * kChannels + c - kFirst / kEven * kChannels);
        of[4 * lane] = of[4 * lane + 1] = -1;
        of[4 * lane + 2] = static_cast<int8_t>(c < kChannels ? from : -1), of[4 * lane + 3] = static_cast<int8_t>(c < kChannels ? from + 1 : -1);
      }
    }
  };
  static constexpr Indices kIndices;
  return _mm256_castsi256_ps(_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(halves), _mm256_load_si256(reinterpret_cast<const __m256i*>(kIndices.of))));
}
/// n bf16 at p in groups of kChannels, as floats: sixteen lanes of whole groups, those of an odd number of channels with a zero behind each.
template <int kChannels>
LANES_INLINE Floats spread_halves(const void* p, int n) {
  constexpr int kHalf = 8 / ((kChannels + 1) / 2 * 2) * kChannels;  // of eight lanes
  const Padded<2> few(p, n);
  return {spread_eight<kChannels, 0>(load_128(few.bytes)), spread_eight<kChannels, 8>(load_128(few.bytes + 2 * kHalf))};
}
/// Of each four lanes the first two of a and b in turn, or the last two.
LANES_INLINE Ints interleave_low(Ints a, Ints b) { return {_mm256_unpacklo_epi32(a.low, b.low), _mm256_unpacklo_epi32(a.high, b.high)}; }
LANES_INLINE Ints interleave_high(Ints a, Ints b) { return {_mm256_unpackhi_epi32(a.low, b.low), _mm256_unpackhi_epi32(a.high, b.high)}; }
/// The first n of 16-bit numbers at p in groups of kFrom, zeros behind them up to kTo: 64 bytes.
template <int kFrom, int kTo>
LANES_INLINE void store_spread(void* to, const void* p, int n) {
  uint16_t halves[32] = {};
  for (int i = 0; i < n; ++i) std::memcpy(halves + i / kFrom * kTo + i % kFrom, static_cast<const uint8_t*>(p) + 2 * i, 2);
  std::memcpy(to, halves, sizeof halves);
}
template <bool kSigned>
LANES_INLINE Ints load_bytes(const void* p, int n) {
  const __m128i v = n == 16 ? load_128(p) : load_128(Padded<1>(p, n).bytes);
  if (kSigned) return {_mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(_mm_srli_si128(v, 8))};
  return {_mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8))};
}
LANES_INLINE void copy_bytes(uint8_t* to, const uint8_t* from, int64_t n) {
  if (n > 0) std::memcpy(to, from, static_cast<size_t>(n));
}
/// fp16.
LANES_INLINE Floats sixteen_of_fp16(const void* p) { return {_mm256_cvtph_ps(load_128(p)), _mm256_cvtph_ps(load_128(static_cast<const char*>(p) + 16))}; }
LANES_INLINE Floats load_fp16(const void* p, int n) { return n == 16 ? sixteen_of_fp16(p) : sixteen_of_fp16(Padded<2>(p, n).bytes); }
LANES_INLINE Floats floats_of_fp16(Ints bits) {
  alignas(32) uint8_t bytes[32];
  store_halves(bytes, bits, 16);
  return sixteen_of_fp16(bytes);
}
/// 32 bits at p + offsets.
LANES_INLINE Ints gather(const void* p, Ints offsets, int n) {
  const auto* at = static_cast<const int*>(p);
  return {_mm256_mask_i32gather_epi32(_mm256_setzero_si256(), at, offsets.low, first_of_eight(n), 1), _mm256_mask_i32gather_epi32(_mm256_setzero_si256(), at, offsets.high, first_of_eight(n - 8), 1)};
}
/// n times 0, 1, 2 ...
LANES_INLINE Ints steps_of(int32_t n) { return multiply_low(Ints{_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)}, set_ints(n)); }

// What functions are made of.
template <size_t N>
LANES_INLINE NativeInts look_up(const int32_t (&table)[N], NativeInts index) { return _mm256_i32gather_epi32(table, index, 4); }
/// 2^exponent of -126 to 127.
LANES_INLINE NativeFloats power_of_two(NativeInts exponent) { return as_floats(_mm256_slli_epi32(_mm256_add_epi32(exponent, _mm256_set1_epi32(127)), 23)); }
/// v 2^exponent, exact unless the result is subnormal; |exponent| < 250.
LANES_INLINE NativeFloats scale(NativeFloats v, NativeInts exponent) {
  const __m256i half = _mm256_srai_epi32(exponent, 1);
  return _mm256_mul_ps(_mm256_mul_ps(v, power_of_two(half)), power_of_two(_mm256_sub_epi32(exponent, half)));
}
LANES_INLINE __m128 scale_rounding_once_x4(__m128i value, __m128i exponent) {
  const __m256i power = _mm256_slli_epi64(_mm256_add_epi64(_mm256_cvtepi32_epi64(exponent), _mm256_set1_epi64x(1023)), 52);
  return _mm256_cvtpd_ps(_mm256_mul_pd(_mm256_cvtepi32_pd(value), _mm256_castsi256_pd(power)));
}
/// value 2^exponent with one rounding.
LANES_INLINE NativeFloats scale_rounding_once(NativeInts value, NativeInts exponent) {
  const __m128 low = scale_rounding_once_x4(_mm256_castsi256_si128(value), _mm256_castsi256_si128(exponent));
  return _mm256_insertf128_ps(_mm256_castps128_ps256(low), scale_rounding_once_x4(_mm256_extracti128_si256(value, 1), _mm256_extracti128_si256(exponent, 1)), 1);
}
LANES_INLINE __m128 product_in_28_bits_x4(__m128 a, __m128i g) { return _mm256_cvtpd_ps(_mm256_mul_pd(_mm256_mul_pd(_mm256_cvtps_pd(a), _mm256_cvtepi32_pd(g)), _mm256_set1_pd(0x1p-28))); }
/// a g 2^-28 with one rounding; g of up to 29 bits.
LANES_INLINE NativeFloats product_in_28_bits(NativeFloats a, NativeInts g) {
  const __m128 low = product_in_28_bits_x4(_mm256_castps256_ps128(a), _mm256_castsi256_si128(g));
  return _mm256_insertf128_ps(_mm256_castps128_ps256(low), product_in_28_bits_x4(_mm256_extractf128_ps(a, 1), _mm256_extracti128_si256(g, 1)), 1);
}
/// exponent + r g 2^-52, rounded once.
LANES_INLINE NativeFloats sum_in_52_bits(NativeInts exponent, NativeInts r, NativeInts g) {
  alignas(32) int32_t e[8], x[8], y[8];
  alignas(32) float sum[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(e), exponent), _mm256_store_si256(reinterpret_cast<__m256i*>(x), r), _mm256_store_si256(reinterpret_cast<__m256i*>(y), g);
  for (int i = 0; i < 8; ++i) sum[i] = static_cast<float>((int64_t{e[i]} << 52) + int64_t{x[i]} * y[i]) * 0x1p-52f;
  return _mm256_load_ps(sum);
}
/// Subnormals as numbers 2^24 larger.
LANES_INLINE NativeMask is_subnormal(NativeFloats x) { return less(x, _mm256_set1_ps(0x1p-126f)); }
LANES_INLINE NativeFloats normalised(NativeFloats x) { return select(is_subnormal(x), _mm256_mul_ps(x, _mm256_set1_ps(0x1p24f)), x); }
/// Of positive finite numbers, subnormals normalised: 23 bits, and the power of two.
LANES_INLINE NativeInts fraction_of(NativeFloats x) { return both(as_ints(normalised(x)), _mm256_set1_epi32(0x7FFFFF)); }
LANES_INLINE NativeInts exponent_of(NativeFloats x) {
  const NativeInts biased = shift_right<23>(as_ints(normalised(x)));
  return subtract(biased, select(is_subnormal(x), _mm256_set1_epi32(127 + 24), _mm256_set1_epi32(127)));
}

}  // namespace systole::avx2
