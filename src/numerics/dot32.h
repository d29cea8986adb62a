// Float contraction `dot32`: the scalar definition (docs/numerics.md, "Float contraction").
// Operands are bf16 values widened to fp32. Fast kernels elsewhere must equal this bit for bit.
#pragma once
#include <cmath>
#include <cstdint>

#include "numerics/formats.h"

namespace systole {

inline constexpr int kDotBlock = 32;

/// Subnormals read as zero of the same sign.
inline float flush(float v) { return std::fabs(v) < 0x1p-126f ? std::copysign(0.0f, v) : v; }

/// fl(a * b + c) with flushed inputs; a result below 2^-126 after rounding with unbounded exponent becomes signed zero.
inline float flushing_fma(float a, float b, float c) {
  a = flush(a), b = flush(b), c = flush(c);
  const float r = std::fma(a, b, c);
  const float magnitude = std::fabs(r);
  if (magnitude > 0x1p-126f || r != r) return canonical(r);
  if (magnitude < 0x1p-126f) return std::copysign(0.0f, r);
  // |r| == 2^-126: did it round up from below? Decide in a scaled range where nothing is subnormal. The product is
  // tiny here, so scaling the larger factor cannot overflow.
  const bool scale_a = std::fabs(a) < std::fabs(b);
  const float scaled = std::fma(scale_a ? a * 0x1p64f : a, scale_a ? b : b * 0x1p64f, c * 0x1p64f);
  return std::fabs(scaled) < 0x1p-62f ? std::copysign(0.0f, r) : r;
}

/// fl(a + b) under the same flushing rule. A sum of two normals is exact when it is tiny, so |r| = 2^-126 needs no second look.
inline float flushing_add(float a, float b) {
  const float r = flush(a) + flush(b);
  return r != r ? canonical_nan() : flush(r);
}

/// One block: acc + (even chain + odd chain) over 32 products.
inline float dot32_block(const float* a, const float* b, float acc) {
  float t0 = 0, t1 = 0;
  for (int i = 0; i < kDotBlock / 2; ++i) {
    t0 = flushing_fma(a[2 * i], b[2 * i], t0);
    t1 = flushing_fma(a[2 * i + 1], b[2 * i + 1], t1);
  }
  return flushing_add(acc, flushing_add(t0, t1));
}

/// Three bf16 parts by truncation: v = part 0 + part 1 + part 2 exactly for |v| >= 2^-102.
inline float bf16_part(float v, int part) {
  for (int i = 0;; ++i) {
    const float top = std::bit_cast<float>(std::bit_cast<uint32_t>(v) & 0xFFFF0000u);
    if (i == part) return top;
    v = top == top && std::isfinite(top) ? v - top : 0.0f;
  }
}

/// fp16 as 8 + 3 bits: part 0 keeps the top 8 significant bits (truncated), part 1 the rest.
inline float f16_part(float v, int part) { return bf16_part(v, part); }

struct Pass {
  int a_part, b_part;
};
/// fp32 operands: six passes over all of K into one accumulator, small products first.
inline constexpr Pass kPassesF32[6] = {{2, 0}, {0, 2}, {1, 1}, {1, 0}, {0, 1}, {0, 0}};
/// fp16 operands: four passes.
inline constexpr Pass kPassesF16[4] = {{1, 1}, {1, 0}, {0, 1}, {0, 0}};
inline constexpr Pass kPassesBF16[1] = {{0, 0}};

}  // namespace systole
