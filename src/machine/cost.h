// Cycles of one instruction, from its geometry and the machine: the formulas of docs/microarchitecture.md. They live
// here once; the compiler's tiling search and the timing model both call them.
#pragma once
#include <cstdint>

#include "machine/machine.h"

namespace systole {

/// Number format of a contraction's operands.
enum class MacFormat : uint8_t { kInt8, kBF16, kF16, kF32 };
/// Bytes of one operand element as stored.
constexpr int64_t operand_bytes(MacFormat f) { return f == MacFormat::kInt8 ? 1 : f == MacFormat::kF32 ? 4 : 2; }
/// bf16 passes over K that one contraction in this format takes.
constexpr int64_t passes_of(MacFormat f) { return f == MacFormat::kF32 ? 6 : f == MacFormat::kF16 ? 4 : 1; }

/// Extents of one MX instruction. K = runs x run_elements (convolution: kernel rows x kernel width x channels).
struct MatrixBlock {
  int64_t m = 0, n = 0, runs = 1, run_elements = 0;
  MacFormat format = MacFormat::kInt8;
  int64_t row_step_bytes = 0;  ///< A bytes between neighbouring output pixels; one fetch of W bytes serves those it covers
};
/// T = max(TB0, F0) + sum over tiles of max(Mg S, TB next) + Mg S last + P.
int64_t matrix_cycles(const Machine& machine, const MatrixBlock& block);

/// What a contraction reads and updates, by the same tiles as its cycles.
struct MatrixTraffic {
  int64_t a_words = 0;             ///< scratchpad reads of R x D bytes
  int64_t b_bytes = 0;
  int64_t accumulator_words = 0;   ///< 32-bit words written; as many are read, less those that start anew
  int64_t array_cycles = 0;        ///< with operands in the array
};
MatrixTraffic matrix_traffic(const Machine& machine, const MatrixBlock& block);

struct DepthwiseBlock {
  int64_t out_rows = 0, out_columns = 0, channels = 0, kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1;
  MacFormat format = MacFormat::kInt8;
};
int64_t depthwise_cycles(const Machine& machine, const DepthwiseBlock& block);
MatrixTraffic depthwise_traffic(const Machine& machine, const DepthwiseBlock& block);

struct VectorBlock {
  int64_t vectors = 0;        ///< input vectors of L lanes, reductions included
  int64_t slots = 1;          ///< issue slots of the micro-program per vector
  int64_t table_ops = 0;      ///< function-table look-ups per vector
  int64_t port_cycles = 0;    ///< sigma: operands that share a lock group are read one after the other; of the busiest group
};
/// T = P0 + max(4 ceil(V / 4) Ue, sigma) + P1.
int64_t vector_cycles(const Machine& machine, const VectorBlock& block);

/// With every multiplier of the array at work: the bound of these multiply-adds.
int64_t ideal_matrix_cycles(const Machine& machine, int64_t macs, MacFormat format);

/// Lower bound of DRAM cycles for this many bytes.
int64_t dram_bound_cycles(const Machine& machine, int64_t bytes);

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace systole
