// One unit of host work: an instruction of the program, or part of preparing one, translated for this host.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "isa/sequencer.h"
#include "sim/functional/executor.h"
#include "sim/translate/packed_memory.h"

namespace systole {

/// What host time is reported by.
enum class WorkClass : uint8_t { kMatrixInteger, kMatrixFloat, kDepthwise, kPack, kVector, kVectorInterpreted, kMatrixInterpreted, kCopy, kCount };
const char* to_string(WorkClass c);

/// What a kernel works on, in words, and how many operations that is: multiply-adds count as two, other elements and bytes as one.
struct WorkShape {
  std::string text;
  double operations = 0;
};
WorkShape shape_of(const isa::MatrixOp& op);
WorkShape shape_of(const isa::VectorOp& op);
WorkShape shape_of(const isa::CopyOp& op);
WorkShape shape_of(const isa::DequantizeOp& op);

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual WorkClass work_class() const = 0;
  virtual WorkShape shape() const = 0;
  /// Independent pieces that threads may share.
  virtual int64_t pieces() const { return 1; }
  /// Rough host time of the whole in nanoseconds; decides whether sharing it pays.
  virtual double cost_ns() const { return 0; }
  /// Runs pieces [begin, end).
  virtual void run(int64_t begin, int64_t end) const = 0;
};

/// A matrix instruction's B operand in the kernels' order. Constant weights are packed once; others before each use, always in the same order.
struct PackedB {
  explicit PackedB(std::shared_ptr<PackedMemory> memory) : bytes(std::move(memory)) {}
  PackedBytes bytes;
  std::vector<int32_t> column_sums;  ///< int8: over k of (B - zero)
};

/// Whether a fast kernel exists for this instruction on this host, and what shape its packed B has.
bool has_matrix_kernel(const isa::MatrixOp& op);
/// Packs B from an image of the scratchpad that starts at `b` (its first byte is B's). `columns` is the machine's C.
void pack_b(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out);
/// Counts the runs of all programs, so that a thread knows what it copied in an earlier one. begin_run starts one.
uint64_t begin_run();
uint64_t current_run();

/// `packed` must be filled when the kernel runs. `a_version`: instructions with the same one, not 0, find the same bytes of A laid out the same way.
std::unique_ptr<Kernel> matrix_kernel(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed, uint64_t a_version = 0);
std::unique_ptr<Kernel> pack_kernel(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<PackedB> packed);
class VectorCodes;
std::unique_ptr<Kernel> vector_kernel(Memory& memory, const isa::VectorOp& op, VectorCodes& codes);
std::unique_ptr<Kernel> copy_kernel(Memory& memory, const isa::CopyOp& op);
std::unique_ptr<Kernel> dequantize_kernel(Memory& memory, const isa::DequantizeOp& op);

}  // namespace systole
