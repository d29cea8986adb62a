#include "sim/translate/lanes/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "isa/micro_value.h"

namespace systole {
namespace {

/// Bits from everywhere: any pattern, the functions' usual ranges, and the edges of formats.
float sample(std::mt19937& random) {
  static const float kEdges[] = {0.0f, -0.0f, 1.0f, -1.0f, 2.0f, 0.5f, INFINITY, -INFINITY, NAN, 0x1p-126f, 0x1p-149f, -0x1p-149f, 0x1.fffffep127f, 127.99999f, 128.0f, -149.0f, -149.5f, -150.0f, -126.0f,
                                 0.625f, 10.0f, 4.0f, 8.0f, 3.0f, -3.0f, 0x1p24f, 0x1p30f, 1.5f, 0x1p-30f, -0x1p-30f, -0x1p-26f, 0x1.8p-149f};
  switch (random() % 4) {
    case 0: return kEdges[random() % std::size(kEdges)];
    case 1: {
      const auto bits = static_cast<uint32_t>(random());
      float v;
      std::memcpy(&v, &bits, 4);
      return v;
    }
    case 2: return std::ldexp(static_cast<float>(static_cast<int32_t>(random())), -24);   // -128 .. 128
    default: return std::ldexp(static_cast<float>(static_cast<int32_t>(random())), -29);  // -4 .. 4
  }
}

/// Every function of the unit, on every lane: the scalar definition's bits.
void expect_scalar_bits(const LaneKernels& kernels) {
  std::mt19937 random(21);
  for (int code = 0; code < isa::kMicroCount; ++code) {
    const auto op = static_cast<isa::Micro>(code);
    const VectorFunction f = kernels.vector_function(op);
    if (!f) continue;
    for (int round = 0; round < 60'000; ++round) {
      float a[16], b[16], r[16];
      for (int i = 0; i < 16; ++i) {
        a[i] = sample(random), b[i] = sample(random);
        if (op == isa::Micro::kExp2Shifted) b[i] = random() % 4 ? std::ceil(a[i]) + static_cast<float>(random() % 64) : std::floor(b[i]);
      }
      kernels.apply(f, a, b, r, 16);
      for (int i = 0; i < 16; ++i) {
        const float want = canonical(isa::micro_value(op, a[i], b[i], 0)), got = canonical(r[i]);
        ASSERT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(want)) << isa::micro_info(op).name << '(' << a[i] << ", " << b[i] << ") = " << got << ", expected " << want;
      }
    }
  }
}

TEST(VectorFunctions, EqualTheScalarDefinition) {
  if (!has_kernels()) GTEST_SKIP() << "this host has no AVX2";
  const HostIsa best = host_isa();
  expect_scalar_bits(lane_kernels());
  limit_host_isa(HostIsa::kAvx2);
  if (best > HostIsa::kAvx2) expect_scalar_bits(lane_kernels());
  limit_host_isa(best);
}

}  // namespace
}  // namespace systole
