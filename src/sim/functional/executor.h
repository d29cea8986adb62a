// The functional model: executes a program's instruction stream on memory images, bit for bit, without time.
#pragma once
#include <string>
#include <vector>

#include "isa/footprint.h"
#include "isa/program.h"
#include "machine/machine.h"
#include "numerics/tensor.h"

namespace systole {

/// B operands packed for the kernels, kept while the scratchpad under them is unchanged: the blocks of a layer share them.
class PackedWeights {
 public:
  struct Entry {
    isa::MatrixDesc desc;
    uint64_t b = 0;
    uint32_t n = 0;
    int64_t lo = 0, hi = 0;  ///< scratchpad bytes it was made from; empty: unused
    std::vector<int16_t> integers;
    std::vector<float> floats;
  };
  /// The entry of this operand; `fresh` when it has to be filled. Bytes [lo, hi) are what it is made from.
  Entry& find(const isa::MatrixOp& op, int64_t lo, int64_t hi, bool& fresh);
  /// The scratchpad bytes [lo, hi) changed.
  void forget(int64_t lo, int64_t hi);

 private:
  std::array<Entry, 16> entries_;
  size_t next_ = 0;
};

/// The memories of one core.
struct Memory {
  PackedWeights packed;
  ZeroedMemory dram, scratchpad, accumulators;
  uint8_t* bytes(isa::Space space) { return (space == isa::Space::kDram ? dram : space == isa::Space::kScratchpad ? scratchpad : accumulators).data(); }
  uint32_t* sums() { return reinterpret_cast<uint32_t*>(accumulators.data()); }
};

/// A program loaded on a machine, ready to run any number of times. Refers to the program, which must outlive it.
class Functional {
 public:
  /// Fails (kMismatch) when the program was compiled for another machine. Checks every instruction's bounds once.
  Functional(const isa::Program& program, const Machine& machine);
  /// The same without the constants in DRAM, for translations that place what they still read.
  struct NoConstants {};
  Functional(const isa::Program& program, const Machine& machine, NoConstants);
  /// Puts constants at DRAM bytes [lo, hi) into the image.
  void place_constants(int64_t lo, int64_t hi);

  /// Runs on inputs in the program's order; fails (kMismatch) on another count, type or shape.
  std::vector<Tensor> run(const std::vector<Tensor>& inputs);

  /// Executes the stream in this order of indices into sequence().ops instead of program order (for tests of legality).
  std::vector<Tensor> run_in_order(const std::vector<Tensor>& inputs, const std::vector<uint32_t>& order);
  const isa::Sequence& sequence() const { return sequence_; }

  /// The parts of a run, for translations of the program that execute it themselves.
  void load(const std::vector<Tensor>& inputs);
  std::vector<Tensor> outputs();
  const isa::Program& program() const { return program_; }
  const Machine& machine() const { return machine_; }
  Memory& memory() { return memory_; }

 private:
  void execute(size_t i);

  const isa::Program& program_;
  Machine machine_;
  isa::Sequence sequence_;
  std::vector<std::pair<int64_t, int64_t>> scratchpad_writes_;  ///< per op, bytes [lo, hi); empty where it writes none
  Memory memory_;
};

// One function per engine.
void execute_copy(Memory& memory, const isa::CopyOp& op);
/// The same copy between other memories: from and to are its first elements.
void copy_between(const isa::CopyOp& op, const uint8_t* from, uint8_t* to);
void execute_dequantize(Memory& memory, const isa::DequantizeOp& op);
/// Records [begin, end) of it between other memories: from and to are the first record's.
void dequantize_records(const isa::DequantizeOp& op, const uint8_t* from, uint8_t* to, int64_t begin, int64_t end);
void execute_matrix(Memory& memory, PackedWeights& packed, const isa::MatrixOp& op, int64_t columns);
void execute_vector(Memory& memory, const isa::VectorOp& op);
/// Positions of the loops outside the innermost kept one, and the work of positions [begin, end) alone.
int64_t vector_positions(const isa::VectorOp& op);
void execute_vector_positions(Memory& memory, const isa::VectorOp& op, int64_t begin, int64_t end);

/// Host instruction sets the kernels are written for; the best one is used unless limited (SYSTOLE_HOST_ISA=scalar|avx2|avx512|avx512bf16|amx).
enum class HostIsa { kScalar, kAvx2, kAvx512, kAvx512Bf16, kAmx };
HostIsa host_isa();
void limit_host_isa(HostIsa isa);
const char* to_string(HostIsa isa);

}  // namespace systole
