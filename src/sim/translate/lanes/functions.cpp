// The VX functions (numerics/functions.h) on a register of values at a time, bit for bit.
#include "numerics/formats.h"
#include "numerics/function_tables.h"
#include "numerics/functions.h"
#include "sim/translate/lanes/matrix.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {
namespace {

using F = NativeFloats;
using I = NativeInts;
using M = NativeMask;
#define INLINE LANES_INLINE

INLINE F num(float v) { return set_native(v); }
INLINE I bits(uint32_t v) { return set_native_ints(static_cast<int32_t>(v)); }
INLINE F zero() { return num(0.0f); }
INLINE F nan() { return as_floats(bits(kCanonicalNaN)); }
INLINE F infinity() { return as_floats(bits(0x7F800000u)); }
INLINE F magnitude(F v) { return as_floats(both(as_ints(v), bits(0x7FFFFFFFu))); }
INLINE F negative(F v) { return as_floats(exclusive(as_ints(v), bits(0x80000000u))); }
INLINE F with_sign_of(F v, F sign) { return as_floats(either(as_ints(magnitude(v)), both(as_ints(sign), bits(0x80000000u)))); }
INLINE M is_finite(F v) { return less(magnitude(v), infinity()); }
INLINE M is_infinite(F v) { return equal(magnitude(v), infinity()); }
INLINE M is_zero(F v) { return equal(v, zero()); }
INLINE bool all(M m) { return !any(none_of(m)); }
INLINE F without_payload(F v) { return select(unordered(v), nan(), v); }

/// A function's table by coefficient.
template <size_t N>
struct Coefficients {
  alignas(64) int32_t c[3][N] = {};
  constexpr explicit Coefficients(const FunctionSegment (&table)[N]) {
    for (size_t i = 0; i < N; ++i) c[0][i] = table[i].c0, c[1][i] = table[i].c1, c[2][i] = table[i].c2;
  }
};
constexpr Coefficients<64> kExp2(kExp2Table), kRsqrtEven(kRsqrtEvenTable), kRsqrtOdd(kRsqrtOddTable), kLog2Low(kLog2LowTable), kLog2High(kLog2HighTable);
constexpr Coefficients<128> kReciprocalOf(kReciprocalTable);
constexpr Coefficients<256> kErf(kErfTable);

/// c0 + u (c1 + u c2) with truncated products (numerics/functions.cpp, quadratic).
template <int kBits, size_t N>
INLINE I quadratic(const Coefficients<N>& table, I index, I u) {
  const I t = add(look_up(table.c[1], index), shifted_product<kBits>(u, look_up(table.c[2], index)));
  return add(look_up(table.c[0], index), shifted_product<kBits>(u, t));
}

/// value 2^exponent of values from 2^26 to 2^30, with one rounding. Subnormal results take the way through double.
INLINE F round_scaled(I value, I exponent) {
  const F r = scale(to_floats(value), exponent);
  const M may_round_twice = greater(bits(static_cast<uint32_t>(-126 - 26)), exponent);
  if (__builtin_expect(any(may_round_twice), 0)) return select(may_round_twice, scale_rounding_once(value, exponent), r);
  return r;
}

// Where all values of a register are usual, far from everything that needs care, the same arithmetic goes without it.

INLINE F exp2_shifted(F x, F m) {
  const F n = floor(x), exponent = subtract(n, m);
  if (__builtin_expect(all(both_of(less(magnitude(x), num(32.0f)), both_of(at_least(exponent, num(-126.0f)), less(exponent, num(128.0f))))), 1)) {
    const I f = both(truncate(floor(multiply(x, num(0x1p26f)))), bits(0x3FFFFFF));
    return scale(to_floats(quadratic<20>(kExp2, shift_right<20>(f), both(f, bits(0xFFFFF)))), subtract(truncate(exponent), bits(28)));
  }
  // Lanes outside are put right below; here they must only not disturb.
  const M inside = both_of(both_of(less(exponent, num(128.0f)), at_least(exponent, num(-150.0f))), is_finite(x));
  const F sx = select(inside, x, zero()), se = select(inside, exponent, zero());
  // 26 fraction bits, rounded down: near zero by floor(x 2^26) in 32 bits; from 32 on x - floor(x) is exact.
  const M near = less(magnitude(sx), num(32.0f));
  const I fixed = truncate(floor(multiply(select(near, sx, zero()), num(0x1p26f)))), far = truncate(multiply(subtract(sx, floor(sx)), num(0x1p26f)));
  const I f = select(near, both(fixed, bits(0x3FFFFFF)), far);
  const I value = quadratic<20>(kExp2, shift_right<20>(f), both(f, bits(0xFFFFF)));
  F r = round_scaled(value, subtract(truncate(se), bits(28)));
  r = select(inside, r, zero());
  r = select(at_least(exponent, num(128.0f)), infinity(), r);
  const M infinite = is_infinite(x), below = less(x, zero());
  r = select(infinite, select(below, zero(), infinity()), r);
  return select(either_of(both_of(infinite, equal(m, x)), either_of(unordered(x), unordered(m))), nan(), r);
}
INLINE F exp2(F x) { return exp2_shifted(x, zero()); }

INLINE F reciprocal(F x) {
  const F size = magnitude(x);
  if (__builtin_expect(all(both_of(at_least(size, num(0x1p-126f)), less(size, num(0x1p125f)))), 1)) {
    const I fraction = fraction_of(size), curve = quadratic<16>(kReciprocalOf, shift_right<16>(fraction), both(fraction, bits(0xFFFF)));
    const F r = scale(to_floats(select(equal(fraction, bits(0)), bits(1 << 28), curve)), subtract(bits(static_cast<uint32_t>(-28)), exponent_of(size)));
    return with_sign_of(r, x);
  }
  const M usual = both_of(is_finite(x), none_of(is_zero(x)));
  const F s = select(usual, magnitude(x), num(1.0f));
  const I fraction = fraction_of(s), exponent = exponent_of(s);
  const I curve = quadratic<16>(kReciprocalOf, shift_right<16>(fraction), both(fraction, bits(0xFFFF)));
  const M power = equal(fraction, bits(0));  // exact: 2^-exponent
  F r = round_scaled(select(power, bits(1 << 28), curve), subtract(bits(static_cast<uint32_t>(-28)), exponent));
  r = select(is_infinite(x), zero(), r);
  r = select(is_zero(x), infinity(), r);
  return select(unordered(x), nan(), with_sign_of(r, x));
}

INLINE F rsqrt(F x) {
  const M usual = both_of(is_finite(x), less(zero(), x));
  const F s = select(usual, x, num(1.0f));
  const I fraction = fraction_of(s), exponent = exponent_of(s);
  const I odd = both(exponent, bits(1)), half = shift_right_signed<1>(subtract(exponent, odd));
  const I index = shift_right<17>(fraction), u = both(fraction, bits(0x1FFFF));
  const M is_odd = equal(odd, bits(1)), power = both_of(equal(fraction, bits(0)), none_of(is_odd));
  const I curve = select(is_odd, quadratic<17>(kRsqrtOdd, index, u), quadratic<17>(kRsqrtEven, index, u));
  F r = round_scaled(select(power, bits(1 << 28), curve), subtract(bits(static_cast<uint32_t>(-28)), half));
  r = select(equal(x, infinity()), zero(), r);
  r = select(is_zero(x), with_sign_of(infinity(), x), r);
  return select(either_of(unordered(x), less(x, zero())), nan(), r);
}

INLINE F log2(F x) {
  const M usual = both_of(is_finite(x), less(zero(), x));
  const F s = select(usual, x, num(1.0f));
  const I fraction = fraction_of(s), exponent = exponent_of(s);
  const M upper = greater(fraction, bits(0x3FFFFF));
  const I offset = both(fraction, bits(0x3FFFFF)), index = shift_right<16>(offset), u = both(offset, bits(0xFFFF));
  const I g = select(upper, quadratic<16>(kLog2High, index, u), quadratic<16>(kLog2Low, index, u));
  // m - 1 with 24 fraction bits; the upper half uses m / 2
  const I m1 = select(upper, subtract(fraction, bits(0x800000)), shift_left<1>(fraction));
  F r = sum_in_52_bits(select(upper, add(exponent, bits(1)), exponent), m1, g);
  r = select(equal(x, infinity()), infinity(), r);
  r = select(is_zero(x), with_sign_of(infinity(), num(-1.0f)), r);
  return select(either_of(unordered(x), less(x, zero())), nan(), r);
}

INLINE F exp(F x) {
  const F log2e = num(1.44269502f), t = multiply(x, log2e), e = exp2(t);
  const F rest = fma(x, num(1.92596303e-8f), fma(x, log2e, negative(t))), refined = fma(e, multiply(rest, num(0.693147182f)), e);
  return select(both_of(less(num(-126.0f), t), less(t, num(128.0f))), refined, e);
}
INLINE F log(F x) { return without_payload(multiply(log2(x), num(0.693147182f))); }

INLINE F sqrt(F x) {
  const F scaling = select(less(x, num(0x1p-100f)), num(0x1p24f), num(1.0f)), scaled = multiply(x, multiply(scaling, scaling));
  const F r = rsqrt(scaled), s = multiply(scaled, r);
  const F root = without_payload(quotient(fma(fma(negative(s), s, scaled), multiply(num(0.5f), r), s), scaling));
  const F edge = select(less(x, zero()), nan(), x);
  return select(either_of(is_zero(x), is_infinite(x)), edge, root);
}

INLINE F divide_by(F a, F b, F r) {
  const F q = multiply(a, r);
  const M correct = both_of(both_of(is_finite(q), is_finite(r)), both_of(none_of(is_zero(r)), not_less(magnitude(q), num(0x1p-100f))));
  return without_payload(select(correct, fma(fma(negative(q), b, a), r, q), q));
}
INLINE F divide(F a, F b) {
  const F seed = reciprocal(b), refined = fma(fma(negative(b), seed, num(1.0f)), seed, seed);
  return divide_by(a, b, select(is_finite(seed), refined, seed));
}

INLINE F tanh(F x) {
  const F a = magnitude(x), s = multiply(x, x);
  F p = fma(s, num(-0.00609671416591f), num(0.0209971789991f));
  p = fma(s, p, num(-0.0538509095785f));
  p = fma(s, p, num(0.13332769737f));
  p = fma(s, p, num(-0.333333289441f));
  const F near = fma(multiply(x, s), p, x);
  const M large = less(num(10.0f), a);
  F t = fma(num(-2.0f), reciprocal(add(exp(select(large, zero(), multiply(num(2.0f), a))), num(1.0f))), num(1.0f));
  t = with_sign_of(select(large, num(1.0f), t), x);
  t = select(less(a, num(0.625f)), near, t);
  return select(unordered(x), nan(), t);
}

INLINE F sigmoid(F x) {
  // Both branches need one exponential: of x below -1, of -x above.
  const M left = less(x, num(-1.0f));
  const F e = exp(select(left, x, negative(x))), r = reciprocal(add(num(1.0f), e));
  return select(unordered(x), nan(), select(left, fma(negative(e), multiply(e, r), e), r));
}

INLINE F erf(F x) {
  const F a = magnitude(x);
  const M inside = less(a, num(4.0f));
  const F s = select(inside, a, zero());
  const I f = truncate(multiply(s, num(0x1p26f)));
  const F r = product_in_28_bits(s, quadratic<20>(kErf, shift_right<20>(f), both(f, bits(0xFFFFF))));
  return select(unordered(x), nan(), with_sign_of(select(inside, r, num(1.0f)), x));
}

#define FUNCTION(name, expression) \
  LANES F name(F a, [[maybe_unused]] F b) { return expression; }
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

LANES F divide_by_of(F a, F b, F r) { return divide_by(a, b, r); }

LANES F power_of(F a, F b) {
  alignas(64) float x[kNativeLanes], y[kNativeLanes];
  __builtin_memcpy(x, &a, sizeof x), __builtin_memcpy(y, &b, sizeof y);
  for (int i = 0; i < kNativeLanes; ++i) x[i] = vx_power(x[i], y[i]);
  __builtin_memcpy(&a, x, sizeof x);
  return a;
}

using Function = F (*)(F, F);
Function function(isa::Micro op) {
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

}  // namespace

VectorFunction vector_function(isa::Micro op) { return {reinterpret_cast<void (*)()>(function(op))}; }

VectorFunction divide_by() { return {reinterpret_cast<void (*)()>(divide_by_of)}; }

LANES void apply(VectorFunction f, const float* a, const float* b, float* r, int64_t n) {
  const auto call = reinterpret_cast<Function>(f.code);
  for (int64_t i = 0; i < n; i += kNativeLanes) {
    F x, y;
    __builtin_memcpy(&x, a + i, sizeof x), __builtin_memcpy(&y, b + i, sizeof y);
    x = call(x, y);
    __builtin_memcpy(r + i, &x, sizeof x);
  }
}

}  // namespace systole::SYSTOLE_LANES
#endif
