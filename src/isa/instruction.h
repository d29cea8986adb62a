// The instruction set: each instruction is a struct whose `fields` list its name, width and help once. Encoding, text,
// the manual and random programs are derived from this file; `Instruction` is the complete list.
// Words are 256 bits; an instruction takes as many words as its fields need. Bits 0..7 hold the opcode, which is the
// position in `Instruction`.
#pragma once
#include <array>
#include <cstdint>
#include <variant>

#include "base/fields.h"

namespace systole::isa {

inline constexpr int kWordBytes = 32;
inline constexpr int kOpcodeBits = 8;
inline constexpr int kEngines = 4;         ///< LD, ST, MX, VX; CT has no queue
inline constexpr int kNoWait = 31;         ///< distance that waits for nothing
inline constexpr int kMaxDistance = 30;
inline constexpr int kRegisters = 32;      ///< register 0 is always 0
inline constexpr int kDescriptors = 8;     ///< per engine and kind
inline constexpr int kCopyDims = 5;
inline constexpr int kVectorDims = 6;
inline constexpr int kVectorInputs = 3;
inline constexpr int kMicroOps = 16;
inline constexpr int kMicroConstants = 8;
inline constexpr int kMaxLoopDepth = 4;
inline constexpr int kLoopBuffer = 64;     ///< instructions in a loop body

enum class Engine : uint8_t { kLoad, kStore, kMatrix, kVector, kControl };
enum class Space : uint8_t { kDram, kScratchpad, kAccumulator, kFill };
/// Element types of vector streams. f4e2m1 takes a byte per element.
enum class StreamType : uint8_t { kF32, kBF16, kF16, kI8, kU8, kI32, kF8E4M3, kF8E5M2, kNone, kF8E4M3FNUZ, kF8E5M2FNUZ, kF8E8M0, kF4E2M1, kI16, kU16 };
enum class Init : uint8_t { kZero, kKeep, kBias };
enum class Reduce : uint8_t { kNone, kSum, kMax, kMin };

using Waits = std::array<uint8_t, kEngines>;
inline constexpr Waits kNoWaits = {kNoWait, kNoWait, kNoWait, kNoWait};

/// Operations of VX micro-programs. Operands: see MicroOp.
enum class Micro : uint8_t {
  kMove, kAdd, kSub, kMul, kFma, kMax, kMin, kAbs, kNeg, kFloor, kCeil, kRound, kRelu, kLess, kLessEqual, kEqual, kSelect, kSign,
  kExp2, kReciprocal, kRsqrt, kLog2, kExp, kLog, kSqrt, kDivide, kTanh, kSigmoid, kErf, kPower, kExp2Shifted
};
inline constexpr int kMicroCount = 31;

/// Facts about one micro-operation; every model reads them here.
struct MicroInfo {
  const char* name;
  int operands;
  int slots;       ///< issue slots
  int table_ops;   ///< function-table look-ups
  const char* meaning;
};
const MicroInfo& micro_info(Micro op);

/// One micro-operation: dst = op(a, b, c). Operand numbers: 0..7 registers, 8..10 input streams, 11 the reduced value,
/// 16..23 constants.
struct MicroOp {
  Micro op = Micro::kMove;
  uint8_t dst = 0, a = 0, b = 0, c = 0;
  bool operator==(const MicroOp&) const = default;
  static constexpr int kBits = 24;
};
inline constexpr int kOperandStream = 8, kOperandReduced = 11, kOperandConstant = 16;

// ---- control ----
struct Nop {
  static constexpr const char* kName = "nop";
  static constexpr const char* kHelp = "Does nothing.";
  static constexpr auto fields = std::tuple{};
  bool operator==(const Nop&) const = default;
};
struct End {
  static constexpr const char* kName = "end";
  static constexpr const char* kHelp = "Ends the program; it retires when all engines are idle.";
  static constexpr auto fields = std::tuple{};
  bool operator==(const End&) const = default;
};
struct SetReg {
  uint8_t rd = 0;
  int64_t imm = 0;
  static constexpr const char* kName = "set";
  static constexpr const char* kHelp = "rd = imm.";
  static constexpr auto fields = std::tuple{Field{"rd", 5, &SetReg::rd, "destination register"}, Field{"imm", 48, &SetReg::imm, "value"}};
  bool operator==(const SetReg&) const = default;
};
struct AddReg {
  uint8_t rd = 0, ra = 0, rb = 0;
  int64_t imm = 0;
  static constexpr const char* kName = "add";
  static constexpr const char* kHelp = "rd = ra + rb + imm.";
  static constexpr auto fields = std::tuple{Field{"rd", 5, &AddReg::rd, "destination register"}, Field{"ra", 5, &AddReg::ra, "addend"},
                                            Field{"rb", 5, &AddReg::rb, "addend"}, Field{"imm", 48, &AddReg::imm, "addend"}};
  bool operator==(const AddReg&) const = default;
};
struct MulReg {
  uint8_t rd = 0, ra = 0;
  int64_t imm = 0;
  static constexpr const char* kName = "mul";
  static constexpr const char* kHelp = "rd = ra x imm.";
  static constexpr auto fields = std::tuple{Field{"rd", 5, &MulReg::rd, "destination register"}, Field{"ra", 5, &MulReg::ra, "factor"}, Field{"imm", 48, &MulReg::imm, "factor"}};
  bool operator==(const MulReg&) const = default;
};
struct MinReg {
  uint8_t rd = 0, ra = 0, rb = 0;
  static constexpr const char* kName = "min";
  static constexpr const char* kHelp = "rd = min(ra, rb).";
  static constexpr auto fields = std::tuple{Field{"rd", 5, &MinReg::rd, "destination register"}, Field{"ra", 5, &MinReg::ra, ""}, Field{"rb", 5, &MinReg::rb, ""}};
  bool operator==(const MinReg&) const = default;
};
struct DivUpReg {
  uint8_t rd = 0, ra = 0;
  int64_t imm = 1;
  static constexpr const char* kName = "divup";
  static constexpr const char* kHelp = "rd = ceil(ra / imm); imm > 0.";
  static constexpr auto fields = std::tuple{Field{"rd", 5, &DivUpReg::rd, "destination register"}, Field{"ra", 5, &DivUpReg::ra, "dividend"}, Field{"imm", 48, &DivUpReg::imm, "divisor"}};
  bool operator==(const DivUpReg&) const = default;
};
struct RingAddReg {
  uint8_t rd = 0;
  int64_t step = 0, base = 0, size = 1;
  static constexpr const char* kName = "ringadd";
  static constexpr const char* kHelp = "rd = base + ((rd - base + step) mod size): a pointer inside a ring buffer.";
  static constexpr auto fields = std::tuple{Field{"rd", 5, &RingAddReg::rd, "pointer register"}, Field{"step", 40, &RingAddReg::step, "bytes"},
                                            Field{"base", 40, &RingAddReg::base, "first byte of the ring"}, Field{"size", 40, &RingAddReg::size, "bytes of the ring"}};
  bool operator==(const RingAddReg&) const = default;
};
struct LoadReg {
  uint8_t rd = 0;
  uint64_t address = 0;
  static constexpr const char* kName = "loadreg";
  static constexpr const char* kHelp = "rd = the 64-bit little-endian integer at a DRAM address that no engine writes.";
  static constexpr auto fields = std::tuple{Field{"rd", 5, &LoadReg::rd, "destination register"}, Field{"address", 40, &LoadReg::address, "DRAM byte address"}};
  bool operator==(const LoadReg&) const = default;
};
struct Loop {
  uint8_t body = 0, count_reg = 0;
  uint32_t count = 0;
  static constexpr const char* kName = "loop";
  static constexpr const char* kHelp = "Repeats the next `body` instructions count_reg + count times (0 skips them). Four deep.";
  static constexpr auto fields = std::tuple{Field{"body", 7, &Loop::body, "instructions in the body, 1..64"}, Field{"count_reg", 5, &Loop::count_reg, "register added to count"},
                                            Field{"count", 32, &Loop::count, "trips"}};
  bool operator==(const Loop&) const = default;
};

// ---- descriptors: written through the engine's own queue ----
struct CopyDesc {
  Engine engine = Engine::kLoad;
  uint8_t index = 0, element_bytes = 1;
  std::array<uint32_t, kCopyDims> extents = {1, 1, 1, 1, 1};
  std::array<int64_t, kCopyDims> src_strides{}, dst_strides{};
  static constexpr const char* kName = "copydesc";
  static constexpr const char* kHelp = "Geometry of copies: a loop nest of up to five dimensions, outermost first, strides in bytes.";
  static constexpr auto fields =
      std::tuple{Field{"engine", 3, &CopyDesc::engine, "ld or st"}, Field{"index", 3, &CopyDesc::index, "descriptor"},
                 Field{"element_bytes", 4, &CopyDesc::element_bytes, "1, 2, 4 or 8"}, Field{"extents", 24, &CopyDesc::extents, "loop extents"},
                 Field{"src_strides", 36, &CopyDesc::src_strides, "bytes"}, Field{"dst_strides", 36, &CopyDesc::dst_strides, "bytes"}};
  bool operator==(const CopyDesc&) const = default;
};
struct MatrixDesc {
  uint8_t index = 0, format = 0;   ///< format: MacFormat
  uint8_t a_signed = 0, b_signed = 1, depthwise = 0, multiplier = 1;
  int16_t a_zero = 0, b_zero = 0;
  uint16_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  uint32_t channels = 1;
  uint32_t a_row_pitch = 0, a_pixel_pitch = 0, a_channel_pitch = 1, in_columns = 1;
  uint32_t b_tile_pitch = 0, b_row_pitch = 0, b_column_pitch = 1;
  static constexpr const char* kName = "matrixdesc";
  static constexpr const char* kHelp =
      "Geometry of contractions. A(r, c, ch) = a + r a_row_pitch + c a_pixel_pitch + ch a_channel_pitch; "
      "B(k, n) = b + (n / C) b_tile_pitch + k b_row_pitch + (n mod C) b_column_pitch; k = (kh, kw, channel).";
  static constexpr auto fields = std::tuple{
      Field{"index", 3, &MatrixDesc::index, "descriptor"}, Field{"format", 2, &MatrixDesc::format, "0 int8, 1 bf16, 2 fp16, 3 fp32"},
      Field{"a_signed", 1, &MatrixDesc::a_signed, "A is int8"}, Field{"b_signed", 1, &MatrixDesc::b_signed, "B is int8"},
      Field{"depthwise", 1, &MatrixDesc::depthwise, "output channel n uses input channel n / multiplier"},
      Field{"multiplier", 8, &MatrixDesc::multiplier, "depthwise outputs per input channel"},
      Field{"a_zero", 10, &MatrixDesc::a_zero, "subtracted from A"}, Field{"b_zero", 10, &MatrixDesc::b_zero, "subtracted from B"},
      Field{"kernel_h", 16, &MatrixDesc::kernel_h, "taps"}, Field{"kernel_w", 16, &MatrixDesc::kernel_w, "taps"},
      Field{"stride_h", 16, &MatrixDesc::stride_h, "rows"}, Field{"stride_w", 16, &MatrixDesc::stride_w, "columns"},
      Field{"dilation_h", 16, &MatrixDesc::dilation_h, "rows"}, Field{"dilation_w", 16, &MatrixDesc::dilation_w, "columns"},
      Field{"channels", 24, &MatrixDesc::channels, "contracted channels per tap"}, Field{"a_row_pitch", 28, &MatrixDesc::a_row_pitch, "bytes"},
      Field{"a_pixel_pitch", 28, &MatrixDesc::a_pixel_pitch, "bytes"}, Field{"a_channel_pitch", 28, &MatrixDesc::a_channel_pitch, "bytes"},
      Field{"in_columns", 24, &MatrixDesc::in_columns, "columns of the image; outside reads as a_zero"},
      Field{"b_tile_pitch", 28, &MatrixDesc::b_tile_pitch, "bytes"}, Field{"b_row_pitch", 28, &MatrixDesc::b_row_pitch, "bytes"},
      Field{"b_column_pitch", 28, &MatrixDesc::b_column_pitch, "bytes"}};
  bool operator==(const MatrixDesc&) const = default;
};
struct VectorDesc {
  uint8_t index = 0, reduced = 0;
  std::array<StreamType, kVectorInputs + 1> types = {StreamType::kNone, StreamType::kNone, StreamType::kNone, StreamType::kF32};
  std::array<uint32_t, kVectorDims> extents = {1, 1, 1, 1, 1, 1};
  std::array<int32_t, kVectorDims> strides0{}, strides1{}, strides2{}, out_strides{};
  std::array<int16_t, kVectorDims> guard_h{}, guard_w{};
  uint32_t guard_h_limit = 0, guard_w_limit = 0, guard_h_pitch = 0, guard_w_pitch = 0;
  static constexpr const char* kName = "vectordesc";
  static constexpr const char* kHelp =
      "Geometry of vector instructions: up to six loop dimensions, outermost first, the last `reduced` ones reduced; strides in bytes per stream "
      "(the accumulator's in elements x 4). Stream 0 may be guarded: row = guard_h_origin + sum(index x guard_h), column alike; it reads the fill constant where one is outside [0, limit), and "
      "otherwise at its address + row guard_h_pitch + column guard_w_pitch + sum(index x strides0).";
  static constexpr auto fields = std::tuple{
      Field{"index", 3, &VectorDesc::index, "descriptor"}, Field{"reduced", 3, &VectorDesc::reduced, "trailing dimensions reduced"},
      Field{"types", 4, &VectorDesc::types, "three inputs, then the output"}, Field{"extents", 24, &VectorDesc::extents, "loop extents"},
      Field{"strides0", 30, &VectorDesc::strides0, "bytes, input 0"}, Field{"strides1", 30, &VectorDesc::strides1, "bytes, input 1"},
      Field{"strides2", 30, &VectorDesc::strides2, "bytes, input 2"}, Field{"out_strides", 30, &VectorDesc::out_strides, "bytes, output"},
      Field{"guard_h", 12, &VectorDesc::guard_h, "row step per dimension"}, Field{"guard_w", 12, &VectorDesc::guard_w, "column step per dimension"},
      Field{"guard_h_limit", 20, &VectorDesc::guard_h_limit, "rows; 0: no guard"}, Field{"guard_w_limit", 20, &VectorDesc::guard_w_limit, "columns"},
      Field{"guard_h_pitch", 28, &VectorDesc::guard_h_pitch, "bytes per row"}, Field{"guard_w_pitch", 28, &VectorDesc::guard_w_pitch, "bytes per column"}};
  bool operator==(const VectorDesc&) const = default;
};
struct VectorProgram {
  uint8_t index = 0, pre_count = 0, post_count = 0;
  Reduce reduce = Reduce::kNone;
  std::array<int16_t, kVectorInputs> in_zero{};
  int16_t out_zero = 0, out_lo = 0, out_hi = 0;
  float fill = 0;
  std::array<MicroOp, kMicroOps> ops{};
  std::array<float, kMicroConstants> constants{};
  static constexpr const char* kName = "vectorprogram";
  static constexpr const char* kHelp =
      "A micro-program: pre_count operations per element, the reduction of the last one's result, then post_count operations. The result of the last "
      "operation is stored; 8-bit outputs are clamp(RNE(v) + out_zero, out_lo, out_hi).";
  static constexpr auto fields = std::tuple{
      Field{"index", 3, &VectorProgram::index, "program slot"}, Field{"pre_count", 5, &VectorProgram::pre_count, "operations before the reduction"},
      Field{"post_count", 5, &VectorProgram::post_count, "operations after it"}, Field{"reduce", 2, &VectorProgram::reduce, "none, sum, max, min"},
      Field{"in_zero", 10, &VectorProgram::in_zero, "subtracted from 8-bit inputs"}, Field{"out_zero", 10, &VectorProgram::out_zero, "added to 8-bit outputs"},
      Field{"out_lo", 10, &VectorProgram::out_lo, "least 8-bit output"}, Field{"out_hi", 10, &VectorProgram::out_hi, "greatest 8-bit output"},
      Field{"fill", 32, &VectorProgram::fill, "guarded value, before micro-operations"}, Field{"ops", MicroOp::kBits, &VectorProgram::ops, "op:dst:a:b:c"},
      Field{"constants", 32, &VectorProgram::constants, "fp32"}};
  bool operator==(const VectorProgram&) const = default;
};

// ---- engine work ----
/// A scratchpad (24 bits) or DRAM (40 bits) address is register + immediate, resolved at dispatch.
template <int kTag>
struct CopyInstruction {
  uint8_t desc = 0;
  Waits wait = kNoWaits;
  uint32_t locks = 0;
  Space src = Space::kDram, dst = Space::kScratchpad;
  uint8_t src_reg = 0, dst_reg = 0;
  uint64_t src_imm = 0, dst_imm = 0;
  static constexpr const char* kName = kTag == 0 ? "load" : "store";
  static constexpr const char* kHelp = kTag == 0 ? "LD: copies from DRAM or scratchpad. With src = fill, src_imm's low bytes are the element written everywhere."
                                                 : "ST: copies from scratchpad; retires when the data is visible at its target.";
  static constexpr auto fields = std::tuple{
      Field{"desc", 3, &CopyInstruction::desc, "copy descriptor"}, Field{"wait", 5, &CopyInstruction::wait, "distances to LD, ST, MX, VX"},
      Field{"locks", 18, &CopyInstruction::locks, "lock groups, one bit each"}, Field{"src", 2, &CopyInstruction::src, "space"},
      Field{"dst", 2, &CopyInstruction::dst, "space"}, Field{"src_reg", 5, &CopyInstruction::src_reg, "base register"},
      Field{"dst_reg", 5, &CopyInstruction::dst_reg, "base register"}, Field{"src_imm", 64, &CopyInstruction::src_imm, "byte address"},
      Field{"dst_imm", 40, &CopyInstruction::dst_imm, "byte address"}};
  bool operator==(const CopyInstruction&) const = default;
};
using Load = CopyInstruction<0>;
using Store = CopyInstruction<1>;

struct Matrix {
  uint8_t desc = 0;
  Waits wait = kNoWaits;
  uint32_t locks = 0;
  Init init = Init::kZero;
  uint8_t a_reg = 0, b_reg = 0, bias_reg = 0;
  uint32_t a_imm = 0, b_imm = 0, bias_imm = 0, acc = 0;
  uint16_t out_rows = 1, out_columns = 1, n = 1;
  uint32_t in_rows = 1;
  int32_t row_origin = 0, column_origin = 0;
  static constexpr const char* kName = "matrix";
  static constexpr const char* kHelp =
      "MX: a block of M = out_rows x out_columns pixels by n columns. Output (r, c) reads image row r stride_h + kh dilation_h + row_origin, and columns alike. "
      "Accumulators lie at acc + [n / C][M][C].";
  static constexpr auto fields = std::tuple{
      Field{"desc", 3, &Matrix::desc, "matrix descriptor"}, Field{"wait", 5, &Matrix::wait, "distances to LD, ST, MX, VX"}, Field{"locks", 18, &Matrix::locks, "lock groups"},
      Field{"init", 2, &Matrix::init, "accumulators start from zero, their value, or the bias vector"}, Field{"a_reg", 5, &Matrix::a_reg, "base register"},
      Field{"b_reg", 5, &Matrix::b_reg, "base register"}, Field{"bias_reg", 5, &Matrix::bias_reg, "base register"}, Field{"a_imm", 24, &Matrix::a_imm, "scratchpad address"},
      Field{"b_imm", 24, &Matrix::b_imm, "scratchpad address"}, Field{"bias_imm", 24, &Matrix::bias_imm, "scratchpad address of 32-bit biases"},
      Field{"acc", 20, &Matrix::acc, "first accumulator element"}, Field{"out_rows", 14, &Matrix::out_rows, ""}, Field{"out_columns", 14, &Matrix::out_columns, ""},
      Field{"n", 14, &Matrix::n, "output channels"}, Field{"in_rows", 18, &Matrix::in_rows, "rows of the image; outside reads as a_zero"},
      Field{"row_origin", 18, &Matrix::row_origin, ""}, Field{"column_origin", 18, &Matrix::column_origin, ""}};
  bool operator==(const Matrix&) const = default;
};
struct Vector {
  uint8_t desc = 0, program = 0;
  Waits wait = kNoWaits;
  uint32_t locks = 0;
  std::array<Space, kVectorInputs + 1> spaces = {Space::kScratchpad, Space::kScratchpad, Space::kScratchpad, Space::kScratchpad};
  std::array<uint8_t, kVectorInputs + 1> regs{};
  std::array<uint32_t, kVectorInputs + 1> imms{};
  int32_t guard_h_origin = 0, guard_w_origin = 0;
  static constexpr const char* kName = "vector";
  static constexpr const char* kHelp = "VX: runs a micro-program over a loop nest. Accumulator addresses are elements x 4.";
  static constexpr auto fields = std::tuple{
      Field{"desc", 3, &Vector::desc, "vector descriptor"}, Field{"program", 3, &Vector::program, "micro-program"}, Field{"wait", 5, &Vector::wait, "distances to LD, ST, MX, VX"},
      Field{"locks", 18, &Vector::locks, "lock groups"}, Field{"spaces", 2, &Vector::spaces, "three inputs, then the output"}, Field{"regs", 5, &Vector::regs, "base registers"},
      Field{"imms", 24, &Vector::imms, "byte addresses"}, Field{"guard_h_origin", 18, &Vector::guard_h_origin, ""}, Field{"guard_w_origin", 18, &Vector::guard_w_origin, ""}};
  bool operator==(const Vector&) const = default;
};

/// Weights of few bits become the floats that MX reads, on their way from DRAM to the scratchpad.
struct Dequantize {
  Waits wait = kNoWaits;
  uint32_t locks = 0;
  uint8_t src_reg = 0, dst_reg = 0, bits = 4, half_scales = 0, to = 1;  ///< to: MacFormat
  uint16_t columns = 1, rows = 1;
  uint32_t records = 1;
  uint64_t src_imm = 0, dst_imm = 0;
  static constexpr const char* kName = "dequantize";
  static constexpr const char* kHelp =
      "LD: each record of the source, in DRAM, is `columns` scales, then `columns` zero points, then rows x columns codes; zero points and codes have `bits` bits, "
      "packed from the low end. Element (r, c) = fl32((code - zero[c]) scale[c]), rounded to `to`. Records follow each other on both sides.";
  static constexpr auto fields = std::tuple{
      Field{"wait", 5, &Dequantize::wait, "distances to LD, ST, MX, VX"}, Field{"locks", 18, &Dequantize::locks, "lock groups, one bit each"},
      Field{"src_reg", 5, &Dequantize::src_reg, "base register"}, Field{"dst_reg", 5, &Dequantize::dst_reg, "base register"},
      Field{"bits", 4, &Dequantize::bits, "2, 4 or 8; columns x bits is a multiple of 8"}, Field{"half_scales", 1, &Dequantize::half_scales, "scales are fp16, not fp32"},
      Field{"to", 2, &Dequantize::to, "1 bf16, 2 fp16, 3 fp32"}, Field{"columns", 16, &Dequantize::columns, "columns of a record"}, Field{"rows", 16, &Dequantize::rows, "rows of a record, which share scales"},
      Field{"records", 24, &Dequantize::records, ""}, Field{"src_imm", 40, &Dequantize::src_imm, "DRAM byte address"}, Field{"dst_imm", 24, &Dequantize::dst_imm, "scratchpad byte address"}};
  bool operator==(const Dequantize&) const = default;
};

/// The instruction list; the position is the opcode.
using Instruction = std::variant<Nop, End, SetReg, AddReg, MulReg, MinReg, DivUpReg, RingAddReg, LoadReg, Loop, CopyDesc, MatrixDesc, VectorDesc, VectorProgram, Load, Store,
                                 Matrix, Vector, Dequantize>;

/// The engine whose queue an instruction enters (kControl: executed by CT at dispatch).
Engine engine_of(const Instruction& instruction);
const char* name_of(const Instruction& instruction);
/// Bytes of a stream element; accumulators count as their 32-bit type.
int bytes_of(StreamType type);
const char* to_string(Engine engine);

}  // namespace systole::isa
