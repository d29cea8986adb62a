// The table of one instruction set.
#include "sim/functional/flush_mode.h"
#include "sim/translate/lanes/dot32.h"
#include "sim/translate/lanes/integers.h"
#include "sim/translate/lanes/matrix.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {
namespace {

void run_int8(int64_t depth, bool narrow) {
  thread_local std::vector<uint8_t> a, b;
  thread_local std::vector<int32_t> start(kIntegerColumns), sums(kIntegerNarrowRows * kIntegerColumns);
  const int64_t rows = narrow ? kIntegerNarrowRows : kIntegerRows, row_bytes = integer_row_bytes(depth);
  a.resize(static_cast<size_t>(rows * row_bytes), 3), b.resize(static_cast<size_t>(kIntegerColumns * depth), 5);
  const uint8_t* at = a.data();
  multiply_points({start.data(), false, {sums.data(), sums.data() + 16}, kIntegerColumns}, {&at, 1, depth, row_bytes, 0, rows}, b.data(), narrow);
}

void run_dot32(int64_t depth, bool narrow) {
  const int rows = narrow ? kDotNarrowRows : kDotRows;
  const int64_t width = narrow ? 16 : kDotColumns, panel = depth * kDotColumns * 2;
  thread_local std::vector<uint8_t> a, b;
  thread_local std::vector<float> wide, sums(kDotNarrowRows * kDotColumns);
  thread_local std::vector<int64_t> offsets;
  a.resize(static_cast<size_t>(2 * rows * depth), 0x3F), wide.resize(static_cast<size_t>(rows * depth), 1.0f), b.resize(static_cast<size_t>(panel), 0x3F);
  offsets.resize(static_cast<size_t>(rows));
  for (int r = 0; r < rows; ++r) offsets[static_cast<size_t>(r)] = r * 2 * depth;
  static constexpr int64_t kOneTap[1] = {0};
  const bool quads = kReadsInPlace && has_pair_products(), in_place = quads || (kReadsInPlace && integers_beside_floats());
  const DotRows from{.count = rows, .pairs = depth / 2, .wide = in_place ? nullptr : wide.data(), .pitch = depth, .places = {reinterpret_cast<uintptr_t>(a.data()), kOneTap, offsets.data(), 0}, .quads = quads};
  const DotSums to{{sums.data(), sums.data() + 16}, width, {sums.data(), sums.data() + 16}, width};
  const FlushMode flush;
  multiply_dot32(to, from, b.data(), panel, 1, narrow);
}

constexpr int kPeakRounds = 64, kPeakChains = kNativeLanes == 16 ? 16 : 10;

/// So that loops over constants are not computed by the compiler.
volatile float g_float = 0.999f;
[[maybe_unused]] volatile int32_t g_int = 3;
template <class T, size_t N>
void keep(const T (&chains)[N]) {
  asm volatile("" ::"r"(&chains) : "memory");
}

LANES int64_t peak_float() {
  const NativeFloats x = set_native(g_float);
  NativeFloats chain[kPeakChains];
  SYSTOLE_UNROLL for (int k = 0; k < kPeakChains; ++k) chain[k] = set_native(g_float);
  for (int i = 0; i < kPeakRounds; ++i) {
    SYSTOLE_UNROLL for (int k = 0; k < kPeakChains; ++k) chain[k] = fma(chain[k], x, x);
  }
  keep(chain);
  return int64_t{kPeakRounds} * kPeakChains * kNativeLanes;
}

#if SYSTOLE_LANES_OF(SYSTOLE_LANES) == SYSTOLE_LANES_avx512
LANES int64_t peak_integer() {
  const NativeInts x = set_native_ints(g_int);
  NativeInts chain[kPeakChains];
  SYSTOLE_UNROLL for (int k = 0; k < kPeakChains; ++k) chain[k] = set_native_ints(g_int);
  for (int i = 0; i < kPeakRounds; ++i) {
    SYSTOLE_UNROLL for (int k = 0; k < kPeakChains; ++k) chain[k] = add_products(chain[k], x, x);
  }
  keep(chain);
  return int64_t{kPeakRounds} * kPeakChains * kNativeLanes * kIntegerDepth;
}
LANES_OF_PAIRS int64_t peak_pairs() {
  const auto x = (__m512bh)set_native(g_float);
  NativeFloats chain[kPeakChains];
  SYSTOLE_UNROLL for (int k = 0; k < kPeakChains; ++k) chain[k] = set_native(g_float);
  for (int i = 0; i < kPeakRounds; ++i) {
    SYSTOLE_UNROLL for (int k = 0; k < kPeakChains; ++k) chain[k] = _mm512_dpbf16_ps(chain[k], x, x);
  }
  keep(chain);
  return int64_t{kPeakRounds} * kPeakChains * kNativeLanes * 2;
}
#else
constexpr int64_t (*peak_integer)() = nullptr;  // no instruction of its own
constexpr int64_t (*peak_pairs)() = nullptr;
#endif

}  // namespace

const LaneKernels kKernels = {pack_integer_b, pack_float_b, pack_depthwise_b, integer_matrix, float_matrix, depthwise, vector_function, divide_by, apply,
                              {kIntegerRows, kIntegerNarrowRows, run_int8}, {kDotRows, kDotNarrowRows, run_dot32}, peak_float, peak_integer, peak_pairs};

}  // namespace systole::SYSTOLE_LANES
#endif
