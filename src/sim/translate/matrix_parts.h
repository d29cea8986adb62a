// Pieces the matrix kernels share: accumulators in the machine's order, operands as bf16 parts.
#pragma once
#include <cstring>
#include <vector>

#include "machine/cost.h"
#include "numerics/dot32.h"
#include "sim/translate/host.h"

namespace systole {

inline int parts_of(MacFormat f) { return f == MacFormat::kF32 ? 3 : f == MacFormat::kF16 ? 2 : 1; }
inline const Pass* passes_in(MacFormat f) { return f == MacFormat::kF32 ? kPassesF32 : f == MacFormat::kF16 ? kPassesF16 : kPassesBF16; }

/// Part `q` of the operand at `at`, as fp32 with bf16's significand.
inline float operand_part(MacFormat f, const uint8_t* at, int q) {
  if (f == MacFormat::kF32) {
    float v;
    std::memcpy(&v, at, 4);
    return bf16_part(v, q);
  }
  uint16_t v;
  std::memcpy(&v, at, 2);
  return f == MacFormat::kF16 ? f16_part(f16_to_f32(v), q) : bf16_to_f32(v);
}

/// The accumulators of one instruction: column o of pixel p lies at acc + (o / C x M + p) x C + o mod C.
class Accumulators {
 public:
  Accumulators(Memory& memory, const isa::MatrixOp& op, int64_t columns)
      : init_(op.init), base_(memory.sums() + op.acc), bias_(memory.scratchpad.data() + op.bias), columns_(columns), m_(int64_t{op.out_rows} * op.out_columns), n_(op.n), whole_vectors_(columns % 16 == 0) {
    for (int64_t o = 0; o < n_; o += 16) sixteens_.push_back(at(0, o) - base_);
  }

  isa::Init init() const { return init_; }
  /// Whether sums go on from what the accumulators hold.
  bool keeps() const { return init_ == isa::Init::kKeep; }
  /// Where sums start: the bias of columns from o, or null for zero.
  const uint8_t* bias(int64_t o) const { return init_ == isa::Init::kBias ? bias_ + 4 * o : nullptr; }
  int64_t pixels() const { return m_; }
  int64_t outputs() const { return n_; }
  uint32_t* at(int64_t p, int64_t o) const { return base_ + (o / columns_ * m_ + p) * columns_ + o % columns_; }
  /// Sixteen adjacent columns are adjacent in memory.
  bool whole_vectors() const { return whole_vectors_; }
  /// at(p, o) for o a multiple of 16, without divisions.
  uint32_t* sixteen(int64_t p, int64_t o) const { return base_ + sixteens_[static_cast<size_t>(o / 16)] + p * columns_; }

  /// Elements from a pixel's columns to the next one's.
  int64_t pixel_pitch() const { return columns_; }

 private:
  isa::Init init_;
  uint32_t* base_;
  const uint8_t* bias_;
  int64_t columns_, m_, n_;
  bool whole_vectors_;
  std::vector<int64_t> sixteens_;
};

}  // namespace systole
