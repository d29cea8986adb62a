// The three primitives. Their meaning, bit for bit, is src/ops/reference.cpp; their engines are MX, VX and LD/ST.
#pragma once
#include <bit>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "isa/instruction.h"
#include "machine/cost.h"
#include "numerics/dtype.h"

namespace systole {

/// Matrix multiply or convolution into 32-bit accumulators.
/// Inputs: A [N, H, W, C]; B [Nb, G, KH, KW, C/G, Co/G] (Nb = 1 or N; the last two swapped when b_transposed); optional
/// bias [Co] (i32 or f32). Output: [N, OH, OW, Co], i32 for int8 operands and f32 otherwise.
/// With group_rows, B [1, 1, 1, 1, K, Co] is constant and holds codes of few bits: inputs 3 and 4 are scales (f32 or f16) and zero points
/// [K / group_rows, Co], and element (k, n) is fl32((code - zero) scale) rounded to the format.
/// Depthwise (multiplier m): B [1, 1, KH, KW, 1, C m], output channel o reads input channel o / m.
struct Contract {
  MacFormat format = MacFormat::kInt8;
  int64_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  int64_t pad_top = 0, pad_left = 0;
  int64_t groups = 1;
  bool depthwise = false, b_transposed = false;  ///< b_transposed: kernels of one tap only
  int64_t a_zero = 0, b_zero = 0;  ///< subtracted from the operands; padding reads as a_zero
  int64_t group_rows = 0;          ///< of B that share a scale; 0: B holds its elements
  bool operator==(const Contract&) const = default;
};

/// One tensor index as a function of the loop indices: offset + sum of coefficient x index.
struct IndexTerm {
  int loop = 0;
  int64_t coefficient = 1;
  bool operator==(const IndexTerm&) const = default;
};
struct IndexExpr {
  int64_t offset = 0;
  std::vector<IndexTerm> terms;
  bool operator==(const IndexExpr&) const = default;
};

/// How a map reads one input: an expression per tensor dimension. A guarded access may leave the tensor and then reads
/// the map's fill value. Quantised inputs read as integer - zero_point.
struct Access {
  std::vector<IndexExpr> index;
  bool guarded = false;
  int64_t zero_point = 0;
  bool operator==(const Access&) const = default;
};

/// An operand of an expression.
struct Operand {
  enum class Kind : uint8_t { kInput, kConstant, kResult, kReduced } kind = Kind::kInput;
  int index = 0;        ///< input number, or number of an earlier operation
  float constant = 0;
  static Operand input(int i) { return {Kind::kInput, i, 0}; }
  static Operand value(float v) { return {Kind::kConstant, 0, v}; }
  static Operand result(int i) { return {Kind::kResult, i, 0}; }
  static Operand reduced() { return {Kind::kReduced, 0, 0}; }
  bool operator==(const Operand& o) const { return kind == o.kind && index == o.index && std::bit_cast<uint32_t>(constant) == std::bit_cast<uint32_t>(o.constant); }
};
struct Operation {
  isa::Micro op = isa::Micro::kMove;
  std::vector<Operand> operands;
  bool operator==(const Operation&) const = default;
};

/// Elementwise expression with an optional reduction over trailing loops: for each output index, `pre` per element,
/// then the reduction of its last result (logical order = loop order), then `post`. The last result is converted to
/// the output's type; 8-bit outputs are clamp(RNE(v) + out_zero, out_lo, out_hi).
struct Map {
  Shape extents;        ///< loops; the first rank(output) index the output
  int64_t reduced = 0;  ///< trailing loops that are reduced
  isa::Reduce reduce = isa::Reduce::kNone;
  std::vector<Access> accesses;  ///< one per input
  std::vector<Operation> pre, post;
  float fill = 0;
  int64_t out_zero = 0, out_lo = -128, out_hi = 127;

  int64_t output_rank() const { return static_cast<int64_t>(extents.size()) - reduced; }
  bool operator==(const Map& o) const {
    const auto rest = [](const Map& m) { return std::tie(m.extents, m.reduced, m.reduce, m.accesses, m.pre, m.post, m.out_zero, m.out_lo, m.out_hi); };
    return std::bit_cast<uint32_t>(fill) == std::bit_cast<uint32_t>(o.fill) && rest(*this) == rest(o);
  }
};

/// Issue slots that operations take per vector; at least one.
int64_t issue_slots(const std::vector<Operation>& operations);

/// A strided copy between dense tensors, in elements. input = -1 writes the move's fill element.
struct CopyRegion {
  int input = 0;
  Shape extents;
  int64_t src_offset = 0, dst_offset = 0;
  std::vector<int64_t> src_strides, dst_strides;
  bool operator==(const CopyRegion&) const = default;
};
/// Regions are written in order; together they cover the output.
struct Move {
  std::vector<CopyRegion> regions;
  uint64_t fill_bits = 0;
  bool operator==(const Move&) const = default;
};

/// The same bytes, or some of them, under another shape or type.
struct View {
  int64_t offset_bytes = 0;
  bool operator==(const View&) const = default;
};

/// The inputs' bytes one after another. Inputs are made for it: by maps or moves, read by nobody else.
struct Join {};

}  // namespace systole
