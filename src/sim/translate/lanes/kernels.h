// What is compiled once per instruction set, as a table for those outside.
#pragma once
#include "isa/instruction.h"
#include "sim/translate/host.h"
#include "sim/translate/kernel.h"

namespace systole {

/// A micro-operation that is a function of the function unit or built from them: machine code that takes registers of lanes a and b
/// (which those with one operand do not read) and gives one, with the host's calling convention.
struct VectorFunction {
  void (*code)() = nullptr;
  explicit operator bool() const { return code != nullptr; }
};

/// An inner kernel alone, for benchmarks: one tile of `rows` pixels and 32 columns, or 16 where narrow.
struct TileKernel {
  int rows, narrow_rows;
  /// Multiplies a full tile over `depth` k, of operands that the benchmark does not look into.
  void (*run)(int64_t depth, bool narrow);
};

struct LaneKernels {
  void (*pack_integer_b)(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out);
  void (*pack_float_b)(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out);
  void (*pack_depthwise_b)(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out);
  std::unique_ptr<Kernel> (*integer_matrix)(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed, uint64_t a_version);
  std::unique_ptr<Kernel> (*float_matrix)(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed, uint64_t a_version);
  std::unique_ptr<Kernel> (*depthwise)(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed);
  /// None for operations that are single host instructions.
  VectorFunction (*vector_function)(isa::Micro op);
  /// a / b as kDivide has it, of a third operand too: vx_divisor(b) (numerics/functions.h).
  VectorFunction (*divide_by)();
  /// r = f(a, b), n a multiple of 16.
  void (*apply)(VectorFunction f, const float* a, const float* b, float* r, int64_t n);
  TileKernel int8, dot32;
  /// Multiply-adds (fp32, or integers) in registers that nothing waits for, what a core can do at best; returns how many. Integers: null
  /// where a multiply-add takes several instructions. Pairs: of bf16, where has_pair_products().
  int64_t (*peak_float)(), (*peak_integer)(), (*peak_pairs)();
};

/// Of kernel_isa(), which must not be kNone.
const LaneKernels& lane_kernels();

#ifdef SYSTOLE_X86
namespace avx2 {
extern const LaneKernels kKernels;
}
namespace avx512 {
extern const LaneKernels kKernels;
}
#endif

}  // namespace systole
