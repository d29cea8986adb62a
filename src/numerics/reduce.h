// Order of reductions (docs/numerics.md, "Reductions"): part of the definition, the same on every path.
#pragma once
#include <cmath>
#include <cstdint>

#include "numerics/formats.h"

namespace systole {

inline constexpr int kSumPartials = 64;
inline constexpr int64_t kSumBlock = 4096;

/// Streaming sum over logical index 0, 1, 2, ...: 64 partials, folded by halves; blocks of 4,096 added in order.
class OrderedSum {
 public:
  void add(float v) {
    if (in_block_ == kSumBlock) close_block();
    partial_[in_block_++ % kSumPartials] += v;
  }
  float value() {
    close_block();
    return canonical(total_);
  }

 private:
  void close_block() {
    for (int half = kSumPartials / 2; half >= 1; half /= 2) {
      for (int i = 0; i < half; ++i) partial_[i] += partial_[i + half];
    }
    total_ = first_ ? partial_[0] : total_ + partial_[0];
    first_ = false;
    for (float& p : partial_) p = 0;
    in_block_ = 0;
  }
  float partial_[kSumPartials] = {};
  float total_ = 0;
  int64_t in_block_ = 0;
  bool first_ = true;
};

/// NaN wins; max(-0, +0) = +0.
inline float maximum(float a, float b) {
  if (a != a || b != b) return canonical_nan();
  return a == b ? (std::signbit(a) ? b : a) : (a > b ? a : b);
}
/// NaN wins; min(-0, +0) = -0.
inline float minimum(float a, float b) {
  if (a != a || b != b) return canonical_nan();
  return a == b ? (std::signbit(a) ? a : b) : (a < b ? a : b);
}

}  // namespace systole
