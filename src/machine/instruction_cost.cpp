#include "machine/instruction_cost.h"

#include <algorithm>

#include "isa/geometry.h"

namespace systole {

namespace {
DepthwiseBlock depthwise_block(const isa::MatrixOp& op) {
  const isa::MatrixDesc& d = *op.desc;
  return {op.out_rows, op.out_columns, op.n, d.kernel_h, d.kernel_w, d.stride_h, d.stride_w, static_cast<MacFormat>(d.format)};
}
MatrixBlock matrix_block(const isa::MatrixOp& op) {
  const isa::MatrixDesc& d = *op.desc;
  // Taps of one kernel row are contiguous in A when columns are neither dilated nor padded apart.
  const bool joined = d.dilation_w == 1 && d.a_pixel_pitch == d.channels * d.a_channel_pitch;
  const int64_t taps = int64_t{d.kernel_h} * d.kernel_w;
  return {int64_t{op.out_rows} * op.out_columns, op.n, joined ? d.kernel_h : taps, joined ? int64_t{d.kernel_w} * d.channels : d.channels, static_cast<MacFormat>(d.format),
          int64_t{d.stride_w} * d.a_pixel_pitch};
}
}  // namespace

int64_t cycles_of(const Machine& machine, const isa::MatrixOp& op) {
  return op.desc->depthwise ? depthwise_cycles(machine, depthwise_block(op)) : matrix_cycles(machine, matrix_block(op));
}

MatrixTraffic traffic_of(const Machine& machine, const isa::MatrixOp& op) {
  return op.desc->depthwise ? depthwise_traffic(machine, depthwise_block(op)) : matrix_traffic(machine, matrix_block(op));
}

namespace {

/// Cycles of the busiest lock group: each stream that starts in it is read or written once per vector, or, where it stands still while others
/// are reduced, once per reduction.
int64_t port_cycles(const Machine& machine, const isa::VectorOp& op, int64_t vectors) {
  const isa::VectorDesc& d = *op.desc;
  const std::array<int32_t, isa::kVectorDims>* strides[] = {&d.strides0, &d.strides1, &d.strides2};
  const size_t kept = isa::kVectorDims - d.reduced;
  int64_t reduced = 1;
  for (size_t k = kept; k < isa::kVectorDims; ++k) reduced *= d.extents[k];
  const auto in_fours = [](int64_t v) { return 4 * ceil_div(v, 4); };
  const auto cycles_of_stream = [&](size_t s) {
    const bool moves = !d.reduced || (s < isa::kVectorInputs && std::any_of(strides[s]->begin() + static_cast<std::ptrdiff_t>(kept), strides[s]->end(), [](int32_t x) { return x != 0; }));
    return in_fours(moves ? vectors : ceil_div(vectors, std::max<int64_t>(1, reduced)));
  };
  const auto group = [&](size_t s) { return d.types[s] == isa::StreamType::kNone || op.spaces[s] != isa::Space::kScratchpad ? -1 : static_cast<int64_t>(op.addresses[s]) / machine.group_bytes(); };
  int64_t most = 0;
  for (size_t s = 0; s <= isa::kVectorInputs; ++s) {
    int64_t sum = 0;
    for (size_t t = 0; t <= isa::kVectorInputs; ++t) sum += group(s) >= 0 && group(t) == group(s) ? cycles_of_stream(t) : 0;
    most = std::max(most, sum);
  }
  return most;
}

}  // namespace

int64_t cycles_of(const Machine& machine, const isa::VectorOp& op) {
  const auto slots = isa::slots_of(*op.program);
  const int64_t vectors = isa::vector_count(*op.desc, op.spaces, machine.vx.lanes);
  return vector_cycles(machine, {vectors, slots.slots, slots.table_ops, port_cycles(machine, op, vectors)});
}

isa::CopyWalk walk_of(const Machine& machine, const isa::CopyOp& op, bool target) {
  return {op, target, {machine.dma.bytes_per_cycle, machine.dram.burst_bytes, machine.dram.bytes_per_cycle}};
}

int64_t port_cycles(const Machine& machine, const isa::CopyOp& op) {
  int64_t cycles = 1;
  for (const bool target : {false, true}) {
    if ((target ? op.dst : op.src) == isa::Space::kScratchpad) cycles = std::max(cycles, walk_of(machine, op, target).words());
  }
  return cycles;
}

int64_t port_cycles(const Machine& machine, const isa::DequantizeOp& op) { return std::max<int64_t>(1, ceil_div(std::max(op.source_bytes(), op.target_bytes()), machine.dma.bytes_per_cycle)); }

int64_t macs_of(const isa::MatrixOp& op) {
  const isa::MatrixDesc& d = *op.desc;
  return int64_t{op.out_rows} * op.out_columns * op.n * d.kernel_h * d.kernel_w * (d.depthwise ? 1 : d.channels);
}

}  // namespace systole
