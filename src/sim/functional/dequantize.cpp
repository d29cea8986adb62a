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

void dequantize_record(const isa::DequantizeOp& op, const uint8_t* from, uint8_t* to) {
  const isa::WeightRecord& r = op.record;
  const uint8_t *zeros = from + r.zeros_offset(), *codes = from + r.codes_offset();
  for (int64_t c = 0; c < r.columns; ++c) {
    float scale;
    uint16_t half;
    if (r.scale_bytes == 4) std::memcpy(&scale, from + 4 * c, 4);
    else std::memcpy(&half, from + 2 * c, 2), scale = f16_to_f32(half);
    const int64_t zero = packed_at(zeros, c, r.bits);
    for (int64_t row = 0; row < r.rows; ++row) {
      const int64_t i = row * r.columns + c;
      store(dequantize(packed_at(codes, i, r.bits), zero, scale), static_cast<MacFormat>(op.to), to + i * op.element_bytes);
    }
  }
}

}  // namespace

void dequantize_records(const isa::DequantizeOp& op, const uint8_t* from, uint8_t* to, int64_t begin, int64_t end) {
  const int64_t made = op.record.rows * op.record.columns * op.element_bytes;
  for (int64_t i = begin; i < end; ++i) dequantize_record(op, from + i * op.record.bytes(), to + i * made);
}

void execute_dequantize(Memory& memory, const isa::DequantizeOp& op) { dequantize_records(op, memory.dram.data() + op.src_address, memory.scratchpad.data() + op.dst_address, 0, op.records); }

}  // namespace systole
