// What quantised contractions share: reading scales and zero points, and the requantising drain.
#pragma once
#include "ops/lowering.h"

namespace systole {

/// Scale and zero point of one tensor; `scales` has one entry, or one per channel.
struct Quantization {
  std::vector<float> scales;
  int64_t zero_point = 0;
  DType type = DType::kU8;  ///< of the quantised tensor
};

/// Reads scale input k and zero-point input k + 1 of `node`; both must be constant. Per-channel zero points must be equal.
Quantization read_quantization(const Lowering& l, const Node& node, size_t scale_input);

/// Drains int32 accumulators [N, H, W, C]: q = clamp(RNE(acc * scale[c]) + zp, lo, hi), or acc * scale[c] as float when
/// `to` is null. combined[c] = fl(fl(sx * sw[c]) / sy), or fl(sx * sw[c]).
ValueId drain_quantized(Lowering& l, const std::string& name, ValueId accumulators, const Quantization& x, const Quantization& w, const Quantization* to, int64_t lo, int64_t hi);

/// The same for a node whose input `scale_input`, if it is there, is its output's scale, and the next one its zero point.
ValueId drain_to_output(Lowering& l, const Node& node, ValueId accumulators, const Quantization& x, const Quantization& w, size_t scale_input);

/// Least and greatest value of the type, tightened by the node's optional clamp_lo / clamp_hi attributes.
std::pair<int64_t, int64_t> clamp_range(const Node& node, DType type);

/// Drains int32 accumulators of sum x (w - zw) as sum (x - zx)(w - zw) for a zero point zx that is computed at run time (or
/// absent): acc - zx sums, where `sums` [.., C] holds the weights' sums (over the taps inside the input). Its type is int32
/// where fp32 holds every result, and fp32 where all readers cast to float anyway; otherwise unsupported.
ValueId drain_integers(Lowering& l, const Node& node, ValueId accumulators, ValueId zero, const Tensor& sums, double greatest);

/// Refuses weights whose sum over one output, 255 x sum |w - zero| + |bias|, could reach 2^31. `axis` runs over outputs.
void check_accumulator_range(const Node& node, const Tensor& weights, size_t axis, int64_t weight_zero, const Tensor* bias);

}  // namespace systole
