#include "sim/energy/activity.h"

#include <algorithm>

#include "isa/geometry.h"
#include "machine/instruction_cost.h"

namespace systole {
namespace {

void count(const Machine& machine, const isa::MatrixOp& op, Activity& a) {
  const auto format = static_cast<MacFormat>(op.desc->format);
  const double macs = static_cast<double>(macs_of(op));
  (format == MacFormat::kInt8 ? a.integer_macs : a.bf16_macs) = macs * static_cast<double>(passes_of(format));
  const MatrixTraffic t = traffic_of(machine, op);
  const int64_t cells = machine.mx.rows * machine.mx.columns * (format == MacFormat::kInt8 ? machine.mx.depth : machine.mx.float_units);
  a.cell_cycles = static_cast<double>(t.array_cycles * cells);
  a.array_bytes = static_cast<double>(t.a_words * machine.mx.a_word_bytes() + t.b_bytes);
  a.accumulator_words = 2 * static_cast<double>(t.accumulator_words);
}

struct MicroCost {
  double adds, multiplies, compares;
};
/// Circuits that one lane uses for an operation; functions of more slots are Horner steps.
MicroCost circuits_of(isa::Micro op) {
  using isa::Micro;
  const isa::MicroInfo& info = isa::micro_info(op);
  if (info.slots > 1 || info.table_ops) return {static_cast<double>(info.slots + info.table_ops), static_cast<double>(info.slots + info.table_ops), 0};
  switch (op) {
    case Micro::kAdd: case Micro::kSub: case Micro::kFloor: case Micro::kCeil: case Micro::kRound: return {1, 0, 0};
    case Micro::kMul: return {0, 1, 0};
    case Micro::kFma: return {1, 1, 0};
    case Micro::kMove: return {0, 0, 0};
    default: return {0, 0, 1};
  }
}

/// Elements of a stream that are fetched: what repeats along the innermost loops is fetched once per vector.
double fetched(const isa::VectorDesc& d, const std::array<int32_t, isa::kVectorDims>& strides, bool guarded, int dims, int64_t lanes) {
  double n = 1;
  int64_t repeated = 1;
  bool inner = !guarded;
  for (int k = dims - 1; k >= 0; --k) {
    const size_t s = static_cast<size_t>(k);
    if (d.extents[s] == 1) continue;
    if (inner && strides[s] == 0) repeated *= d.extents[s];
    else inner = false, n *= d.extents[s];
  }
  return n * static_cast<double>(ceil_div(repeated, lanes));
}

void count(const Machine& machine, const isa::VectorOp& op, Activity& a) {
  const isa::VectorDesc& d = *op.desc;
  const isa::VectorProgram& p = *op.program;
  double read = 1, kept = 1;
  for (int k = 0; k < isa::kVectorDims; ++k) {
    read *= d.extents[static_cast<size_t>(k)];
    if (k < isa::kVectorDims - d.reduced) kept *= d.extents[static_cast<size_t>(k)];
  }
  const bool reduces = p.reduce != isa::Reduce::kNone;
  for (int i = isa::reduces_stream(p) ? 1 : 0; i < p.pre_count + p.post_count && i < isa::kMicroOps; ++i) {
    const auto micro = p.ops[static_cast<size_t>(i)].op;
    const double lanes = i < p.pre_count || !reduces ? read : kept;
    const MicroCost c = circuits_of(micro);
    a.vector_adds += lanes * c.adds, a.vector_multiplies += lanes * c.multiplies, a.vector_compares += lanes * c.compares;
    a.vector_lookups += lanes * isa::micro_info(micro).table_ops, a.lane_slots += lanes * isa::micro_info(micro).slots;
  }
  if (reduces) (p.reduce == isa::Reduce::kSum ? a.vector_adds : a.vector_compares) += read, a.lane_slots += read;
  const std::array<int32_t, isa::kVectorDims>* strides[] = {&d.strides0, &d.strides1, &d.strides2, &d.out_strides};
  for (size_t s = 0; s <= isa::kVectorInputs; ++s) {
    if (d.types[s] == isa::StreamType::kNone) continue;
    const bool output = s == isa::kVectorInputs;
    const double n = output ? kept : fetched(d, *strides[s], s == 0 && d.guard_h_limit, isa::kVectorDims, machine.vx.lanes);
    if (op.spaces[s] == isa::Space::kAccumulator) a.accumulator_words += n;
    else a.stream_bytes += n * isa::bytes_of(d.types[s]);
  }
}

void count(const isa::CopyOp& op, const Event& event, Activity& a) {
  const double bytes = static_cast<double>(isa::runs_of(*op.desc).bytes());
  a.dma_bytes = bytes;
  a.stream_bytes = bytes * ((op.src == isa::Space::kScratchpad) + (op.dst == isa::Space::kScratchpad));
  a.dram_bytes = static_cast<double>(event.dram_read_bytes + event.dram_write_bytes), a.dram_row_misses = static_cast<double>(event.dram_row_misses);
}

/// The floats cross the DMA's data path; each is a subtraction and a multiplication.
void count(const isa::DequantizeOp& op, const Event& event, Activity& a) {
  a.dma_bytes = a.stream_bytes = static_cast<double>(op.target_bytes());
  a.vector_adds = a.vector_multiplies = static_cast<double>(op.elements());
  a.dram_bytes = static_cast<double>(event.dram_read_bytes), a.dram_row_misses = static_cast<double>(event.dram_row_misses);
}

}  // namespace

Activity& Activity::operator+=(const Activity& o) {
  for (auto m : {&Activity::integer_macs, &Activity::bf16_macs, &Activity::cell_cycles, &Activity::array_bytes, &Activity::accumulator_words, &Activity::vector_adds, &Activity::vector_multiplies,
                 &Activity::vector_compares, &Activity::vector_lookups, &Activity::lane_slots, &Activity::stream_bytes, &Activity::dma_bytes, &Activity::dram_bytes, &Activity::dram_row_misses,
                 &Activity::instruction_words}) {
    this->*m += o.*m;
  }
  return *this;
}

Activity activity_of(const Machine& machine, const isa::Sequence& sequence, const Timing& timing, size_t i) {
  Activity a;
  a.instruction_words = sequence.words_before[i];
  const auto& op = sequence.ops[i].op;
  if (const auto* m = std::get_if<isa::MatrixOp>(&op)) count(machine, *m, a);
  else if (const auto* v = std::get_if<isa::VectorOp>(&op)) count(machine, *v, a);
  else if (const auto* c = std::get_if<isa::CopyOp>(&op)) count(*c, timing.events[i], a);
  else if (const auto* d = std::get_if<isa::DequantizeOp>(&op)) count(*d, timing.events[i], a);
  return a;
}

}  // namespace systole
