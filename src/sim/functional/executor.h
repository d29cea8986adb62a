// The functional model: executes a program's instruction stream on memory images, bit for bit, without time.
#pragma once
#include <string>
#include <vector>

#include "isa/footprint.h"
#include "isa/program.h"
#include "machine/machine.h"
#include "numerics/tensor.h"

namespace systole {

/// The memories of one core.
struct Memory {
  std::vector<uint8_t> dram, scratchpad;
  std::vector<uint32_t> accumulators;
  uint8_t* bytes(isa::Space space) { return space == isa::Space::kDram ? dram.data() : space == isa::Space::kScratchpad ? scratchpad.data() : reinterpret_cast<uint8_t*>(accumulators.data()); }
};

/// A program loaded on a machine, ready to run any number of times. Refers to the program, which must outlive it.
class Functional {
 public:
  /// Fails (kMismatch) when the program was compiled for another machine. Checks every instruction's bounds once.
  Functional(const isa::Program& program, const Machine& machine);

  /// Runs on inputs in the program's order; fails (kMismatch) on another count, type or shape.
  std::vector<Tensor> run(const std::vector<Tensor>& inputs);

  /// Executes the stream in this order of indices into sequence().ops instead of program order (for tests of legality).
  std::vector<Tensor> run_in_order(const std::vector<Tensor>& inputs, const std::vector<uint32_t>& order);
  const isa::Sequence& sequence() const { return sequence_; }

 private:
  void load(const std::vector<Tensor>& inputs);
  std::vector<Tensor> outputs();
  void execute(const isa::Dispatched& op);

  const isa::Program& program_;
  Machine machine_;
  isa::Sequence sequence_;
  Memory memory_;
};

// One function per engine.
void execute_copy(Memory& memory, const isa::CopyOp& op);
void execute_matrix(Memory& memory, const isa::MatrixOp& op, int64_t columns);
void execute_vector(Memory& memory, const isa::VectorOp& op);

/// Host instruction sets the kernels are written for; the best one is used unless limited (SYSTOLE_HOST_ISA=scalar|avx2|avx512).
enum class HostIsa { kScalar, kAvx2, kAvx512 };
HostIsa host_isa();
void limit_host_isa(HostIsa isa);
const char* to_string(HostIsa isa);

}  // namespace systole
