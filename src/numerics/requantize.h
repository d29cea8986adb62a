// Quantisation arithmetic, in the exact order ONNX Runtime uses (docs/numerics.md, "Integer contraction").
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

namespace systole {

/// Round to nearest, ties to even, into int32; NaN and -Inf give INT32_MIN, overflow saturates.
inline int32_t round_to_int32(float v) {
  if (!(v > -2147483648.0f)) return INT32_MIN;
  if (v >= 2147483648.0f) return INT32_MAX;
  return static_cast<int32_t>(std::nearbyint(v));
}

/// q = clamp(RNE(v) + zero_point, lo, hi). +Inf gives hi; -Inf and NaN give lo.
inline int32_t quantize(float v, int32_t zero_point, int32_t lo, int32_t hi) {
  const int64_t q = static_cast<int64_t>(round_to_int32(v)) + zero_point;
  return static_cast<int32_t>(std::clamp<int64_t>(q, lo, hi));
}

/// A weight of few bits as a float: fl32((code - zero) scale); |code - zero| < 2^24.
inline float dequantize(int64_t code, int64_t zero, float scale) { return static_cast<float>(code - zero) * scale; }

/// Combined scale of a quantised contraction: fl(fl(sx * sw) / sy).
inline float requantize_scale(float sx, float sw, float sy) { return (sx * sw) / sy; }

/// Cast float to int: truncate; NaN and out of range give 0x80000000 (x86 semantics), then the caller keeps the low bits.
inline int32_t truncate_to_int32(float v) {
  if (!(v > -2147483904.0f && v < 2147483648.0f)) return INT32_MIN;
  return static_cast<int32_t>(v);
}

}  // namespace systole
