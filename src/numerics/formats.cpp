#include "numerics/formats.h"

#include <cmath>
#include <cstring>

#include "base/error.h"

namespace systole {
namespace {

/// What the codes of greatest exponent mean: infinities and NaNs; one NaN (all ones); nothing special; or FNUZ, where the
/// code of -0 is the only NaN and the bias is one more.
enum class Specials : uint8_t { kIeee, kOneNaN, kNone, kFnuz };
struct Layout {
  int exponent_bits, mantissa_bits;
  Specials specials;
  int bias() const { return (1 << (exponent_bits - 1)) - (specials == Specials::kFnuz ? 0 : 1); }
};

Layout layout_of(DType type) {
  switch (type) {
    case DType::kF16: return {5, 10, Specials::kIeee};
    case DType::kBF16: return {8, 7, Specials::kIeee};
    case DType::kF8E5M2: return {5, 2, Specials::kIeee};
    case DType::kF8E4M3: return {4, 3, Specials::kOneNaN};
    case DType::kF4E2M1: return {2, 1, Specials::kNone};
    case DType::kF8E4M3FNUZ: return {4, 3, Specials::kFnuz};
    case DType::kF8E5M2FNUZ: return {5, 2, Specials::kFnuz};
    default: broken_invariant(__FILE__, __LINE__, "narrow float", to_string(type));
  }
}

float widen(const Layout& f, uint32_t v) {
  const uint32_t mantissa = v & ((1u << f.mantissa_bits) - 1), top = (1u << f.exponent_bits) - 1;
  const uint32_t exponent = (v >> f.mantissa_bits) & top;
  const float sign = (v >> (f.exponent_bits + f.mantissa_bits)) & 1 ? -1.0f : 1.0f;
  if (f.specials == Specials::kFnuz && v == 1u << (f.exponent_bits + f.mantissa_bits)) return canonical_nan();
  if (f.specials == Specials::kIeee && exponent == top) return mantissa ? canonical_nan() : sign * INFINITY;
  if (f.specials == Specials::kOneNaN && exponent == top && mantissa == (1u << f.mantissa_bits) - 1) return canonical_nan();
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), 1 - f.bias() - f.mantissa_bits);
  return sign * std::ldexp(static_cast<float>(mantissa | (1u << f.mantissa_bits)), static_cast<int>(exponent) - f.bias() - f.mantissa_bits);
}

uint32_t narrow(const Layout& f, float v) {
  const uint32_t top = (1u << f.exponent_bits) - 1, mantissa_mask = (1u << f.mantissa_bits) - 1;
  const uint32_t sign = (std::bit_cast<uint32_t>(v) >> 31) << (f.exponent_bits + f.mantissa_bits);
  const bool ieee = f.specials == Specials::kIeee, fnuz = f.specials == Specials::kFnuz;
  const uint32_t all_ones = (top << f.mantissa_bits) | mantissa_mask;
  const uint32_t nan = fnuz || f.specials == Specials::kNone ? all_ones + 1 : ieee ? (top << f.mantissa_bits) | 1u << (f.mantissa_bits - 1) : all_ones;
  const uint32_t overflow = ieee ? top << f.mantissa_bits : f.specials == Specials::kNone ? all_ones : nan;
  if (v != v) return nan;
  if (std::isinf(v)) return fnuz ? nan : sign | overflow;
  if (v == 0) return fnuz ? 0 : sign;
  int exponent;
  const double m = std::frexp(std::fabs(static_cast<double>(v)), &exponent);  // m in [0.5, 1)
  const int lowest = 1 - f.bias();
  const int scale = f.mantissa_bits - std::max(exponent - 1, lowest);  // one unit in the last place = 2^-scale
  const uint32_t units = static_cast<uint32_t>(std::nearbyint(std::ldexp(m, exponent + scale)));
  // `units` carries into the exponent by itself: subnormals count from 0, normals from 2^mantissa_bits
  const uint32_t code = exponent - 1 < lowest ? units : units + (static_cast<uint32_t>(exponent - 1 + f.bias() - 1) << f.mantissa_bits);
  const uint32_t largest = ieee ? (top << f.mantissa_bits) - 1 : f.specials == Specials::kOneNaN ? all_ones - 1 : all_ones;
  if (fnuz) return code > largest ? nan : code == 0 ? 0 : sign | code;
  return sign | (code > largest ? overflow : code);
}

}  // namespace

void f32_to_bf16(const void* from, uint16_t* to, int64_t n) {
  constexpr int64_t kBlock = 16;  // a count that the compiler knows makes vectors of the inner loop
  const auto* source = static_cast<const uint8_t*>(from);
  int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    uint32_t in[kBlock];
    uint16_t out[kBlock];
    std::memcpy(in, source + 4 * i, sizeof in);
    for (int64_t j = 0; j < kBlock; ++j) {
      const uint32_t rounded = (in[j] + 0x7FFFu + (in[j] >> 16 & 1u)) >> 16;
      out[j] = static_cast<uint16_t>((in[j] & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FC0u : rounded);
    }
    std::memcpy(to + i, out, sizeof out);
  }
  for (; i < n; ++i) {
    float v;
    std::memcpy(&v, source + 4 * i, sizeof v);
    to[i] = f32_to_bf16(v);
  }
}

float f16_to_f32(uint16_t v) {
  const uint32_t sign = static_cast<uint32_t>(v & 0x8000u) << 16, magnitude = v & 0x7FFFu;
  if (magnitude > 0x7C00u) return canonical_nan();
  if (magnitude == 0x7C00u) return std::bit_cast<float>(sign | 0x7F800000u);
  // 2^112 rescales the exponent, subnormals included, exactly
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude << 13) * 0x1p112f));
}

uint16_t f32_to_f16(float v) { return static_cast<uint16_t>(narrow(layout_of(DType::kF16), v)); }

float greatest_finite(DType type) {
  switch (type) {
    case DType::kF8E4M3: return 448;
    case DType::kF8E5M2: case DType::kF8E5M2FNUZ: return 57344;
    case DType::kF8E4M3FNUZ: return 240;
    case DType::kF4E2M1: return 6;
    default: return INFINITY;
  }
}

float decode_float(DType type, const void* from) {
  uint16_t two = 0;
  std::memcpy(&two, from, static_cast<size_t>(bytes_of(type)));
  switch (type) {
    case DType::kBF16: return canonical(bf16_to_f32(two));
    case DType::kF16: return f16_to_f32(two);
    case DType::kF8E8M0: return two == 255 ? canonical_nan() : std::ldexp(1.0f, static_cast<int>(two) - 127);
    default: return widen(layout_of(type), two);
  }
}

/// Positive powers of two, to the nearest, ties up (ONNX's 'nearest' casts); the caller rounds otherwise before.
static uint16_t encode_e8m0(float v) {
  if (v != v || v < 0 || std::isinf(v)) return 255;
  if (v == 0) return 0;
  int exponent;
  const float m = std::frexp(v, &exponent);  // [0.5, 1)
  const int e = exponent - 1 + (m >= 0.75f ? 1 : 0) + 127;
  return static_cast<uint16_t>(e < 0 ? 0 : e > 254 ? 255 : e);
}

void encode_float(DType type, float v, void* to) {
  if (type == DType::kF8E8M0) {
    const uint8_t e = static_cast<uint8_t>(encode_e8m0(v));
    std::memcpy(to, &e, 1);
    return;
  }
  const uint16_t code = type == DType::kBF16 ? f32_to_bf16(v) : static_cast<uint16_t>(narrow(layout_of(type), v));
  std::memcpy(to, &code, static_cast<size_t>(bytes_of(type)));
}

}  // namespace systole
