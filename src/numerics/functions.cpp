#include "numerics/functions.h"

#include <cmath>
#include <cstdint>

#include "numerics/formats.h"
#include "numerics/function_tables.h"

namespace systole {
namespace {

/// c0 + u (c1 + u c2), u with `bits` fraction bits, products truncated; 28 fraction bits out.
int64_t quadratic(const FunctionSegment& s, int64_t u, int bits) {
  const int64_t t = s.c1 + ((u * s.c2) >> bits);
  return s.c0 + ((u * t) >> bits);
}

/// value * 2^exponent with one RNE into fp32, subnormals kept. value > 0.
float round_scaled(uint64_t value, int exponent) {
  const int width = 64 - std::countl_zero(value);
  const int lowest = -149;                       // exponent of the last place of subnormals
  int drop = width - 24;                         // bits below fp32's significand
  if (exponent + drop < lowest) drop = lowest - exponent;
  if (drop > 62) return 0.0f;
  if (drop <= 0) return std::ldexp(static_cast<float>(value), exponent);
  uint64_t kept = value >> drop;
  const uint64_t rest = value & ((uint64_t{1} << drop) - 1), half = uint64_t{1} << (drop - 1);
  if (rest > half || (rest == half && (kept & 1))) ++kept;
  return std::ldexp(static_cast<float>(kept), exponent + drop);
}

/// Splits a positive finite value into m in [1, 2) with 23 fraction bits and an exponent.
struct Split {
  uint32_t mantissa;  // 24 bits, top one set
  int exponent;
};
Split split(float x) {
  uint32_t u = std::bit_cast<uint32_t>(x) & 0x7FFFFFFFu;
  int e = static_cast<int>(u >> 23) - 127;
  if (u < 0x00800000u) {
    const int shift = std::countl_zero(u) - 8;
    u <<= shift;
    return {u & 0xFFFFFFu, -126 - shift};
  }
  return {(u & 0x7FFFFFu) | 0x800000u, e};
}

}  // namespace

float vx_exp2_shifted(float x, float m) {
  if (x != x || m != m) return canonical_nan();
  const float n = std::floor(x);
  const float exponent = n - m;
  if (std::isinf(x)) return x < 0 ? (m == x ? canonical_nan() : 0.0f) : (m == x ? canonical_nan() : INFINITY);
  if (exponent >= 128.0f) return INFINITY;
  if (exponent < -150.0f) return 0.0f;
  int64_t f = static_cast<int64_t>((static_cast<double>(x) - static_cast<double>(n)) * 0x1p26);  // 26 fraction bits, truncated
  if (f > 0x3FFFFFF) f = 0x3FFFFFF;  // a tiny negative x: x - floor(x) rounds to 1
  const int64_t r = quadratic(kExp2Table[f >> 20], f & 0xFFFFF, 20);
  return round_scaled(static_cast<uint64_t>(r), static_cast<int>(exponent) - 28);
}

float vx_exp2(float x) { return vx_exp2_shifted(x, 0.0f); }

float vx_reciprocal(float x) {
  if (x != x) return canonical_nan();
  if (std::isinf(x)) return std::copysign(0.0f, x);
  if (x == 0) return std::copysign(INFINITY, x);
  const Split s = split(x);
  const uint32_t fraction = s.mantissa & 0x7FFFFF;
  if (fraction == 0) return std::copysign(std::ldexp(1.0f, -s.exponent), x);
  const int64_t r = quadratic(kReciprocalTable[fraction >> 16], fraction & 0xFFFF, 16);
  return std::copysign(round_scaled(static_cast<uint64_t>(r), -s.exponent - 28), x);
}

float vx_rsqrt(float x) {
  if (x != x || x < 0) return canonical_nan();
  if (x == 0) return std::copysign(INFINITY, x);
  if (std::isinf(x)) return 0.0f;
  const Split s = split(x);
  const bool odd = s.exponent & 1;
  const int half = (s.exponent - (odd ? 1 : 0)) / 2;
  const uint32_t fraction = s.mantissa & 0x7FFFFF;
  if (fraction == 0 && !odd) return std::ldexp(1.0f, -half);
  const int64_t r = quadratic((odd ? kRsqrtOddTable : kRsqrtEvenTable)[fraction >> 17], fraction & 0x1FFFF, 17);
  return round_scaled(static_cast<uint64_t>(r), -half - 28);
}

float vx_log2(float x) {
  if (x != x || x < 0) return canonical_nan();
  if (x == 0) return -INFINITY;
  if (std::isinf(x)) return INFINITY;
  const Split s = split(x);
  const bool high = s.mantissa >= 0xC00000u;  // m >= 1.5: use m / 2 in [0.75, 1), so that the ratio form never cancels
  // position inside [1, 1.5) or [0.75, 1): 64 segments; 22 fraction bits of the interval
  const uint32_t offset = high ? s.mantissa - 0xC00000u : s.mantissa - 0x800000u;
  const int64_t g = quadratic((high ? kLog2HighTable : kLog2LowTable)[offset >> 16], offset & 0xFFFF, 16);
  // r = m - 1 exactly, 24 fraction bits
  const int64_t r = high ? static_cast<int64_t>(s.mantissa) - 0x1000000 : (static_cast<int64_t>(s.mantissa) - 0x800000) * 2;
  const int64_t exponent = s.exponent + (high ? 1 : 0);
  const int64_t value = exponent * (int64_t{1} << 52) + r * g;  // 24 + 28 fraction bits
  if (value == 0) return 0.0f;
  const float magnitude = round_scaled(static_cast<uint64_t>(value < 0 ? -value : value), -52);
  return value < 0 ? -magnitude : magnitude;
}

float vx_exp(float x) {
  constexpr float kLog2e = 1.44269502f, kLog2eLow = 1.92596303e-8f, kLn2 = 0.693147182f;
  const float t = x * kLog2e;
  const float e = vx_exp2(t);
  if (!(t > -126.0f && t < 128.0f)) return e;
  const float rest = std::fma(x, kLog2eLow, std::fma(x, kLog2e, -t));
  return std::fma(e, rest * kLn2, e);
}

float vx_log(float x) { return canonical(vx_log2(x) * 0.693147182f); }

float vx_sqrt(float x) {
  if (x == 0 || std::isinf(x)) return x < 0 ? canonical_nan() : x;
  const float scale = x < 0x1p-100f ? 0x1p24f : 1.0f;  // keeps the correction away from subnormals
  const float scaled = x * (scale * scale);
  const float r = vx_rsqrt(scaled), s = scaled * r;
  return canonical(std::fma(std::fma(-s, s, scaled), 0.5f * r, s) / scale);
}

float vx_divisor(float b) {
  const float seed = vx_reciprocal(b);
  return std::isfinite(seed) ? std::fma(std::fma(-b, seed, 1.0f), seed, seed) : seed;
}

float vx_divide(float a, float b) {
  const float r = vx_divisor(b), q = a * r;
  if (!std::isfinite(q) || !std::isfinite(r) || r == 0 || std::fabs(q) < 0x1p-100f) return canonical(q);
  return canonical(std::fma(std::fma(-q, b, a), r, q));
}

float vx_tanh(float x) {
  if (x != x) return canonical_nan();
  const float a = std::fabs(x);
  if (a < 0.625f) {
    const float s = x * x;
    float p = std::fma(s, -0.00609671416591f, 0.0209971789991f);
    p = std::fma(s, p, -0.0538509095785f);
    p = std::fma(s, p, 0.13332769737f);
    p = std::fma(s, p, -0.333333289441f);
    return std::fma(x * s, p, x);
  }
  const float t = a > 10.0f ? 1.0f : std::fma(-2.0f, vx_reciprocal(vx_exp(2.0f * a) + 1.0f), 1.0f);
  return std::copysign(t, x);
}

float vx_sigmoid(float x) {
  if (x != x) return canonical_nan();
  if (x < -1.0f) {
    const float e = vx_exp(x);
    const float q = e * vx_reciprocal(1.0f + e);
    return std::fma(-e, q, e);
  }
  return vx_reciprocal(1.0f + vx_exp(-x));
}

float vx_erf(float x) {
  if (x != x) return canonical_nan();
  const float a = std::fabs(x);
  if (a >= 4.0f) return std::copysign(1.0f, x);
  const auto f = static_cast<int64_t>(a * 0x1p26f);  // 26 fraction bits, truncated
  const int64_t g = quadratic(kErfTable[f >> 20], f & 0xFFFFF, 20);
  return std::copysign(static_cast<float>(static_cast<double>(a) * static_cast<double>(g) * 0x1p-28), x);  // 24 by 29 bits: exact until it is rounded
}

float vx_power(float x, float y) {
  if (y == 2.0f) return canonical(x * x);
  if (y == 1.0f) return x;
  if (y == 0.0f) return 1.0f;
  if (y == 0.5f) return vx_sqrt(x);
  const bool integral = std::floor(y) == y;
  if (x < 0 && !integral) return canonical_nan();
  const bool odd = integral && std::fabs(y) < 0x1p24f && (static_cast<int64_t>(y) & 1);
  if (integral && std::fabs(y) <= 8.0f) {  // small powers by multiplication: exact where the result is
    float r = x;
    for (int i = 1; i < static_cast<int>(std::fabs(y)); ++i) r *= x;
    return y < 0 ? vx_reciprocal(r) : canonical(r);
  }
  const float magnitude = vx_exp2(y * vx_log2(std::fabs(x)));
  return x < 0 && odd ? -magnitude : magnitude;
}

}  // namespace systole
