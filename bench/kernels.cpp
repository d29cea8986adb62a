// The inner kernels alone, against what the host's arithmetic units could do at best. Goals (docs/performance.md): int8 and
// dot32 at 70 % of the peak that the loops at the end of this file reach.
#include <benchmark/benchmark.h>

#include <random>

#include "machine/cost.h"
#include "sim/translate/kernel.h"
#include "sim/translate/lanes/kernels.h"
#include "sim/translate/matrix_tiles.h"
#include "sim/translate/pair_products.h"

namespace systole {
namespace {

/// Skips and says so where the host has no such kernels.
bool missing(benchmark::State& state) {
  if (has_kernels()) return false;
  state.SkipWithError("this host has no AVX2");
  return true;
}
void rate(benchmark::State& state, const char* unit, int64_t multiply_adds) {
  state.counters[unit] = benchmark::Counter(static_cast<double>(state.iterations()) * 2e-9 * static_cast<double>(multiply_adds), benchmark::Counter::kIsRate);
}

void tile(benchmark::State& state, const TileKernel& kernel, const char* unit) {
  const int64_t depth = state.range(0);
  const bool narrow = state.range(1) != 0;
  for (auto _ : state) kernel.run(depth, narrow);
  rate(state, unit, (narrow ? kernel.narrow_rows : kernel.rows) * (narrow ? 16 : 32) * depth);
}
void int8(benchmark::State& state) {
  if (!missing(state)) tile(state, lane_kernels().int8, "GOP/s");
}
BENCHMARK(int8)->ArgNames({"depth", "narrow"})->Args({64, 0})->Args({256, 0})->Args({2048, 0})->Args({256, 1});
void dot32(benchmark::State& state) {
  if (!missing(state)) tile(state, lane_kernels().dot32, "GFLOP/s");
}
BENCHMARK(dot32)->ArgNames({"depth", "narrow"})->Args({64, 0})->Args({576, 0})->Args({2048, 0})->Args({576, 1});

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

void function(benchmark::State& state, isa::Micro op) {
  if (missing(state)) return;
  std::mt19937 random(1);
  std::vector<float> a(1024), r(1024);
  for (float& v : a) v = std::uniform_real_distribution<float>(0.1f, 4.0f)(random);
  const LaneKernels& kernels = lane_kernels();
  for (auto _ : state) {
    kernels.apply(kernels.vector_function(op), a.data(), a.data(), r.data(), 1024);
    benchmark::DoNotOptimize(r.data());
    benchmark::ClobberMemory();
  }
  state.counters["G/s"] = benchmark::Counter(static_cast<double>(state.iterations()) * 1024e-9, benchmark::Counter::kIsRate);
}
BENCHMARK_CAPTURE(function, exp, isa::Micro::kExp);
BENCHMARK_CAPTURE(function, erf, isa::Micro::kErf);
BENCHMARK_CAPTURE(function, reciprocal, isa::Micro::kReciprocal);
BENCHMARK_CAPTURE(function, tanh, isa::Micro::kTanh);

/// A whole matrix instruction: `rows` x `columns` pixels of a padded picture, `from` to `to` channels (from 0: depthwise).
struct LayerShape {
  int64_t rows, columns, kernel, from, to, stride = 1;
};
void layer(benchmark::State& state, MacFormat format, LayerShape s) {
  if (missing(state)) return;
  constexpr int64_t kColumns = 16;
  const int64_t element = operand_bytes(format), channels = s.from ? s.from : s.to, in_columns = s.columns * s.stride;
  isa::MatrixDesc d;
  d.format = static_cast<uint8_t>(format), d.depthwise = s.from == 0, d.multiplier = 1;
  d.kernel_h = d.kernel_w = static_cast<uint16_t>(s.kernel), d.stride_h = d.stride_w = static_cast<uint16_t>(s.stride);
  d.channels = static_cast<uint32_t>(s.from ? s.from : 1), d.in_columns = static_cast<uint32_t>(in_columns);
  d.a_channel_pitch = static_cast<uint32_t>(element), d.a_pixel_pitch = static_cast<uint32_t>(element * channels), d.a_row_pitch = d.a_pixel_pitch * d.in_columns;
  const int64_t depth = s.kernel * s.kernel * d.channels, b_bytes = (s.to + kColumns - 1) / kColumns * kColumns * depth * element;
  d.b_column_pitch = static_cast<uint32_t>(element), d.b_row_pitch = d.b_column_pitch * kColumns, d.b_tile_pitch = static_cast<uint32_t>(depth * element * kColumns);
  const int64_t in_rows = s.rows * s.stride + s.kernel - 1, a_bytes = in_rows * d.a_row_pitch, sums = (s.to + kColumns - 1) / kColumns * kColumns * s.rows * s.columns;
  Memory memory;
  memory.scratchpad = ZeroedMemory(static_cast<size_t>(b_bytes + a_bytes + 4096)), memory.accumulators = ZeroedMemory(static_cast<size_t>(4 * sums));
  std::mt19937 random(1);
  for (size_t i = 0; i + 2 <= memory.scratchpad.size(); i += 2) {
    const auto v = static_cast<uint16_t>(0x3F00 | (random() & 0x80FF));
    std::memcpy(memory.scratchpad.data() + i, &v, 2);
  }
  isa::MatrixOp op{};
  op.desc = &d, op.init = isa::Init::kBias, op.b = 0, op.bias = static_cast<uint64_t>(b_bytes), op.a = static_cast<uint64_t>(b_bytes + 1024);
  op.out_rows = static_cast<uint32_t>(s.rows), op.out_columns = static_cast<uint32_t>(s.columns), op.n = static_cast<uint32_t>(s.to);
  op.in_rows = static_cast<uint32_t>(in_rows), op.column_origin = static_cast<int32_t>(-(s.kernel / 2));
  auto packed = std::make_shared<PackedB>(std::make_shared<PackedMemory>());
  pack_b(op, kColumns, memory.scratchpad.data(), *packed);
  const auto kernel = matrix_kernel(memory, op, kColumns, packed);
  const int64_t pieces = kernel->pieces();
  for (auto _ : state) {
    kernel->run(0, pieces);
    benchmark::ClobberMemory();
  }
  rate(state, "GOP/s", static_cast<int64_t>(kernel->shape().operations / 2));
}
BENCHMARK_CAPTURE(layer, bf16_picture_3_to_16_every_2, MacFormat::kBF16, LayerShape{3, 160, 3, 3, 16, 2});
BENCHMARK_CAPTURE(layer, bf16_points_64_to_32, MacFormat::kBF16, LayerShape{3, 80, 1, 64, 32});
BENCHMARK_CAPTURE(layer, bf16_points_64_to_16, MacFormat::kBF16, LayerShape{10, 40, 1, 64, 16});
BENCHMARK_CAPTURE(layer, bf16_points_16_to_16, MacFormat::kBF16, LayerShape{3, 160, 1, 16, 16});
BENCHMARK_CAPTURE(layer, bf16_points_16_to_32, MacFormat::kBF16, LayerShape{3, 80, 1, 16, 32});
BENCHMARK_CAPTURE(layer, bf16_tokens_768_to_32, MacFormat::kBF16, LayerShape{1, 128, 1, 768, 32});
BENCHMARK_CAPTURE(layer, bf16_tokens_3072_to_16, MacFormat::kBF16, LayerShape{1, 128, 1, 3072, 16});
BENCHMARK_CAPTURE(layer, bf16_3_x_3_256_to_16, MacFormat::kBF16, LayerShape{14, 14, 3, 256, 16});
BENCHMARK_CAPTURE(layer, bf16_points_64_to_1, MacFormat::kBF16, LayerShape{10, 40, 1, 64, 1});
BENCHMARK_CAPTURE(layer, bf16_plane_3_x_3, MacFormat::kBF16, LayerShape{10, 40, 3, 1, 1});
BENCHMARK_CAPTURE(layer, bf16_depthwise_32, MacFormat::kBF16, LayerShape{3, 80, 3, 0, 32});
BENCHMARK_CAPTURE(layer, bf16_depthwise_16, MacFormat::kBF16, LayerShape{10, 40, 3, 0, 16});
BENCHMARK_CAPTURE(layer, bf16_depthwise_16_every_2, MacFormat::kBF16, LayerShape{10, 40, 3, 0, 16, 2});
BENCHMARK_CAPTURE(layer, int8_picture_7_x_7_every_2, MacFormat::kInt8, LayerShape{4, 112, 7, 3, 64, 2});
BENCHMARK_CAPTURE(layer, int8_picture_3_x_3_every_2, MacFormat::kInt8, LayerShape{4, 112, 3, 3, 32, 2});
BENCHMARK_CAPTURE(layer, int8_points_64_to_64, MacFormat::kInt8, LayerShape{4, 56, 1, 64, 64});
BENCHMARK_CAPTURE(layer, int8_points_256_to_16, MacFormat::kInt8, LayerShape{14, 14, 1, 256, 16});
BENCHMARK_CAPTURE(layer, int8_3_x_3_64_to_16, MacFormat::kInt8, LayerShape{8, 56, 3, 64, 16});
BENCHMARK_CAPTURE(layer, int8_3_x_3_256_to_64, MacFormat::kInt8, LayerShape{14, 14, 3, 256, 64});
BENCHMARK_CAPTURE(layer, int8_3_x_3_256_to_16, MacFormat::kInt8, LayerShape{14, 14, 3, 256, 16});
BENCHMARK_CAPTURE(layer, int8_3_x_3_512_to_16, MacFormat::kInt8, LayerShape{7, 7, 3, 512, 16});
BENCHMARK_CAPTURE(layer, int8_depthwise_96, MacFormat::kInt8, LayerShape{8, 28, 3, 0, 96});

/// What one core can do.
void peak_float(benchmark::State& state) {
  if (missing(state)) return;
  int64_t each = 0;
  for (auto _ : state) each = lane_kernels().peak_float();
  rate(state, "GFLOP/s", each);
}
BENCHMARK(peak_float);
void peak_pairs(benchmark::State& state) {
  if (!has_kernels() || !has_pair_products()) return state.SkipWithError("this host has no products of pairs (AVX512_BF16), or tiles instead");
  int64_t each = 0;
  for (auto _ : state) each = lane_kernels().peak_pairs();
  rate(state, "GFLOP/s", each);
}
BENCHMARK(peak_pairs);
void peak_integer(benchmark::State& state) {
  if (missing(state)) return;
  if (!lane_kernels().peak_integer) return state.SkipWithError("no instruction of this host multiplies and adds bytes exactly");
  int64_t each = 0;
  for (auto _ : state) each = lane_kernels().peak_integer();
  rate(state, "GOP/s", each);
}
BENCHMARK(peak_integer);

}  // namespace
}  // namespace systole

BENCHMARK_MAIN();
