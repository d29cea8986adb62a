#include "machine/cost.h"

#include <algorithm>

namespace systole {

namespace {
/// The steps of a k-chunk, shared by cycles and traffic.
struct Steps {
  Steps(const MatrixEngine& engine, const MatrixBlock& b)
      : mx(engine), block(b), bytes(operand_bytes(b.format)), window(std::max<int64_t>(1, mx.a_word_bytes() / bytes)), rate(b.format == MacFormat::kInt8 ? mx.depth : mx.float_units),
        row_groups(ceil_div(b.m, mx.rows)), column_tiles(ceil_div(b.n, mx.columns)) {}
  const MatrixEngine& mx;
  const MatrixBlock& block;
  const int64_t bytes, window, rate, row_groups, column_tiles;  ///< window: KS, the elements of a k-chunk

  int64_t fetches(int64_t elements) const {
    const int64_t spare = mx.a_word_bytes() - elements * bytes;
    const int64_t covered = block.row_step_bytes > 0 && spare > 0 ? spare / block.row_step_bytes + 1 : 1;
    return ceil_div(mx.rows, std::min(mx.rows_per_fetch, covered));
  }
  int64_t step(int64_t elements) const { return std::max(ceil_div(elements, rate), fetches(elements)); }
  int64_t b_bytes(int64_t elements) const { return ceil_div(elements, mx.depth) * mx.depth * mx.columns * bytes; }
  int64_t load(int64_t elements) const { return ceil_div(b_bytes(elements), mx.b_port_bytes); }
};
}  // namespace

int64_t matrix_cycles(const Machine& machine, const MatrixBlock& block) {
  const MatrixEngine& mx = machine.mx;
  if (block.m <= 0 || block.n <= 0 || block.run_elements <= 0) return mx.pipeline_cycles;
  const Steps s(mx, block);
  const int64_t window = s.window, row_groups = s.row_groups, column_tiles = s.column_tiles;
  const int64_t full_chunks = block.run_elements / window, rest = block.run_elements % window;
  const int64_t first = full_chunks ? window : rest;
  // The sequence of tiles, per run and pass: full chunks x column tiles, then the rest x column tiles. Each tile costs
  // max(its work, the load of the next tile); the last one only its work.
  const int64_t repeats = block.runs * passes_of(block.format);
  const int64_t full_work = row_groups * s.step(window), rest_work = rest ? row_groups * s.step(rest) : 0;
  const int64_t full_load = s.load(window), rest_load = rest ? s.load(rest) : 0;
  int64_t total;
  if (full_chunks && rest) {
    const int64_t wrap = std::max(rest_work, full_load);
    total = repeats * ((full_chunks * column_tiles - 1) * std::max(full_work, full_load) + std::max(full_work, rest_load) + (column_tiles - 1) * std::max(rest_work, rest_load) + wrap) - wrap + rest_work;
  } else {
    const int64_t work = rest ? rest_work : full_work, loads = rest ? rest_load : full_load, tiles = rest ? column_tiles : full_chunks * column_tiles;
    total = repeats * tiles * std::max(work, loads) - std::max(work, loads) + work;
  }
  return std::max(s.load(first), s.fetches(first)) + total + mx.pipeline_cycles;
}

MatrixTraffic matrix_traffic(const Machine& machine, const MatrixBlock& block) {
  MatrixTraffic t;
  if (block.m <= 0 || block.n <= 0 || block.run_elements <= 0) return t;
  const Steps s(machine.mx, block);
  auto add = [&](int64_t elements, int64_t chunks) {
    const int64_t tiles = block.runs * passes_of(block.format) * chunks * s.column_tiles;
    t.a_words += tiles * s.row_groups * s.fetches(elements);
    t.b_bytes += tiles * s.b_bytes(elements);
    t.accumulator_words += tiles / s.column_tiles * block.m * block.n;
    t.array_cycles += tiles * s.row_groups * ceil_div(elements, s.rate);
  };
  add(s.window, block.run_elements / s.window);
  if (block.run_elements % s.window) add(block.run_elements % s.window, 1);
  return t;
}

namespace {
/// Column steps of one image row, and image rows that all row blocks read.
struct DepthwiseSteps {
  int64_t column_steps, rows;
};
DepthwiseSteps depthwise_steps(const MatrixEngine& mx, const DepthwiseBlock& block) {
  const int64_t rate = block.format == MacFormat::kInt8 ? mx.depth : mx.float_units;
  const int64_t width = (block.out_columns - 1) * block.stride_w + block.kernel_w;
  int64_t rows = 0;
  for (int64_t r = 0; r < block.out_rows; r += mx.rows) rows += (std::min(mx.rows, block.out_rows - r) - 1) * block.stride_h + block.kernel_h;
  return {ceil_div(block.kernel_w, rate) * ceil_div(width * operand_bytes(block.format), mx.depthwise_pixels) * passes_of(block.format), rows};
}
}  // namespace

int64_t depthwise_cycles(const Machine& machine, const DepthwiseBlock& block) {
  const MatrixEngine& mx = machine.mx;
  const int64_t taps_load = ceil_div(block.kernel_h * block.kernel_w * std::min(block.channels, mx.columns) * operand_bytes(block.format), mx.b_port_bytes);
  const DepthwiseSteps steps = depthwise_steps(mx, block);
  return taps_load + mx.pipeline_cycles + ceil_div(block.channels, mx.columns) * steps.rows * steps.column_steps;
}

MatrixTraffic depthwise_traffic(const Machine& machine, const DepthwiseBlock& block) {
  const MatrixEngine& mx = machine.mx;
  const DepthwiseSteps steps = depthwise_steps(mx, block);
  MatrixTraffic t;
  t.array_cycles = ceil_div(block.channels, mx.columns) * steps.rows * steps.column_steps;
  // Each step reads depthwise_pixels bytes for every column of the array.
  t.a_words = ceil_div(t.array_cycles * mx.depthwise_pixels * std::min(block.channels, mx.columns), mx.a_word_bytes());
  t.b_bytes = block.kernel_h * block.kernel_w * block.channels * operand_bytes(block.format);
  t.accumulator_words = block.out_rows * block.out_columns * block.channels;
  return t;
}

int64_t vector_cycles(const Machine& machine, const VectorBlock& block) {
  const int64_t table = block.table_ops * ceil_div(machine.vx.lanes, machine.vx.table_ports);
  const int64_t per_vector = std::max({block.slots, table, int64_t{1}});
  return machine.vx.start_cycles + std::max(4 * ceil_div(block.vectors, 4) * per_vector, block.port_cycles) + machine.vx.drain_cycles;
}

int64_t ideal_matrix_cycles(const Machine& machine, int64_t macs, MacFormat format) {
  const int64_t rate = format == MacFormat::kInt8 ? machine.mx.depth : machine.mx.float_units;
  return ceil_div(macs * passes_of(format), machine.mx.rows * machine.mx.columns * rate);
}

int64_t dram_bound_cycles(const Machine& machine, int64_t bytes) { return ceil_div(bytes, machine.dram.bytes_per_cycle); }

}  // namespace systole
