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

int64_t cycles_of(const Machine& machine, const isa::VectorOp& op) {
  const auto slots = isa::slots_of(*op.program);
  int64_t sharing = 1;
  for (int s = 0; s <= isa::kVectorInputs; ++s) {
    int64_t same = 0;
    if (op.desc->types[static_cast<size_t>(s)] == isa::StreamType::kNone || op.spaces[static_cast<size_t>(s)] != isa::Space::kScratchpad) continue;
    for (int t = 0; t <= isa::kVectorInputs; ++t) {
      if (op.desc->types[static_cast<size_t>(t)] == isa::StreamType::kNone || op.spaces[static_cast<size_t>(t)] != isa::Space::kScratchpad) continue;
      const int64_t group = machine.group_bytes();
      same += static_cast<int64_t>(op.addresses[static_cast<size_t>(s)]) / group == static_cast<int64_t>(op.addresses[static_cast<size_t>(t)]) / group;
    }
    sharing = std::max(sharing, same);
  }
  return vector_cycles(machine, {isa::vector_count(*op.desc, op.spaces, machine.vx.lanes), slots.slots, slots.table_ops, sharing});
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
