#include "ops/quantized.h"

#include <algorithm>
#include <cmath>

#include "numerics/requantize.h"

namespace systole {

Quantization read_quantization(const Lowering& l, const Node& node, size_t scale_input) {
  Quantization q;
  q.scales = l.need_constant(node, scale_input, "scale")->to_floats();
  for (float s : q.scales) {
    if (!(s > 0) || !std::isfinite(s)) Lowering::malformed(node, "scale " + std::to_string(s), "a positive, finite scale");
  }
  if (q.scales.empty()) Lowering::malformed(node, "an empty scale", "one scale, or one per channel");
  if (Lowering::present(node, scale_input + 1)) {
    const TensorPtr zp = l.need_constant(node, scale_input + 1, "zero point");
    q.type = zp->type;
    const auto values = zp->to_ints();
    if (!values.empty()) q.zero_point = values[0];
    for (int64_t v : values) {
      if (v != q.zero_point) Lowering::unsupported(node, "zero points differ between channels");
    }
  }
  return q;
}

ValueId drain_quantized(Lowering& l, const std::string& name, ValueId accumulators, const Quantization& x, const Quantization& w, const Quantization* to, int64_t lo, int64_t hi) {
  const Shape shape = l.out.value(accumulators).shape;
  std::vector<float> combined;
  for (float sw : w.scales) combined.push_back(to ? requantize_scale(x.scales[0], sw, to->scales[0]) : x.scales[0] * sw);
  MapBuilder m(l, name, shape);
  const Operand acc = m.input(accumulators, direct_access(4));
  Operand scale = Operand::value(combined[0]);
  if (combined.size() > 1) {
    const int64_t n = static_cast<int64_t>(combined.size());
    scale = m.input(l.add_constant(name + ".scale", Tensor::from_floats(combined, {n})), Access{{{0, {{3, 1}}}}, false, 0});
  }
  m.op(isa::Micro::kMul, {acc, scale});
  return to ? m.finish_quantized(to->type, to->zero_point, lo, hi) : m.finish(DType::kF32);
}

std::pair<int64_t, int64_t> clamp_range(const Node& node, DType type) {
  const auto& op = std::get<OnnxOp>(node.op);
  const IntegerKind kind = integer_kind(type);
  const int64_t lo = kind.is_signed ? -(int64_t{1} << (kind.bits - 1)) : 0, hi = (int64_t{1} << (kind.bits - (kind.is_signed ? 1 : 0))) - 1;
  return {std::max(lo, op.integer("clamp_lo", lo)), std::min(hi, op.integer("clamp_hi", hi))};
}

void check_accumulator_range(const Node& node, const Tensor& weights, size_t axis, int64_t weight_zero, const Tensor* bias) {
  const int64_t outputs = weights.shape[axis], inner = row_major_strides(weights.shape)[axis];
  std::vector<int64_t> sums(static_cast<size_t>(outputs), 0);
  for (int64_t i = 0; i < weights.count(); ++i) sums[static_cast<size_t>(i / inner % outputs)] += std::abs(weights.int_at(i) - weight_zero);
  for (int64_t c = 0; c < outputs; ++c) {
    const int64_t largest = 255 * sums[static_cast<size_t>(c)] + (bias && bias->count() == outputs ? std::abs(bias->int_at(c)) : 0);
    if (largest >= (int64_t{1} << 31)) {
      Lowering::unsupported(node, "output channel " + std::to_string(c) + " could overflow the 32-bit accumulator (up to " + std::to_string(largest) + ")");
    }
  }
}

}  // namespace systole
