// The inner kernels alone, against what the host's arithmetic units could do at best. Goals (docs/performance.md): int8 and
// dot32 at 70 % of the peak that the loops at the end of this file reach.
#include <benchmark/benchmark.h>

#include <random>

#include "sim/functional/flush_mode.h"
#include "sim/translate/matrix_dot32.h"
#include "sim/translate/matrix_int8.h"
#include "sim/translate/matrix_tiles.h"
#include "sim/translate/host.h"
#include "sim/translate/vector_functions.h"

namespace systole {
namespace {

/// Skips and says so where the host has no such kernels.
bool missing(benchmark::State& state) {
  if (has_avx512_kernels()) return false;
  state.SkipWithError("this host has no AVX-512 with VNNI and VBMI");
  return true;
}

void int8(benchmark::State& state) {
  if (missing(state)) return;
  const int64_t quads = state.range(0);
  const bool narrow = state.range(1) != 0;
  std::vector<uint8_t> a(static_cast<size_t>(kInt8Rows * quads * 4), 3), b(static_cast<size_t>(quads * 128), 5);
  std::vector<int32_t> sums(kInt8Rows * kInt8Columns);
  std::vector<const uint8_t*> rows;
  for (int r = 0; r < kInt8Rows; ++r) rows.push_back(a.data() + r * quads * 4);
  for (auto _ : state) {
    multiply_int8(sums.data(), rows.data(), kInt8Rows, 1, quads, b.data(), narrow, false);
    benchmark::DoNotOptimize(sums.data());
    benchmark::ClobberMemory();
  }
  state.counters["GOP/s"] = benchmark::Counter(static_cast<double>(state.iterations()) * 2 * kInt8Rows * (narrow ? 16 : 32) * 4 * static_cast<double>(quads) * 1e-9, benchmark::Counter::kIsRate);
}
BENCHMARK(int8)->ArgNames({"quads", "narrow"})->Args({16, 0})->Args({64, 0})->Args({512, 0})->Args({64, 1});

void dot32(benchmark::State& state) {
  if (missing(state)) return;
  const int64_t blocks = state.range(0);
  const bool narrow = state.range(1) != 0;
  const int count = narrow ? kDotNarrowRows : kDotRows;
  std::vector<float> a(static_cast<size_t>(count * blocks * 32), 1.0f), sums(1024);
  std::vector<uint8_t> b(static_cast<size_t>(blocks * 32 * kDotColumns * 2), 0x3F);
  const FlushMode flush;
  for (auto _ : state) {
    multiply_dot32(sums.data(), a.data(), blocks * 32, count, b.data(), blocks * 32 * kDotColumns * 2, 1, blocks * 16, narrow);
    benchmark::DoNotOptimize(sums.data());
    benchmark::ClobberMemory();
  }
  state.counters["GFLOP/s"] = benchmark::Counter(static_cast<double>(state.iterations()) * 2 * count * (narrow ? 16 : 32) * 32 * static_cast<double>(blocks) * 1e-9, benchmark::Counter::kIsRate);
}
BENCHMARK(dot32)->ArgNames({"blocks", "narrow"})->Args({2, 0})->Args({18, 0})->Args({64, 0})->Args({18, 1});

/// A block of 32 x 32 on tile registers, A's rows as far apart as they are long.
void tiles(benchmark::State& state, TileArithmetic arithmetic) {
  if (!has_tile_kernels()) return state.SkipWithError("this host has no tile registers (AMX)");
  const int64_t steps = state.range(0), pitch = steps * kTileStep + kTileStep;
  std::vector<uint8_t> a(static_cast<size_t>(kBlockRows * pitch), 0x3F), b(static_cast<size_t>(steps * 2048 + (1 << 16)), 0x3F);
  std::vector<float> sums(kBlockRows * 32);
  const TileRows rows[2] = {{a.data(), pitch}, {a.data() + kTileRows * pitch, pitch}};
  TileProduct p{rows, b.data(), 1, steps, 2, 2, {}};
  for (int r = 0; r < 2; ++r) for (int c = 0; c < 2; ++c) p.sums[r][c] = {nullptr, 0, sums.data() + r * 16 * 32 + c * 16, 128};
  for (auto _ : state) {
    multiply_tiles(arithmetic, p);
    benchmark::ClobberMemory();
  }
  const double depth = static_cast<double>(steps) * (arithmetic == TileArithmetic::kDot32 ? 32 : 64);
  state.counters["GOP/s"] = benchmark::Counter(static_cast<double>(state.iterations()) * 2 * 32 * 32 * depth * 1e-9, benchmark::Counter::kIsRate);
}
BENCHMARK_CAPTURE(tiles, int8, TileArithmetic::kUnsigned)->ArgName("steps")->Arg(4)->Arg(16)->Arg(64);
BENCHMARK_CAPTURE(tiles, dot32, TileArithmetic::kDot32)->ArgName("steps")->Arg(4)->Arg(24)->Arg(96);

#ifdef SYSTOLE_HAS_AVX512
SYSTOLE_AVX512 void apply(VectorFunction f, const float* a, float* r, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) _mm512_storeu_ps(r + i, f(_mm512_loadu_ps(a + i), _mm512_setzero_ps()));
}
void function(benchmark::State& state, isa::Micro op) {
  if (missing(state)) return;
  std::mt19937 random(1);
  std::vector<float> a(1024), r(1024);
  for (float& v : a) v = std::uniform_real_distribution<float>(0.1f, 4.0f)(random);
  for (auto _ : state) {
    apply(vector_function(op), a.data(), r.data(), 1024);
    benchmark::DoNotOptimize(r.data());
    benchmark::ClobberMemory();
  }
  state.counters["G/s"] = benchmark::Counter(static_cast<double>(state.iterations()) * 1024e-9, benchmark::Counter::kIsRate);
}
BENCHMARK_CAPTURE(function, exp, isa::Micro::kExp);
BENCHMARK_CAPTURE(function, erf, isa::Micro::kErf);
BENCHMARK_CAPTURE(function, reciprocal, isa::Micro::kReciprocal);
BENCHMARK_CAPTURE(function, tanh, isa::Micro::kTanh);

/// What one core can do: independent chains in registers, nothing loaded.
SYSTOLE_AVX512 void peak_fma(benchmark::State& state) {
  if (missing(state)) return;
  __m512 chain[16];
  for (__m512& c : chain) c = _mm512_set1_ps(1.0f);
  const __m512 x = _mm512_set1_ps(0.999f);
  for (auto _ : state) {
    for (int i = 0; i < 64; ++i) {
      SYSTOLE_UNROLL for (int k = 0; k < 16; ++k) chain[k] = _mm512_fmadd_ps(chain[k], x, x);
    }
    benchmark::DoNotOptimize(chain);
  }
  state.counters["GFLOP/s"] = benchmark::Counter(static_cast<double>(state.iterations()) * 64 * 16 * 32 * 1e-9, benchmark::Counter::kIsRate);
}
BENCHMARK(peak_fma);

SYSTOLE_AVX512 void peak_int8(benchmark::State& state) {
  if (missing(state)) return;
  __m512i chain[16];
  for (__m512i& c : chain) c = _mm512_setzero_si512();
  const __m512i x = _mm512_set1_epi8(3);
  for (auto _ : state) {
    for (int i = 0; i < 64; ++i) {
      SYSTOLE_UNROLL for (int k = 0; k < 16; ++k) chain[k] = _mm512_dpbusd_epi32(chain[k], x, x);
    }
    benchmark::DoNotOptimize(chain);
  }
  state.counters["GOP/s"] = benchmark::Counter(static_cast<double>(state.iterations()) * 64 * 16 * 128 * 1e-9, benchmark::Counter::kIsRate);
}
BENCHMARK(peak_int8);
#endif

}  // namespace
}  // namespace systole

BENCHMARK_MAIN();
