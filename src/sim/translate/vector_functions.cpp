#include "sim/translate/vector_functions.h"

#include "numerics/formats.h"
#include "numerics/functions.h"
#include "numerics/function_tables.h"

#ifdef SYSTOLE_HAS_AVX512
namespace systole {
namespace {

#define INLINE SYSTOLE_AVX512_INLINE

INLINE __m512 set(float v) { return _mm512_set1_ps(v); }
INLINE __m512 nan_x16() { return _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int32_t>(kCanonicalNaN))); }
INLINE __m512 infinity_x16() { return _mm512_castsi512_ps(_mm512_set1_epi32(0x7F800000)); }
INLINE __m512 magnitude(__m512 v) { return _mm512_abs_ps(v); }
INLINE __m512 with_sign_of(__m512 v, __m512 sign) {
  const __m512 top = _mm512_castsi512_ps(_mm512_set1_epi32(INT32_MIN));
  return _mm512_or_ps(magnitude(v), _mm512_and_ps(sign, top));
}
INLINE __m512 fma(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
INLINE __mmask16 is_nan(__m512 v) { return _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q); }
INLINE __mmask16 is_finite(__m512 v) { return _mm512_cmp_ps_mask(magnitude(v), infinity_x16(), _CMP_LT_OQ); }
INLINE __m512 canonical_x16(__m512 v) { return _mm512_mask_mov_ps(v, is_nan(v), nan_x16()); }

/// A function's table by coefficient, for look-ups in registers.
template <size_t N>
struct Coefficients {
  alignas(64) int32_t c[3][N] = {};
  constexpr explicit Coefficients(const FunctionSegment (&table)[N]) {
    for (size_t i = 0; i < N; ++i) c[0][i] = table[i].c0, c[1][i] = table[i].c1, c[2][i] = table[i].c2;
  }
};
constexpr Coefficients<64> kExp2(kExp2Table), kRsqrtEven(kRsqrtEvenTable), kRsqrtOdd(kRsqrtOddTable), kLog2Low(kLog2LowTable), kLog2High(kLog2HighTable);
constexpr Coefficients<128> kReciprocalOf(kReciprocalTable);

INLINE __m512i of_32(const int32_t* column, __m512i index) { return _mm512_permutex2var_epi32(_mm512_load_si512(column), index, _mm512_load_si512(column + 16)); }
/// Sixteen entries of a column of 64 or 128.
template <size_t N>
INLINE __m512i look_up(const int32_t (&column)[N], __m512i index) {
  __m512i r = _mm512_mask_mov_epi32(of_32(column, index), _mm512_test_epi32_mask(index, _mm512_set1_epi32(32)), of_32(column + 32, index));
  if constexpr (N == 128) {
    const __m512i upper = _mm512_mask_mov_epi32(of_32(column + 64, index), _mm512_test_epi32_mask(index, _mm512_set1_epi32(32)), of_32(column + 96, index));
    r = _mm512_mask_mov_epi32(r, _mm512_test_epi32_mask(index, _mm512_set1_epi32(64)), upper);
  }
  return r;
}
/// (a b) >> bits of sixteen 32-bit integers, the products in 64 bits; results fit 32.
INLINE __m512i shifted_product(__m512i a, __m512i b, unsigned bits) {
  const __m512i even = _mm512_srai_epi64(_mm512_mul_epi32(a, b), bits);
  const __m512i odd = _mm512_slli_epi64(_mm512_srai_epi64(_mm512_mul_epi32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32)), bits), 32);
  return _mm512_mask_mov_epi32(even, 0xAAAA, odd);
}
/// c0 + u (c1 + u c2) with truncated products (numerics/functions.cpp, quadratic).
template <size_t N>
INLINE __m512i quadratic(const Coefficients<N>& table, __m512i index, __m512i u, unsigned bits) {
  const __m512i t = _mm512_add_epi32(look_up(table.c[1], index), shifted_product(u, look_up(table.c[2], index), bits));
  return _mm512_add_epi32(look_up(table.c[0], index), shifted_product(u, t, bits));
}

/// value 2^exponent with one rounding; |value| < 2^53.
INLINE __m256 round_scaled_x8(__m512i value, __m512i exponent) { return _mm512_cvtpd_ps(_mm512_scalef_pd(_mm512_cvtepi64_pd(value), _mm512_cvtepi64_pd(exponent))); }

INLINE __m256 low(__m512 v) { return _mm512_castps512_ps256(v); }
INLINE __m256 high(__m512 v) { return _mm512_extractf32x8_ps(v, 1); }
INLINE __m512 join(__m256 a, __m256 b) { return _mm512_insertf32x8(_mm512_castps256_ps512(a), b, 1); }
INLINE __m512i low(__m512i v) { return _mm512_cvtepi32_epi64(_mm512_castsi512_si256(v)); }
INLINE __m512i high(__m512i v) { return _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(v, 1)); }

/// value 2^exponent of values from 2^26 to 2^30, with one rounding. Subnormal results take the way through double.
INLINE __m512 round_scaled(__m512i value, __m512i exponent) {
  const __m512 r = _mm512_scalef_ps(_mm512_cvtepi32_ps(value), _mm512_cvtepi32_ps(exponent));
  const __mmask16 may_round_twice = _mm512_cmplt_epi32_mask(exponent, _mm512_set1_epi32(-126 - 26));
  if (__builtin_expect(may_round_twice, 0)) return _mm512_mask_mov_ps(r, may_round_twice, join(round_scaled_x8(low(value), low(exponent)), round_scaled_x8(high(value), high(exponent))));
  return r;
}

INLINE __m512 exp2_shifted(__m512 x, __m512 m) {
  const __m512 n = _mm512_floor_ps(x), exponent = _mm512_sub_ps(n, m);
  // Lanes outside are put right below; here they must only not disturb.
  const __mmask16 inside = _mm512_cmp_ps_mask(exponent, set(128.0f), _CMP_LT_OQ) & _mm512_cmp_ps_mask(exponent, set(-150.0f), _CMP_GE_OQ) & is_finite(x);
  const __m512 sx = _mm512_maskz_mov_ps(inside, x), se = _mm512_maskz_mov_ps(inside, exponent);
  // 26 fraction bits, rounded down: near zero by floor(x 2^26) in 32 bits; from 32 on x - floor(x) is exact.
  const __mmask16 near = _mm512_cmp_ps_mask(magnitude(sx), set(32.0f), _CMP_LT_OQ);
  const __m512i fixed = _mm512_cvt_roundps_epi32(_mm512_mul_ps(_mm512_maskz_mov_ps(near, sx), set(0x1p26f)), _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  const __m512i far = _mm512_cvttps_epi32(_mm512_mul_ps(_mm512_sub_ps(sx, _mm512_floor_ps(sx)), set(0x1p26f)));
  const __m512i f = _mm512_mask_mov_epi32(far, near, _mm512_and_si512(fixed, _mm512_set1_epi32(0x3FFFFFF)));
  const __m512i value = quadratic(kExp2, _mm512_srli_epi32(f, 20), _mm512_and_si512(f, _mm512_set1_epi32(0xFFFFF)), 20);
  __m512 r = round_scaled(value, _mm512_sub_epi32(_mm512_cvttps_epi32(se), _mm512_set1_epi32(28)));
  r = _mm512_mask_mov_ps(r, _mm512_knot(inside), _mm512_setzero_ps());
  r = _mm512_mask_mov_ps(r, _mm512_cmp_ps_mask(exponent, set(128.0f), _CMP_GE_OQ), infinity_x16());
  const __mmask16 infinite = _mm512_cmp_ps_mask(magnitude(x), infinity_x16(), _CMP_EQ_OQ);
  const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
  r = _mm512_mask_mov_ps(r, infinite & _mm512_knot(negative), infinity_x16());
  r = _mm512_mask_mov_ps(r, infinite & negative, _mm512_setzero_ps());
  r = _mm512_mask_mov_ps(r, (infinite & _mm512_cmp_ps_mask(m, x, _CMP_EQ_OQ)) | is_nan(x) | is_nan(m), nan_x16());
  return r;
}
INLINE __m512 exp2(__m512 x) { return exp2_shifted(x, _mm512_setzero_ps()); }

/// Fraction bits and exponent of |x|, subnormals normalised.
INLINE __m512i fraction_of(__m512 x) { return _mm512_and_si512(_mm512_castps_si512(_mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_zero)), _mm512_set1_epi32(0x7FFFFF)); }
INLINE __m512i exponent_of(__m512 x) { return _mm512_cvtps_epi32(_mm512_getexp_ps(x)); }

INLINE __m512 reciprocal(__m512 x) {
  const __mmask16 usual = is_finite(x) & _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NEQ_OQ);
  const __m512 s = _mm512_mask_mov_ps(set(1.0f), usual, magnitude(x));
  const __m512i fraction = fraction_of(s), exponent = exponent_of(s);
  const __m512i curve = quadratic(kReciprocalOf, _mm512_srli_epi32(fraction, 16), _mm512_and_si512(fraction, _mm512_set1_epi32(0xFFFF)), 16);
  const __mmask16 power = _mm512_testn_epi32_mask(fraction, fraction);  // exact: 2^-exponent
  __m512 r = round_scaled(_mm512_mask_mov_epi32(curve, power, _mm512_set1_epi32(1 << 28)), _mm512_sub_epi32(_mm512_set1_epi32(-28), exponent));
  r = _mm512_mask_mov_ps(r, _mm512_cmp_ps_mask(magnitude(x), infinity_x16(), _CMP_EQ_OQ), _mm512_setzero_ps());
  r = _mm512_mask_mov_ps(r, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_EQ_OQ), infinity_x16());
  return _mm512_mask_mov_ps(with_sign_of(r, x), is_nan(x), nan_x16());
}

INLINE __m512 rsqrt(__m512 x) {
  const __mmask16 usual = is_finite(x) & _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ);
  const __m512 s = _mm512_mask_mov_ps(set(1.0f), usual, x);
  const __m512i fraction = fraction_of(s), exponent = exponent_of(s);
  const __m512i odd = _mm512_and_si512(exponent, _mm512_set1_epi32(1)), half = _mm512_srai_epi32(_mm512_sub_epi32(exponent, odd), 1);
  const __m512i index = _mm512_srli_epi32(fraction, 17), u = _mm512_and_si512(fraction, _mm512_set1_epi32(0x1FFFF));
  const __mmask16 is_odd = _mm512_test_epi32_mask(odd, odd), power = _mm512_testn_epi32_mask(fraction, fraction) & _mm512_knot(is_odd);
  const __m512i curve = _mm512_mask_mov_epi32(quadratic(kRsqrtEven, index, u, 17), is_odd, quadratic(kRsqrtOdd, index, u, 17));
  __m512 r = round_scaled(_mm512_mask_mov_epi32(curve, power, _mm512_set1_epi32(1 << 28)), _mm512_sub_epi32(_mm512_set1_epi32(-28), half));
  r = _mm512_mask_mov_ps(r, _mm512_cmp_ps_mask(x, infinity_x16(), _CMP_EQ_OQ), _mm512_setzero_ps());
  r = _mm512_mask_mov_ps(r, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_EQ_OQ), with_sign_of(infinity_x16(), x));
  return _mm512_mask_mov_ps(r, is_nan(x) | _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), nan_x16());
}

/// exponent + (m - 1) g in 52 fraction bits, rounded once.
INLINE __m256 log2_x8(__m512i exponent, __m512i r, __m512i g) {
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
INLINE __m512 log2(__m512 x) {
  const __mmask16 usual = is_finite(x) & _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ);
  const __m512 s = _mm512_mask_mov_ps(set(1.0f), usual, x);
  const __m512i fraction = fraction_of(s), exponent = exponent_of(s);
  const __mmask16 upper = _mm512_cmpge_epi32_mask(fraction, _mm512_set1_epi32(0x400000));
  const __m512i offset = _mm512_and_si512(fraction, _mm512_set1_epi32(0x3FFFFF)), index = _mm512_srli_epi32(offset, 16), u = _mm512_and_si512(offset, _mm512_set1_epi32(0xFFFF));
  const __m512i g = _mm512_mask_mov_epi32(quadratic(kLog2Low, index, u, 16), upper, quadratic(kLog2High, index, u, 16));
  // m - 1 with 24 fraction bits; the upper half uses m / 2
  const __m512i m1 = _mm512_mask_mov_epi32(_mm512_slli_epi32(fraction, 1), upper, _mm512_sub_epi32(fraction, _mm512_set1_epi32(0x800000)));
  const __m512i e = _mm512_mask_add_epi32(exponent, upper, exponent, _mm512_set1_epi32(1));
  __m512 r = join(log2_x8(low(e), low(m1), low(g)), log2_x8(high(e), high(m1), high(g)));
  r = _mm512_mask_mov_ps(r, _mm512_cmp_ps_mask(x, infinity_x16(), _CMP_EQ_OQ), infinity_x16());
  r = _mm512_mask_mov_ps(r, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_EQ_OQ), with_sign_of(infinity_x16(), set(-1.0f)));
  return _mm512_mask_mov_ps(r, is_nan(x) | _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), nan_x16());
}

INLINE __m512 exp(__m512 x) {
  const __m512 log2e = set(1.44269502f), t = _mm512_mul_ps(x, log2e), e = exp2(t);
  const __mmask16 refine = _mm512_cmp_ps_mask(t, set(-126.0f), _CMP_GT_OQ) & _mm512_cmp_ps_mask(t, set(128.0f), _CMP_LT_OQ);
  const __m512 minus_t = _mm512_xor_ps(t, set(-0.0f)), rest = fma(x, set(1.92596303e-8f), fma(x, log2e, minus_t));
  return _mm512_mask_mov_ps(e, refine, fma(e, _mm512_mul_ps(rest, set(0.693147182f)), e));
}
INLINE __m512 log(__m512 x) { return canonical_x16(_mm512_mul_ps(log2(x), set(0.693147182f))); }

INLINE __m512 sqrt(__m512 x) {
  const __mmask16 small = _mm512_cmp_ps_mask(x, set(0x1p-100f), _CMP_LT_OQ);
  const __m512 scale = _mm512_mask_mov_ps(set(1.0f), small, set(0x1p24f)), scaled = _mm512_mul_ps(x, _mm512_mul_ps(scale, scale));
  const __m512 r = rsqrt(scaled), s = _mm512_mul_ps(scaled, r), minus_s = _mm512_xor_ps(s, set(-0.0f));
  const __m512 root = canonical_x16(_mm512_div_ps(fma(fma(minus_s, s, scaled), _mm512_mul_ps(set(0.5f), r), s), scale));
  const __mmask16 zero = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_EQ_OQ), infinite = _mm512_cmp_ps_mask(magnitude(x), infinity_x16(), _CMP_EQ_OQ);
  const __m512 edge = _mm512_mask_mov_ps(x, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), nan_x16());
  return _mm512_mask_mov_ps(root, zero | infinite, edge);
}

INLINE __m512 divide(__m512 a, __m512 b) {
  const __m512 seed = reciprocal(b), minus_b = _mm512_xor_ps(b, set(-0.0f));
  const __m512 refined = fma(fma(minus_b, seed, set(1.0f)), seed, seed), r = _mm512_mask_mov_ps(seed, is_finite(seed), refined), q = _mm512_mul_ps(a, r);
  const __mmask16 correct = is_finite(q) & is_finite(r) & _mm512_cmp_ps_mask(r, _mm512_setzero_ps(), _CMP_NEQ_UQ) & _mm512_cmp_ps_mask(magnitude(q), set(0x1p-100f), _CMP_NLT_UQ);
  const __m512 minus_q = _mm512_xor_ps(q, set(-0.0f));
  return canonical_x16(_mm512_mask_mov_ps(q, correct, fma(fma(minus_q, b, a), r, q)));
}

INLINE __m512 tanh(__m512 x) {
  const __m512 a = magnitude(x), s = _mm512_mul_ps(x, x);
  __m512 p = fma(s, set(-0.00609671416591f), set(0.0209971789991f));
  p = fma(s, p, set(-0.0538509095785f));
  p = fma(s, p, set(0.13332769737f));
  p = fma(s, p, set(-0.333333289441f));
  const __m512 near = fma(_mm512_mul_ps(x, s), p, x);
  __m512 t = fma(set(-2.0f), reciprocal(_mm512_add_ps(exp(_mm512_mul_ps(set(2.0f), a)), set(1.0f))), set(1.0f));
  t = with_sign_of(_mm512_mask_mov_ps(t, _mm512_cmp_ps_mask(a, set(10.0f), _CMP_GT_OQ), set(1.0f)), x);
  t = _mm512_mask_mov_ps(t, _mm512_cmp_ps_mask(a, set(0.625f), _CMP_LT_OQ), near);
  return _mm512_mask_mov_ps(t, is_nan(x), nan_x16());
}

INLINE __m512 sigmoid(__m512 x) {
  // Both branches need one exponential: of x below -1, of -x above.
  const __mmask16 left = _mm512_cmp_ps_mask(x, set(-1.0f), _CMP_LT_OQ);
  const __m512 e = exp(_mm512_mask_mov_ps(_mm512_xor_ps(x, set(-0.0f)), left, x)), r = reciprocal(_mm512_add_ps(set(1.0f), e));
  const __m512 minus_e = _mm512_xor_ps(e, set(-0.0f)), tail = fma(minus_e, _mm512_mul_ps(e, r), e);
  return _mm512_mask_mov_ps(_mm512_mask_mov_ps(r, left, tail), is_nan(x), nan_x16());
}

INLINE __m512 erf(__m512 x) {
  static constexpr float kNear[] = {-9.66704457149e-6f, 0.000112659590256f, -0.000848408040554f, 0.00522103180786f, -0.0268654307277f, 0.112837824952f, -0.37612638468f, 0.128379167062f};
  static constexpr float kFar[] = {2.36191022702e-6f, -6.64477097807e-5f, 0.000861008516515f, -0.00686664596893f, 0.03811764189f, -0.158811989771f, -0.911532311289f, -1.63058217149f, 0.00046186157667f};
  const __m512 a = magnitude(x), s = _mm512_mul_ps(x, x);
  __m512 p = fma(s, set(kNear[0]), set(kNear[1])), q = fma(a, set(kFar[0]), set(kFar[1]));
  for (int i = 2; i < 8; ++i) p = fma(s, p, set(kNear[i]));
  for (int i = 2; i < 9; ++i) q = fma(a, q, set(kFar[i]));
  __m512 r = with_sign_of(_mm512_sub_ps(set(1.0f), exp2(q)), x);
  r = _mm512_mask_mov_ps(r, _mm512_cmp_ps_mask(a, set(4.0f), _CMP_GE_OQ), with_sign_of(set(1.0f), x));
  r = _mm512_mask_mov_ps(r, _mm512_cmp_ps_mask(a, set(1.0f), _CMP_LT_OQ), fma(x, p, x));
  return _mm512_mask_mov_ps(r, is_nan(x), nan_x16());
}

#define FUNCTION(name, expression) \
  SYSTOLE_AVX512 __m512 name(__m512 a, [[maybe_unused]] __m512 b) { return expression; }
FUNCTION(exp2_of, exp2(a))
FUNCTION(exp2_shifted_of, exp2_shifted(a, b))
FUNCTION(reciprocal_of, reciprocal(a))
FUNCTION(rsqrt_of, rsqrt(a))
FUNCTION(log2_of, log2(a))
FUNCTION(exp_of, exp(a))
FUNCTION(log_of, log(a))
FUNCTION(sqrt_of, sqrt(a))
FUNCTION(divide_of, divide(a, b))
FUNCTION(tanh_of, tanh(a))
FUNCTION(sigmoid_of, sigmoid(a))
FUNCTION(erf_of, erf(a))

SYSTOLE_AVX512 __m512 power_of(__m512 a, __m512 b) {
  alignas(64) float x[16], y[16];
  _mm512_store_ps(x, a), _mm512_store_ps(y, b);
  for (int i = 0; i < 16; ++i) x[i] = vx_power(x[i], y[i]);
  return _mm512_load_ps(x);
}

}  // namespace

VectorFunction vector_function(isa::Micro op) {
  using isa::Micro;
  switch (op) {
    case Micro::kExp2: return exp2_of;
    case Micro::kExp2Shifted: return exp2_shifted_of;
    case Micro::kReciprocal: return reciprocal_of;
    case Micro::kRsqrt: return rsqrt_of;
    case Micro::kLog2: return log2_of;
    case Micro::kExp: return exp_of;
    case Micro::kLog: return log_of;
    case Micro::kSqrt: return sqrt_of;
    case Micro::kDivide: return divide_of;
    case Micro::kTanh: return tanh_of;
    case Micro::kSigmoid: return sigmoid_of;
    case Micro::kErf: return erf_of;
    case Micro::kPower: return power_of;
    default: return nullptr;
  }
}

}  // namespace systole
#endif
