#include "numerics/formats.h"

#include <cmath>
#include <cstring>

#include "base/error.h"

namespace systole {
namespace {

struct Layout {
  int exponent_bits, mantissa_bits;
  bool infinities;
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
};

Layout layout_of(DType type) {
  switch (type) {
    case DType::kF16: return {5, 10, true};
    case DType::kBF16: return {8, 7, true};
    case DType::kF8E5M2: return {5, 2, true};
    case DType::kF8E4M3: return {4, 3, false};
    default: broken_invariant(__FILE__, __LINE__, "narrow float", to_string(type));
  }
}

float widen(const Layout& f, uint32_t v) {
  const uint32_t mantissa = v & ((1u << f.mantissa_bits) - 1), top = (1u << f.exponent_bits) - 1;
  const uint32_t exponent = (v >> f.mantissa_bits) & top;
  const float sign = (v >> (f.exponent_bits + f.mantissa_bits)) & 1 ? -1.0f : 1.0f;
  if (f.infinities && exponent == top) return mantissa ? canonical_nan() : sign * INFINITY;
  if (!f.infinities && exponent == top && mantissa == (1u << f.mantissa_bits) - 1) return canonical_nan();
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), 1 - f.bias() - f.mantissa_bits);
  return sign * std::ldexp(static_cast<float>(mantissa | (1u << f.mantissa_bits)), static_cast<int>(exponent) - f.bias() - f.mantissa_bits);
}

uint32_t narrow(const Layout& f, float v) {
  const uint32_t top = (1u << f.exponent_bits) - 1, mantissa_mask = (1u << f.mantissa_bits) - 1;
  const uint32_t sign = (std::bit_cast<uint32_t>(v) >> 31) << (f.exponent_bits + f.mantissa_bits);
  const uint32_t nan = (top << f.mantissa_bits) | (f.infinities ? 1u << (f.mantissa_bits - 1) : mantissa_mask);
  const uint32_t overflow = f.infinities ? top << f.mantissa_bits : nan;
  if (v != v) return nan;
  if (std::isinf(v)) return sign | overflow;
  if (v == 0) return sign;
  int exponent;
  const double m = std::frexp(std::fabs(static_cast<double>(v)), &exponent);  // m in [0.5, 1)
  const int lowest = 1 - f.bias();
  const int scale = f.mantissa_bits - std::max(exponent - 1, lowest);  // one unit in the last place = 2^-scale
  const uint32_t units = static_cast<uint32_t>(std::nearbyint(std::ldexp(m, exponent + scale)));
  // `units` carries into the exponent by itself: subnormals count from 0, normals from 2^mantissa_bits
  const uint32_t code = exponent - 1 < lowest ? units : units + (static_cast<uint32_t>(exponent - 1 + f.bias() - 1) << f.mantissa_bits);
  const uint32_t largest = f.infinities ? (top << f.mantissa_bits) - 1 : (top << f.mantissa_bits) + mantissa_mask - 1;
  return sign | (code > largest ? overflow : code);
}

}  // namespace

float f16_to_f32(uint16_t v) {
  const uint32_t sign = static_cast<uint32_t>(v & 0x8000u) << 16, magnitude = v & 0x7FFFu;
  if (magnitude > 0x7C00u) return canonical_nan();
  if (magnitude == 0x7C00u) return std::bit_cast<float>(sign | 0x7F800000u);
  // 2^112 rescales the exponent, subnormals included, exactly
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude << 13) * 0x1p112f));
}

uint16_t f32_to_f16(float v) { return static_cast<uint16_t>(narrow(layout_of(DType::kF16), v)); }

float decode_float(DType type, const void* from) {
  uint16_t two = 0;
  std::memcpy(&two, from, static_cast<size_t>(bytes_of(type)));
  switch (type) {
    case DType::kBF16: return canonical(bf16_to_f32(two));
    case DType::kF16: return f16_to_f32(two);
    default: return widen(layout_of(type), two);
  }
}

void encode_float(DType type, float v, void* to) {
  const uint16_t code = type == DType::kBF16 ? f32_to_bf16(v) : static_cast<uint16_t>(narrow(layout_of(type), v));
  std::memcpy(to, &code, static_cast<size_t>(bytes_of(type)));
}

}  // namespace systole
