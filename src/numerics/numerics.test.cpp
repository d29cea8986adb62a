// Exhaustive where the domain is small, against correctly rounded references elsewhere.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "numerics/dot32.h"
#include "numerics/formats.h"
#include "numerics/functions.h"
#include "numerics/reduce.h"
#include "numerics/requantize.h"
#include "numerics/tensor.h"

namespace systole {
namespace {

float bits_to_float(uint32_t u) { return std::bit_cast<float>(u); }
uint32_t bits(float v) { return std::bit_cast<uint32_t>(v); }

/// Nearest value of a narrow format by search over all its codes; ties to the even code.
uint32_t nearest_code(DType type, int codes, float v) {
  uint32_t best = 0;
  double distance = INFINITY;
  for (int c = 0; c < codes; ++c) {
    const float x = decode_float(type, &c);
    if (x != x || std::isinf(x) || std::signbit(x) != std::signbit(v)) continue;
    const double d = std::fabs(static_cast<double>(x) - static_cast<double>(v));
    if (d < distance || (d == distance && c % 2 == 0)) distance = d, best = static_cast<uint32_t>(c);
  }
  return best;
}

class NarrowFormat : public testing::TestWithParam<DType> {};

TEST_P(NarrowFormat, EveryCodeRoundTrips) {
  const DType type = GetParam();
  const int codes = 1 << (8 * bytes_of(type));
  for (int c = 0; c < codes; ++c) {
    const float v = decode_float(type, &c);
    if (v != v) {
      EXPECT_EQ(bits(v), kCanonicalNaN) << c;
      continue;
    }
    int back = 0;
    encode_float(type, v, &back);
    ASSERT_EQ(back, c) << to_string(type) << " " << v;
  }
}

TEST_P(NarrowFormat, RoundsHalfwayPointsToEven) {
  const DType type = GetParam();
  const int codes = 1 << (8 * bytes_of(type) - 1);  // positive half
  for (int c = 0; c + 1 < codes; ++c) {
    const int next_code = c + 1;
    const float a = decode_float(type, &c), b = decode_float(type, &next_code);
    if (!std::isfinite(a) || !std::isfinite(b)) continue;
    const float middle = static_cast<float>((static_cast<double>(a) + static_cast<double>(b)) / 2);
    int code = 0;
    encode_float(type, middle, &code);
    ASSERT_EQ(code, c % 2 == 0 ? c : next_code) << to_string(type) << " between " << a << " and " << b;
    encode_float(type, std::nextafterf(middle, INFINITY), &code);
    ASSERT_EQ(code, next_code) << to_string(type) << " above " << middle;
    encode_float(type, std::nextafterf(middle, 0), &code);
    ASSERT_EQ(code, c) << to_string(type) << " below " << middle;
  }
}
INSTANTIATE_TEST_SUITE_P(All, NarrowFormat, testing::Values(DType::kBF16, DType::kF16, DType::kF8E4M3, DType::kF8E5M2), [](const auto& p) { return std::string(to_string(p.param)); });

TEST(Formats, Fp8NearestBySearch) {
  std::mt19937 rng(1);
  for (DType type : {DType::kF8E4M3, DType::kF8E5M2}) {
    for (int i = 0; i < 2000; ++i) {
      const float v = std::ldexp(static_cast<float>(static_cast<int32_t>(rng())), -31 + static_cast<int>(rng() % 14) - 7);
      uint32_t code = 0;
      encode_float(type, v, &code);
      EXPECT_EQ(code, nearest_code(type, 256, v)) << to_string(type) << " " << v;
    }
  }
}

TEST(Formats, OverflowAndSpecials) {
  uint8_t code = 0;
  encode_float(DType::kF8E4M3, 465.0f, &code);
  EXPECT_EQ(code, 0x7F);  // above 448 + half a step: NaN
  encode_float(DType::kF8E4M3, 464.0f, &code);
  EXPECT_EQ(code, 0x7E);  // the tie goes to the even code, 448
  encode_float(DType::kF8E5M2, 1e9f, &code);
  EXPECT_EQ(code, 0x7C);
  EXPECT_EQ(f32_to_bf16(bits_to_float(0x7F7FFFFF)), 0x7F80);
  EXPECT_EQ(f32_to_bf16(NAN), 0x7FC0);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7C00);
  EXPECT_EQ(f32_to_f16(65519.0f), 0x7BFF);
}

TEST(Requantize, RoundsTiesToEvenAndSaturates) {
  EXPECT_EQ(quantize(0.5f, 0, -128, 127), 0);
  EXPECT_EQ(quantize(1.5f, 0, -128, 127), 2);
  EXPECT_EQ(quantize(-2.5f, 3, -128, 127), 1);
  EXPECT_EQ(quantize(INFINITY, 10, 0, 255), 255);
  EXPECT_EQ(quantize(-INFINITY, 10, 0, 255), 0);
  EXPECT_EQ(quantize(NAN, 10, 0, 255), 0);
  EXPECT_EQ(quantize(3e9f, -5, -128, 127), 127);
  EXPECT_EQ(truncate_to_int32(-1.9f), -1);
  EXPECT_EQ(truncate_to_int32(NAN), INT32_MIN);
  EXPECT_EQ(truncate_to_int32(2147483648.0f), INT32_MIN);
}

/// Error in units of the last place of the correctly rounded result.
double ulp_error(float got, long double exact) {
  const float rounded = static_cast<float>(exact);
  if (std::isinf(rounded) || std::isinf(got)) return rounded == got ? 0 : 1e9;
  const float next = std::nextafterf(std::fabs(rounded), INFINITY);
  const long double unit = static_cast<long double>(next) - static_cast<long double>(std::fabs(rounded));
  return static_cast<double>(std::fabs(static_cast<long double>(got) - exact) / unit);
}

struct FunctionCase {
  const char* name;
  float (*function)(float);
  long double (*exact)(long double);
  float lo, hi;
  double bound_ulp;
};

long double exact_exp2(long double x) { return exp2l(x); }
long double exact_reciprocal(long double x) { return 1 / x; }
long double exact_rsqrt(long double x) { return 1 / sqrtl(x); }
long double exact_log2(long double x) { return log2l(x); }
long double exact_exp(long double x) { return expl(x); }
long double exact_log(long double x) { return logl(x); }
long double exact_sqrt(long double x) { return sqrtl(x); }
long double exact_tanh(long double x) { return tanhl(x); }
long double exact_sigmoid(long double x) { return 1 / (1 + expl(-x)); }
long double exact_erf(long double x) { return erfl(x); }

constexpr FunctionCase kFunctions[] = {
    {"exp2", vx_exp2, exact_exp2, -126, 127.99f, 1.01}, {"reciprocal", vx_reciprocal, exact_reciprocal, 1e-30f, 1e30f, 0.9}, {"rsqrt", vx_rsqrt, exact_rsqrt, 1e-30f, 1e30f, 1.25},
    {"log2", vx_log2, exact_log2, 1e-30f, 1e30f, 0.75}, {"exp", vx_exp, exact_exp, -87, 88, 1.3}, {"log", vx_log, exact_log, 1e-30f, 1e30f, 2}, {"sqrt", vx_sqrt, exact_sqrt, 1e-30f, 1e30f, 0.51},
    {"tanh", vx_tanh, exact_tanh, -9, 9, 2}, {"sigmoid", vx_sigmoid, exact_sigmoid, -80, 20, 2.5}, {"erf", vx_erf, exact_erf, -4, 4, 2}};

class Function : public testing::TestWithParam<FunctionCase> {};

TEST_P(Function, StaysWithinItsBound) {
  const FunctionCase& f = GetParam();
  std::mt19937_64 rng(7);
  double worst = 0;
  float at = 0;
  for (int i = 0; i < 400000; ++i) {
    const double u = static_cast<double>(rng() >> 11) * 0x1p-53;
    // Half uniform, half over magnitudes.
    float x = f.lo > 0 ? static_cast<float>(f.lo * std::pow(static_cast<double>(f.hi) / f.lo, u)) : static_cast<float>(f.lo + (f.hi - f.lo) * u);
    if (i % 2 && f.lo < 0) x = std::copysign(std::ldexp(1.0f + static_cast<float>(u), static_cast<int>(rng() % 24) - 20), x);
    if (x < f.lo || x > f.hi) continue;
    const double e = ulp_error(f.function(x), f.exact(static_cast<long double>(x)));
    if (e > worst) worst = e, at = x;
  }
  RecordProperty("ulp", std::to_string(worst));
  std::printf("  %-10s %.4f ulp at %.9g\n", f.name, worst, static_cast<double>(at));
  EXPECT_LE(worst, f.bound_ulp) << f.name << " at " << at;
}
INSTANTIATE_TEST_SUITE_P(All, Function, testing::ValuesIn(kFunctions), [](const auto& p) { return std::string(p.param.name); });

TEST(Functions, AllMantissasOfOneBinade) {
  double reciprocal = 0, rsqrt = 0, exponent = 0;
  for (uint32_t m = 0; m < (1u << 23); m += 3) {
    const float x = bits_to_float(0x3F800000u | m);
    reciprocal = std::max(reciprocal, ulp_error(vx_reciprocal(x), 1 / static_cast<long double>(x)));
    rsqrt = std::max(rsqrt, ulp_error(vx_rsqrt(x), 1 / sqrtl(static_cast<long double>(x))));
    exponent = std::max(exponent, ulp_error(vx_exp2(x - 1), exp2l(static_cast<long double>(x - 1))));
  }
  std::printf("  one binade: reciprocal %.4f, rsqrt %.4f, exp2 %.4f ulp\n", reciprocal, rsqrt, exponent);
  EXPECT_LE(reciprocal, 0.9);
  EXPECT_LE(rsqrt, 1.25);
  EXPECT_LE(exponent, 1.01);
}

TEST(Functions, SpecialValues) {
  EXPECT_EQ(vx_exp2(-INFINITY), 0.0f);
  EXPECT_EQ(vx_exp2(INFINITY), INFINITY);
  EXPECT_EQ(vx_exp2(-1e-40f), 1.0f);  // x - floor(x) rounds to 1
  EXPECT_EQ(vx_exp2(-149), bits_to_float(1));
  EXPECT_EQ(vx_reciprocal(-0.0f), -INFINITY);
  EXPECT_EQ(vx_log2(0.0f), -INFINITY);
  EXPECT_EQ(bits(vx_log2(-1.0f)), kCanonicalNaN);
  EXPECT_EQ(vx_log2(1.0f), 0.0f);
  EXPECT_EQ(vx_sqrt(0.0f), 0.0f);
  EXPECT_EQ(vx_sqrt(4.0f), 2.0f);
  EXPECT_EQ(vx_divide(1.0f, 3.0f), 1.0f / 3.0f);
  EXPECT_EQ(vx_power(-2.0f, 3.0f), -8.0f);
  EXPECT_EQ(bits(vx_power(-2.0f, 0.3f)), kCanonicalNaN);
  EXPECT_EQ(vx_tanh(20.0f), 1.0f);
  EXPECT_EQ(vx_exp2_shifted(70000.25f, 70001.0f), vx_exp2(-0.75f));  // no clamp: only the difference matters
}

TEST(Functions, DivisionIsCorrectlyRoundedAlmostAlways) {
  std::mt19937 rng(3);
  int wrong = 0;
  for (int i = 0; i < 1000000; ++i) {
    const float a = static_cast<float>(rng()) * 0x1p-20f, b = static_cast<float>(rng() | 1) * 0x1p-25f;
    wrong += vx_divide(a, b) != a / b;
  }
  EXPECT_LE(wrong, 10);
}

TEST(Functions, DivisionByAPowerOfTwoIsAMultiplication) {
  std::mt19937 rng(5);
  for (int i = 0; i < 2000000; ++i) {
    const float a = std::bit_cast<float>(static_cast<uint32_t>(rng())), b = std::ldexp(i % 2 ? 1.0f : -1.0f, static_cast<int>(rng() % 253) - 126);
    const float product = a * (1 / b);
    ASSERT_EQ(bits(vx_divide(a, b)), std::isnan(product) ? kCanonicalNaN : bits(product)) << a << " / " << b;
  }
}

TEST(Dot32, FlushesTinyResultsAfterRounding) {
  const float least = 0x1p-126f;
  EXPECT_EQ(flushing_fma(least, 1.0f, 0.0f), least);
  EXPECT_EQ(flushing_fma(least, 0.5f, 0.0f), 0.0f);
  EXPECT_TRUE(std::signbit(flushing_fma(-least, 0.5f, 0.0f)));
  EXPECT_EQ(flushing_fma(0x1p-130f, 1.0f, 1.0f), 1.0f);  // subnormal input is zero
  // (1 - 2^-24) 2^-126 lies 2^-150 below the least normal: gradual underflow rounds it up to 2^-126, but 24 bits with
  // unbounded exponent hold it exactly, below 2^-126.
  EXPECT_EQ(flushing_fma(1.0f - 0x1p-24f, least, 0.0f), 0.0f);
}

TEST(Dot32, PartsAddUp) {
  std::mt19937 rng(5);
  for (int i = 0; i < 100000; ++i) {
    const float v = bits_to_float((static_cast<uint32_t>(rng()) & 0x807FFFFFu) | ((100u + static_cast<uint32_t>(rng()) % 100) << 23));
    EXPECT_EQ(bf16_part(v, 0) + (bf16_part(v, 1) + bf16_part(v, 2)), v);
    for (int p = 0; p < 3; ++p) EXPECT_EQ(bf16_to_f32(f32_to_bf16(bf16_part(v, p))), bf16_part(v, p));
  }
}

TEST(Reduce, BlocksAndPartialsAreOrdered) {
  OrderedSum sum;
  for (int i = 0; i < 10000; ++i) sum.add(static_cast<float>(i % 7));
  EXPECT_EQ(sum.value(), 29994.0f  /* 1428 x 21 + 0 + 1 + 2 + 3 */);
  OrderedSum nothing;
  EXPECT_EQ(nothing.value(), 0.0f);
  EXPECT_EQ(bits(maximum(NAN, 1.0f)), kCanonicalNaN);
  EXPECT_FALSE(std::signbit(maximum(-0.0f, 0.0f)));
  EXPECT_TRUE(std::signbit(minimum(0.0f, -0.0f)));
}

TEST(Formats, ManyFloatsNarrowAsOneDoes) {
  std::mt19937 rng(11);
  for (int64_t n : {0, 1, 63, 64, 65, 1000}) {
    std::vector<uint8_t> from(static_cast<size_t>(4 * n) + 3);  // not aligned
    std::vector<uint16_t> to(static_cast<size_t>(n));
    const auto put = [&](int64_t i, uint32_t v) { std::memcpy(from.data() + 3 + 4 * i, &v, 4); };
    const uint32_t special[] = {0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF, 0x7F7FFFFF, 0x00018000, 0x00008000, 0x80000000};
    for (int64_t i = 0; i < n; ++i) put(i, i % 9 < 8 ? special[i % 9] : static_cast<uint32_t>(rng()));
    f32_to_bf16(from.data() + 3, to.data(), n);
    for (int64_t i = 0; i < n; ++i) {
      float v;
      std::memcpy(&v, from.data() + 3 + 4 * i, 4);
      EXPECT_EQ(to[static_cast<size_t>(i)], f32_to_bf16(v)) << n << " " << i;
    }
  }
}

TEST(Tensors, TransposeMovesEveryElement) {
  std::mt19937 rng(12);
  for (int trial = 0; trial < 300; ++trial) {
    const DType types[] = {DType::kU8, DType::kU16, DType::kF32, DType::kI64};
    Shape shape(rng() % 6);
    for (int64_t& d : shape) d = std::vector<int64_t>{1, 2, 3, 7, trial % 10 ? 5 : 70}[rng() % 5];
    std::vector<int> perm(shape.size());
    for (size_t d = 0; d < perm.size(); ++d) perm[d] = static_cast<int>(d);
    std::shuffle(perm.begin(), perm.end(), rng);
    Tensor t(types[trial % 4], shape);
    for (uint8_t& b : t.bytes) b = static_cast<uint8_t>(rng());
    const Tensor out = transpose(t, perm);
    const auto strides = row_major_strides(shape), turned = row_major_strides(out.shape);
    for (int64_t i = 0; i < t.count(); ++i) {
      int64_t to = 0;
      for (size_t d = 0; d < perm.size(); ++d) to += i / strides[static_cast<size_t>(perm[d])] % shape[static_cast<size_t>(perm[d])] * turned[d];
      ASSERT_EQ(t.int_at(i), out.int_at(to)) << trial;
    }
  }
}

TEST(Tensors, SharedBytesAreCopiedBeforeTheyChange) {
  const auto t = std::make_shared<const Tensor>(Tensor::from_floats({1, 2, 3, 4}, {4}));
  Tensor r = reshaped(t, {2, 2});
  EXPECT_TRUE(r.bytes.shared());
  EXPECT_EQ(static_cast<const Tensor&>(r).bytes.data(), t->bytes.data());
  r.data<float>()[0] = 9;
  EXPECT_FALSE(r.bytes.shared());
  EXPECT_EQ(t->at(0), 1);
  EXPECT_EQ(r.to_floats(), (std::vector<float>{9, 2, 3, 4}));
}

TEST(Tensors, BF16OfFloatsIsRoundedWhenRead) {
  const auto floats = std::make_shared<const Tensor>(Tensor::from_floats({1, -2.5f, 1.00390625f, 3e38f, 0.1f, 7}, {2, 3}));
  Tensor t;
  t.type = DType::kBF16, t.shape = {2, 3};
  t.bytes = std::make_shared<const NarrowedLater>(Bytes(floats, floats->bytes.data(), floats->bytes.size()));
  const Tensor other = t;
  EXPECT_EQ(t.bytes.size(), 12u);
  EXPECT_TRUE(t.bytes.later() && other.bytes.later());
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(other.load<uint16_t>(i), f32_to_bf16(floats->load<float>(i))) << i;
  const Tensor turned = transpose(reshaped(std::make_shared<const Tensor>(t), {3, 2}), {1, 0});
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(turned.load<uint16_t>(i % 2 * 3 + i / 2), f32_to_bf16(floats->load<float>(i))) << i;
  t.set(0, 4);
  EXPECT_FALSE(t.bytes.later());
  EXPECT_EQ(t.at(0), 4);
  EXPECT_EQ(other.at(0), 1);
}

}  // namespace
}  // namespace systole
