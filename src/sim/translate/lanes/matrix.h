// The kernels of one instruction set, as kernels.cpp lists them, and what they share.
#pragma once
#include "sim/translate/kernel.h"
#include "sim/translate/lanes/kernels.h"
#include "sim/translate/lanes/lanes.h"
#include "sim/translate/matrix_parts.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {

void pack_integer_b(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out);
std::unique_ptr<Kernel> integer_matrix(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed, uint64_t a_version);
void pack_float_b(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out);
std::unique_ptr<Kernel> float_matrix(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed, uint64_t a_version);
void pack_depthwise_b(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out);
std::unique_ptr<Kernel> depthwise(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed);
VectorFunction vector_function(isa::Micro op);
VectorFunction divide_by();
void apply(VectorFunction f, const float* a, const float* b, float* r, int64_t n);

/// How many of the next sixteen are there.
inline int lanes_of(int64_t left) { return left >= 16 ? 16 : static_cast<int>(left); }

/// bf16_part of 16 values.
LANES_INLINE Floats part_of(Floats v, int q) {
  const Ints high = set_ints(static_cast<int32_t>(0xFFFF0000u)), infinity = set_ints(0x7F800000);
  for (int i = 0;; ++i) {
    const Ints top = both(as_ints(v), high);
    if (i == q) return as_floats(top);
    v = select(equal(both(top, infinity), infinity), set(0.0f), subtract(v, as_floats(top)));
  }
}
/// The first n of 16 operands as fp32.
LANES_INLINE Floats load_operands(MacFormat f, const uint8_t* from, int n) {
  if (f == MacFormat::kF32) return load_floats(from, n);
  if (f == MacFormat::kF16) return load_fp16(from, n);
  return as_floats(shift_left<16>(load_halves(from, n)));
}
LANES_INLINE Floats canonical(Floats v) { return select(unordered(v), as_floats(set_ints(static_cast<int32_t>(kCanonicalNaN))), v); }

/// Sixteen columns from o, those beyond n as zero.
LANES_INLINE Ints initial_sums(const Accumulators& acc, int64_t p, int64_t o) {
  const int n = lanes_of(acc.outputs() - o);
  if (acc.init() == isa::Init::kZero) return set_ints(0);
  if (acc.init() == isa::Init::kBias) return load_ints(acc.bias(o), n);
  if (acc.whole_vectors()) return load_ints(acc.sixteen(p, o), n);
  alignas(64) uint32_t v[16] = {};
  for (int i = 0; i < n; ++i) v[i] = *acc.at(p, o + i);
  return load_ints(v);
}
LANES_INLINE void store_sums(const Accumulators& acc, int64_t p, int64_t o, Ints value) {
  const int n = lanes_of(acc.outputs() - o);
  if (acc.whole_vectors()) return store(acc.sixteen(p, o), value, n);
  alignas(64) uint32_t v[16];
  store(v, value);
  for (int i = 0; i < n; ++i) *acc.at(p, o + i) = v[i];
}

/// Sixteen columns of a few adjacent pixels: where they lie, and what they start with, is found once for all. kWhole: all sixteen are there.
template <bool kWhole>
class ColumnSums {
 public:
  LANES_INLINE ColumnSums(const Accumulators& acc, int64_t first, int64_t o)
      : acc_(acc), first_(first), o_(o), n_(lanes_of(acc.outputs() - o)), whole_(acc.whole_vectors()), keeps_(acc.keeps()), at_(whole_ ? acc.sixteen(first, o) : nullptr), pitch_(acc.pixel_pitch()) {
    if (!keeps_) start_ = initial_sums(acc, first, o);
  }
  LANES_INLINE Ints start(int pixel) const {
    if (!keeps_) return start_;
    if (!whole_) return initial_sums(acc_, first_ + pixel, o_);
    return kWhole ? load_ints(at_ + pixel * pitch_) : load_ints(at_ + pixel * pitch_, n_);
  }
  LANES_INLINE void keep(int pixel, Ints sums) const {
    if (!whole_) return store_sums(acc_, first_ + pixel, o_, sums);
    kWhole ? store(at_ + pixel * pitch_, sums) : store(at_ + pixel * pitch_, sums, n_);
  }

 private:
  const Accumulators& acc_;
  int64_t first_, o_;
  int n_;
  bool whole_, keeps_;
  uint32_t* at_;
  int64_t pitch_;
  Ints start_;
};

}  // namespace systole::SYSTOLE_LANES
#endif
