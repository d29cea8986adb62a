// Floating formats: exact widening to fp32 and round-to-nearest-even narrowing from fp32.
// NaN is 0x7FC00000 in fp32 and the matching quiet pattern in narrower formats. fp8 follows OCP OFP8 (E4M3FN, E5M2);
// narrowing to E4M3 overflows to NaN, to E5M2 to infinity, as IEEE rounding asks; saturation is an explicit clamp before.
#pragma once
#include <bit>
#include <cstdint>

#include "numerics/dtype.h"

namespace systole {

inline constexpr uint32_t kCanonicalNaN = 0x7FC00000u;
inline float canonical_nan() { return std::bit_cast<float>(kCanonicalNaN); }
/// Replaces any NaN by the canonical one.
inline float canonical(float v) { return v != v ? canonical_nan() : v; }

inline float bf16_to_f32(uint16_t v) { return std::bit_cast<float>(static_cast<uint32_t>(v) << 16); }
/// RNE; subnormals are kept; NaN becomes 0x7FC0.
inline uint16_t f32_to_bf16(float v) {
  const uint32_t u = std::bit_cast<uint32_t>(v);
  const uint32_t rounded = (u + 0x7FFFu + ((u >> 16) & 1u)) >> 16;
  return v != v ? 0x7FC0u : static_cast<uint16_t>(rounded);
}

/// The same for n floats, which need not be aligned.
void f32_to_bf16(const void* from, uint16_t* to, int64_t n);

float f16_to_f32(uint16_t v);
uint16_t f32_to_f16(float v);

/// Narrow formats, by field widths: kF16 (5,10), kBF16 (8,7), kF8E5M2 (5,2), kF8E4M3 (4,3, no infinities), kF4E2M1 (2,1, neither
/// infinities nor NaN: NaN narrows to -0), the FNUZ pair (one more exponent of bias, NaN instead of -0) and kF8E8M0 (powers of two; 255 is NaN).
float decode_float(DType type, const void* from);
/// What saturating conversions to a format of 8 or 4 bits clamp to; infinity for other types.
float greatest_finite(DType type);
void encode_float(DType type, float v, void* to);

}  // namespace systole
