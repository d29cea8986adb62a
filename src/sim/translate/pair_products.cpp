#include "sim/translate/pair_products.h"

#include <bit>
#include <random>

#include "numerics/dot32.h"
#include "sim/translate/matrix_tiles.h"

#ifdef SYSTOLE_X86
#include <immintrin.h>
#endif

namespace systole {
#ifdef SYSTOLE_X86
namespace {

constexpr int kLanes = 16;

__attribute__((target("avx512f,avx512bf16"))) void multiply(const uint32_t* a, const uint32_t* b, float* sums) {
  _mm512_storeu_ps(sums, _mm512_dpbf16_ps(_mm512_loadu_ps(sums), (__m512bh)_mm512_loadu_si512(a), (__m512bh)_mm512_loadu_si512(b)));
}

float two_steps(uint32_t a, uint32_t b, float sum) {
  auto half = [](uint32_t pair, int i) { return bf16_to_f32(static_cast<uint16_t>(pair >> 16 * i)); };
  return flushing_fma(half(a, 0), half(b, 0), flushing_fma(half(a, 1), half(b, 1), sum));
}

/// Numbers of one range of exponents, and sums about as large as their products; some near the smallest normal number, where rounding decides
/// whether a result is flushed.
class Numbers {
 public:
  explicit Numbers(uint32_t trial) : random_(trial), span_(kSpans[trial % 4]), first_(kFirst[trial % 4]) {}
  uint32_t pair() { return half() | half() << 16; }
  float sum() {
    const uint32_t exponent = below(4) == 0 ? 1 + below(3) : 2 * first_ - 127 + below(2 * span_);
    return std::bit_cast<float>(below(2) << 31 | (exponent & 255) << 23 | (below(3) == 0 ? below(2) : below(1 << 23)));
  }

 private:
  static constexpr uint32_t kSpans[4] = {256, 30, 8, 3}, kFirst[4] = {0, 112, 58, 124};  ///< of exponents
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(random_()) % n; }
  uint32_t half() { return below(2) << 15 | (first_ + below(span_)) << 7 | below(128); }
  std::mt19937 random_;
  uint32_t span_, first_;
};

bool agrees() {
  for (uint32_t trial = 0; trial < 64; ++trial) {
    Numbers numbers(trial);
    uint32_t a[kLanes], b[kLanes];
    float start[kLanes], sums[kLanes];
    for (int i = 0; i < kLanes; ++i) a[i] = numbers.pair(), b[i] = numbers.pair(), sums[i] = start[i] = numbers.sum();
    multiply(a, b, sums);
    for (int i = 0; i < kLanes; ++i) {
      const float expected = two_steps(a[i], b[i], start[i]);
      if (std::bit_cast<uint32_t>(expected) != std::bit_cast<uint32_t>(canonical(sums[i]))) return false;
    }
  }
  return true;
}

}  // namespace

bool has_pair_products() {
  if (host_isa() < HostIsa::kAvx512Bf16 || kernel_isa() != KernelIsa::kAvx512 || has_tile_kernels()) return false;
  static const bool same = agrees();
  return same;
}
#else
bool has_pair_products() { return false; }
#endif

}  // namespace systole
