#include <cstring>

#include "machine/cost.h"
#include "numerics/formats.h"
#include "numerics/requantize.h"
#include "sim/functional/executor.h"

namespace systole {
namespace {

/// Entry i of values of `bits` bits, packed from the low end.
int64_t packed_at(const uint8_t* from, int64_t i, int64_t bits) { return from[i * bits / 8] >> (i * bits % 8) & ((1 << bits) - 1); }

void store(float v, MacFormat to, uint8_t* at) {
  if (to == MacFormat::kF32) {
    v = canonical(v);
    std::memcpy(at, &v, 4);
  } else {
    const uint16_t narrow = to == MacFormat::kBF16 ? f32_to_bf16(v) : f32_to_f16(v);
    std::memcpy(at, &narrow, 2);
  }
}

}  // namespace

void dequantize_record(const isa::DequantizeOp& op, const uint8_t* from, uint8_t* to) {
  const uint8_t *zeros = from + op.columns * op.scale_bytes, *codes = zeros + op.columns * op.bits / 8;
  for (int64_t c = 0; c < op.columns; ++c) {
    float scale;
    uint16_t half;
    if (op.scale_bytes == 4) std::memcpy(&scale, from + 4 * c, 4);
    else std::memcpy(&half, from + 2 * c, 2), scale = f16_to_f32(half);
    const int64_t zero = packed_at(zeros, c, op.bits);
    for (int64_t r = 0; r < op.rows; ++r) {
      const int64_t i = r * op.columns + c;
      store(dequantize(packed_at(codes, i, op.bits), zero, scale), static_cast<MacFormat>(op.to), to + i * op.element_bytes);
    }
  }
}

void execute_dequantize(Memory& memory, const isa::DequantizeOp& op) {
  const uint8_t* from = memory.dram.data() + op.src_address;
  uint8_t* to = memory.scratchpad.data() + op.dst_address;
  for (int64_t i = 0; i < op.records; ++i) dequantize_record(op, from + i * op.record_bytes(), to + i * op.rows * op.columns * op.element_bytes);
}

}  // namespace systole
