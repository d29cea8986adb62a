// What CT does: walks a program, runs registers and loops, tracks descriptors, and yields the stream of engine
// instructions with every address resolved. All models of the machine and the checker start from this stream.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <variant>
#include <vector>

#include "isa/program.h"

namespace systole::isa {

/// A descriptor or micro-program entering its engine's queue; takes no data.
struct DescriptorWrite {};
struct CopyOp {
  const CopyDesc* desc;
  Space src, dst;
  uint64_t src_address, dst_address;  ///< for kFill, src_address holds the element
};
/// Weights of few bits in DRAM: scales of the columns, their zero points, then rows x columns codes.
struct WeightRecord {
  int64_t rows, columns, bits, scale_bytes;
  int64_t zeros_offset() const { return columns * scale_bytes; }
  int64_t codes_offset() const { return zeros_offset() + columns * bits / 8; }
  int64_t bytes() const { return codes_offset() + rows * (columns * bits / 8); }
};
struct DequantizeOp {
  WeightRecord record;
  int64_t records, element_bytes;
  uint64_t src_address, dst_address;
  uint8_t to;  ///< MacFormat

  int64_t source_bytes() const { return records * record.bytes(); }
  int64_t target_bytes() const { return elements() * element_bytes; }
  int64_t elements() const { return records * record.rows * record.columns; }
};
struct MatrixOp {
  const MatrixDesc* desc;
  Init init;
  uint64_t a, b, bias;
  uint32_t acc, out_rows, out_columns, n, in_rows;
  int32_t row_origin, column_origin;
};
struct VectorOp {
  const VectorDesc* desc;
  const VectorProgram* program;
  std::array<Space, kVectorInputs + 1> spaces;
  std::array<uint64_t, kVectorInputs + 1> addresses;
  int32_t guard_h_origin, guard_w_origin;
};

struct Dispatched {
  uint32_t index;   ///< position in Program::code
  Engine engine;
  Waits wait;
  uint32_t locks;
  std::variant<DescriptorWrite, CopyOp, DequantizeOp, MatrixOp, VectorOp> op;
};

/// The dispatched stream; descriptors inside `ops` point into `code`, which must outlive it.
struct Sequence {
  std::vector<Dispatched> ops;
  /// Words CT fetched for each op, control instructions before it included.
  std::vector<uint32_t> words_before;
};

/// Walks the program. `read_dram` serves LoadReg. Fails (kBadInput) on malformed control flow, missing descriptors,
/// negative addresses, or more than `limit` dispatched instructions.
Sequence sequence(const std::vector<Instruction>& code, const std::string& where, const std::function<int64_t(uint64_t)>& read_dram = {}, uint64_t limit = 50'000'000);
/// Of a program, whose constants serve LoadReg; fails (kBadInput) too where one reads outside of them.
Sequence sequence(const Program& program);

}  // namespace systole::isa
