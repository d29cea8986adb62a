// A compiled program and its `.npu` file: code, constants, tensors at the boundary, and what reports need to know.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "isa/instruction.h"
#include "numerics/dtype.h"

namespace systole::isa {

/// An input or output in DRAM, dense row-major in the model's own axis order.
struct BoundaryTensor {
  std::string name;
  DType type = DType::kF32;
  Shape shape;
  uint64_t address = 0;
  uint64_t bytes() const { return static_cast<uint64_t>(element_count(shape) * bytes_of(type)); }
};

/// One layer of the report: a primitive of the lowered graph.
struct Layer {
  std::string name, kind;
  int64_t macs = 0;
  int64_t ideal_mx_cycles = 0;   ///< macs on the full array in this format
};

/// Layers [from, to) of a program, `blocks` that are alike, stand for `left_out` more like them: of such a program only the cost is asked.
struct StandIn {
  uint32_t from, to;
  int64_t blocks, left_out;
};

/// Fails (kBadInput) on a batch of less than one sample, or of more than 65536.
void check_batch(const std::string& where, int64_t batch);

struct Program {
  std::string model, precision, machine_name;
  uint64_t machine_hash = 0;
  std::vector<Instruction> code;
  std::vector<uint32_t> layer_of;        ///< per instruction, index into layers
  Bytes constants;                       ///< DRAM image from constants_address on
  uint64_t constants_address = 0;
  uint64_t dram_bytes = 0;               ///< DRAM used, constants included
  std::vector<BoundaryTensor> inputs, outputs;
  std::vector<Layer> layers;
  int64_t batch = 1;                     ///< samples of one execution
  int64_t weights_bytes = 0, scratchpad_peak_bytes = 0, compulsory_dram_bytes = 0;
};

std::vector<uint8_t> serialise(const Program& program);
/// The file without its last part, the constants.
std::vector<uint8_t> serialise_before_constants(const Program& program);
/// Rejects, with the place, any file that is truncated, oversized, inconsistent or of another version.
/// The program shares the constants with `bytes`.
Program deserialise(const Bytes& bytes, const std::string& where);

/// Text form: a .program line (the header as JSON), assembly, and .data lines; parses back to the same program.
std::string print_program(const Program& program);
Program parse_program(const std::string& text, const std::string& source);

}  // namespace systole::isa
