#include "machine/cost.h"

#include <algorithm>

namespace systole {

int64_t matrix_cycles(const Machine& machine, const MatrixBlock& block) {
  const MatrixEngine& mx = machine.mx;
  if (block.m <= 0 || block.n <= 0 || block.run_elements <= 0) return mx.pipeline_cycles;
  const int64_t bytes = operand_bytes(block.format);
  const int64_t window = std::max<int64_t>(1, mx.rows * mx.depth / bytes);  // KS: elements of a k-chunk
  const int64_t rate = block.format == MacFormat::kInt8 ? mx.depth : mx.float_units;
  const int64_t row_groups = ceil_div(block.m, mx.rows), column_tiles = ceil_div(block.n, mx.columns);
  auto fetches = [&](int64_t elements) {
    const int64_t spare = mx.rows * mx.depth - elements * bytes;
    const int64_t covered = block.row_step_bytes > 0 && spare > 0 ? spare / block.row_step_bytes + 1 : 1;
    return ceil_div(mx.rows, std::min(mx.rows_per_fetch, covered));
  };
  auto step = [&](int64_t elements) { return std::max(ceil_div(elements, rate), fetches(elements)); };
  auto load = [&](int64_t elements) {
    return ceil_div(ceil_div(elements, mx.depth) * mx.depth * mx.columns * bytes, mx.b_port_bytes);
  };
  const int64_t full_chunks = block.run_elements / window, rest = block.run_elements % window;
  const int64_t first = full_chunks ? window : rest;
  // The sequence of tiles, per run and pass: full chunks x column tiles, then the rest x column tiles. Each tile costs
  // max(its work, the load of the next tile); the last one only its work.
  const int64_t repeats = block.runs * passes_of(block.format);
  const int64_t full_work = row_groups * step(window), rest_work = rest ? row_groups * step(rest) : 0;
  const int64_t full_load = load(window), rest_load = rest ? load(rest) : 0;
  int64_t total;
  if (full_chunks && rest) {
    const int64_t wrap = std::max(rest_work, full_load);
    total = repeats * ((full_chunks * column_tiles - 1) * std::max(full_work, full_load) + std::max(full_work, rest_load) + (column_tiles - 1) * std::max(rest_work, rest_load) + wrap) - wrap + rest_work;
  } else {
    const int64_t work = rest ? rest_work : full_work, loads = rest ? rest_load : full_load, tiles = rest ? column_tiles : full_chunks * column_tiles;
    total = repeats * tiles * std::max(work, loads) - std::max(work, loads) + work;
  }
  return std::max(load(first), fetches(first)) + total + mx.pipeline_cycles;
}

int64_t depthwise_cycles(const Machine& machine, const DepthwiseBlock& block) {
  const MatrixEngine& mx = machine.mx;
  const int64_t bytes = operand_bytes(block.format);
  const int64_t rate = block.format == MacFormat::kInt8 ? mx.depth : mx.float_units;
  const int64_t taps_load = ceil_div(block.kernel_h * block.kernel_w * std::min(block.channels, mx.columns) * bytes, mx.b_port_bytes);
  const int64_t width = (block.out_columns - 1) * block.stride_w + block.kernel_w;
  const int64_t column_steps = ceil_div(block.kernel_w, rate) * ceil_div(width * bytes, mx.depthwise_pixels) * passes_of(block.format);
  int64_t rows = 0;
  for (int64_t r = 0; r < block.out_rows; r += mx.rows) {
    rows += (std::min(mx.rows, block.out_rows - r) - 1) * block.stride_h + block.kernel_h;
  }
  return taps_load + mx.pipeline_cycles + ceil_div(block.channels, mx.columns) * rows * column_steps;
}

int64_t vector_cycles(const Machine& machine, const VectorBlock& block) {
  const int64_t table = block.table_ops * ceil_div(machine.vx.lanes, machine.vx.table_ports);
  const int64_t per_vector = std::max({block.slots, table, block.streams_on_one_group, int64_t{1}});
  return machine.vx.start_cycles + 4 * ceil_div(block.vectors, 4) * per_vector + machine.vx.drain_cycles;
}

int64_t dram_bound_cycles(const Machine& machine, int64_t bytes) { return ceil_div(bytes, machine.dram.bytes_per_cycle); }

}  // namespace systole
