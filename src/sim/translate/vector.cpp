// VX: runs a vector instruction by machine code where there is a form for it, else by the functional model's interpreter.
#include <algorithm>

#include "sim/translate/host.h"
#include "sim/translate/kernel.h"
#include "sim/translate/vector_code.h"

namespace systole {
namespace {

int64_t elements_of(const isa::VectorOp& op) {
  int64_t n = 1;
  for (uint32_t e : op.desc->extents) n *= e;
  return n;
}

class InterpretedVector final : public Kernel {
 public:
  InterpretedVector(Memory& memory, const isa::VectorOp& op) : memory_(memory), op_(op), positions_(vector_positions(op)) {}
  WorkClass work_class() const override { return WorkClass::kVectorInterpreted; }
  WorkShape shape() const override { return shape_of(op_); }
  int64_t pieces() const override { return positions_; }
  double cost_ns() const override { return static_cast<double>(elements_of(op_)); }
  void run(int64_t begin, int64_t end) const override {
    if (begin < end) execute_vector_positions(memory_, op_, begin, end);
  }

 private:
  Memory& memory_;
  const isa::VectorOp op_;
  int64_t positions_;
};

/// Positions of a loop nest, innermost fastest, with the byte offsets of every stream and the guard's row and column.
class Walk {
 public:
  Walk(const std::vector<VectorLoop>& loops, int64_t first) : loops_(loops) {
    for (size_t k = loops.size(); k-- > 0;) {
      index_[k] = first % loops[k].extent, first /= loops[k].extent;
      advance(loops[k], index_[k]);
    }
  }
  /// Positions from here on that differ from this one in the innermost loop alone, this one included.
  int64_t left() const { return loops_.empty() ? 1 : loops_.back().extent - index_[loops_.size() - 1]; }
  /// So many positions on, at most left().
  void next(int64_t times = 1) {
    for (size_t k = loops_.size(); k-- > 0; times = 1) {
      index_[k] += times, advance(loops_[k], times);
      if (index_[k] < loops_[k].extent) return;
      advance(loops_[k], -loops_[k].extent);
      index_[k] = 0;
    }
  }
  std::array<int64_t, kVectorStreams> offset{};
  int64_t guard_h = 0, guard_w = 0;

 private:
  void advance(const VectorLoop& l, int64_t times) {
    for (size_t s = 0; s < kVectorStreams; ++s) offset[s] += l.strides[s] * times;
    guard_h += l.guard_h * times, guard_w += l.guard_w * times;
  }
  const std::vector<VectorLoop>& loops_;
  std::array<int64_t, isa::kVectorDims> index_{};
};

class CompiledVector final : public Kernel {
 public:
  CompiledVector(Memory& memory, const isa::VectorOp& op, VectorPlan plan, std::shared_ptr<const VectorCode> code)
      : op_(op), d_(*op.desc), plan_(std::move(plan)), code_(std::move(code)), positions_(plan_.outer_positions()) {
    for (size_t s = 0; s < kVectorStreams; ++s) {
      const bool there = d_.types[s] != isa::StreamType::kNone;
      base_[s] = there ? memory.bytes(op.spaces[s]) + op.addresses[s] : memory.scratchpad.data();
      if (there && s < isa::kVectorInputs) inputs_ = s + 1;
    }
    for (Walk w(plan_.reduced, 0); reduced_.size() < static_cast<size_t>(plan_.reduced_positions()); w.next()) reduced_.push_back(w);
    if (plan_.kind != VectorPlan::Kind::kLanesKept) reduced_.clear();
  }
  WorkClass work_class() const override { return WorkClass::kVector; }
  WorkShape shape() const override { return shape_of(op_); }
  int64_t pieces() const override { return positions_; }
  double cost_ns() const override { return static_cast<double>(elements_of(op_)) / 4; }

  void run(int64_t begin, int64_t end) const override {
    thread_local std::vector<VectorPointers> positions;
    Walk at(plan_.outer, begin);
    for (int64_t i = begin, times; i < end; i += times, at.next(times)) {
      times = d_.guard_h_limit ? 1 : std::min(end - i, at.left());
      VectorCall call;
      call.out = base_[kVectorOut] + at.offset[kVectorOut];
      if (plan_.kind == VectorPlan::Kind::kLanesKept) {
        positions.resize(reduced_.size());
        for (size_t k = 0; k < reduced_.size(); ++k) positions[k] = pointers(at, &reduced_[k]);
        call.positions = positions.data();
      } else {
        call.at = pointers(at, nullptr);
      }
      for (int64_t j = 1; j < times; ++j) {
        (*code_)(call);
        advance(call, positions, plan_.outer.back());
      }
      (*code_)(call);
    }
  }

 private:
  /// To the next position of the innermost outer loop, where there is no guard.
  void advance(VectorCall& call, std::vector<VectorPointers>& positions, const VectorLoop& loop) const {
    call.out += loop.strides[kVectorOut];
    const auto move = [&](VectorPointers& p) {
      for (size_t s = 0; s < inputs_; ++s) p.in[s] += loop.strides[s];
    };
    if (plan_.kind != VectorPlan::Kind::kLanesKept) return move(call.at);
    for (size_t k = 0; k < reduced_.size(); ++k) move(positions[k]);
  }
  VectorPointers pointers(const Walk& outer, const Walk* reduced) const {
    VectorPointers p;
    for (size_t s = 0; s < isa::kVectorInputs; ++s) p.in[s] = base_[s] + outer.offset[s] + (reduced ? reduced->offset[s] : 0);
    if (d_.guard_h_limit) {
      const int64_t h = op_.guard_h_origin + outer.guard_h + (reduced ? reduced->guard_h : 0), w = op_.guard_w_origin + outer.guard_w + (reduced ? reduced->guard_w : 0);
      const bool inside = h >= 0 && h < d_.guard_h_limit && w >= 0 && w < d_.guard_w_limit;
      p.in[0] = inside ? p.in[0] + h * d_.guard_h_pitch + w * d_.guard_w_pitch : nullptr;
    }
    return p;
  }

  const isa::VectorOp op_;
  const isa::VectorDesc& d_;
  const VectorPlan plan_;
  std::shared_ptr<const VectorCode> code_;
  int64_t positions_;
  std::array<uint8_t*, kVectorStreams> base_{};
  size_t inputs_ = 0;  ///< up to the last there is
  std::vector<Walk> reduced_;
};

/// Operations after a reduction see what the last position left in registers: only the interpreter keeps it.
bool registers_cross_reduction(const isa::VectorProgram& p) {
  uint32_t written = 0;
  for (int i = 0; i < p.pre_count + p.post_count; ++i) {
    if (i == p.pre_count && p.reduce != isa::Reduce::kNone) written = 0;
    const isa::MicroOp& m = p.ops[static_cast<size_t>(i)];
    const uint8_t reads[] = {m.a, m.b, m.c};
    for (int k = 0; k < isa::micro_info(m.op).operands; ++k) {
      if (reads[k] < isa::kOperandStream && !(written >> reads[k] & 1)) return true;
    }
    written |= 1u << m.dst;
  }
  return false;
}

}  // namespace

std::unique_ptr<Kernel> vector_kernel(Memory& memory, const isa::VectorOp& op, VectorCodes& codes) {
  if (has_kernels() && !registers_cross_reduction(*op.program) && (op.desc->reduced > 0) == (op.program->reduce != isa::Reduce::kNone)) {
    if (auto plan = plan_of(op)) {
      if (auto code = codes.find(op, *plan)) return std::make_unique<CompiledVector>(memory, op, std::move(*plan), std::move(code));
    }
  }
  return std::make_unique<InterpretedVector>(memory, op);
}

}  // namespace systole
