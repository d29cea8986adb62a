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

ValueId drain_to_output(Lowering& l, const Node& node, ValueId accumulators, const Quantization& x, const Quantization& w, size_t scale_input) {
  if (!Lowering::present(node, scale_input)) return drain_quantized(l, node.name, accumulators, x, w, nullptr, 0, 0);
  const Quantization y = read_quantization(l, node, scale_input);
  const auto [lo, hi] = clamp_range(node, y.type);
  return drain_quantized(l, node.name, accumulators, x, w, &y, lo, hi);
}

namespace {
/// Every reader of output 0 is a Cast to a float type.
bool only_cast_to_float(const Lowering& l, const Node& node) {
  bool any = false;
  for (const Node& n : l.source.nodes) {
    for (ValueId v : n.inputs) {
      if (v != node.outputs[0]) continue;
      const auto* op = std::get_if<OnnxOp>(&n.op);
      if (!op || op->type != "Cast" || !is_float(static_cast<DType>(op->integer("systole_to", 0)))) return false;
      any = true;
    }
  }
  return any && !std::count(l.source.outputs.begin(), l.source.outputs.end(), node.outputs[0]);
}
}  // namespace

ValueId drain_integers(Lowering& l, const Node& node, ValueId accumulators, ValueId zero, const Tensor& sums, double greatest) {
  const bool exact = greatest < 0x1p24, casts = only_cast_to_float(l, node);
  if (!exact && !casts) Lowering::unsupported(node, "int32 results beyond 2^24 that are not cast to float");
  const Shape shape = l.out.value(accumulators).shape;
  MapBuilder m(l, node.name, shape);
  const Operand acc = m.input(accumulators, direct_access(4));
  if (zero == kNoValue) {
    m.op(isa::Micro::kMove, {acc});
  } else {
    Access per_output;
    for (size_t d = 0; d < sums.shape.size(); ++d) per_output.index.push_back({0, {{static_cast<int>(4 - sums.shape.size() + d), 1}}});
    const Operand z = m.input(zero, Access{std::vector<IndexExpr>(l.out.value(zero).shape.size()), false, 0});
    m.op(isa::Micro::kSub, {acc, m.op(isa::Micro::kMul, {z, m.input(l.add_constant(node.name + ".sums", sums), per_output)})});
  }
  return m.finish(casts ? DType::kF32 : DType::kI32);
}

std::pair<int64_t, int64_t> clamp_range(const Node& node, DType type) {
  const auto& op = std::get<OnnxOp>(node.op);
  const IntegerKind kind = integer_kind(type);
  const int64_t lo = kind.is_signed ? -(int64_t{1} << (kind.bits - 1)) : 0, hi = (int64_t{1} << (kind.bits - (kind.is_signed ? 1 : 0))) - 1;
  return {std::max(lo, op.integer("clamp_lo", lo)), std::min(hi, op.integer("clamp_hi", hi))};
}

void check_accumulator_range(const Node& node, const Tensor& weights, size_t axis, int64_t weight_zero, const Tensor* bias) {
  const int64_t outputs = weights.shape[axis], inner = row_major_strides(weights.shape)[axis], count = weights.count(), outer = outputs * inner > 0 ? count / (outputs * inner) : 0;
  std::vector<int64_t> sums(static_cast<size_t>(outputs), 0);
  // Millions of weights: the usual type without a switch for each.
  const int8_t* bytes = weights.type == DType::kI8 ? reinterpret_cast<const int8_t*>(weights.bytes.data()) : nullptr;
  for (int64_t i = 0, o = 0; o < outer; ++o) {
    for (int64_t c = 0; c < outputs; ++c) {
      int64_t sum = 0;
      for (int64_t k = 0; k < inner; ++k, ++i) sum += std::abs((bytes ? int64_t{bytes[i]} : weights.int_at(i)) - weight_zero);
      sums[static_cast<size_t>(c)] += sum;
    }
  }
  for (int64_t c = 0; c < outputs; ++c) {
    const int64_t largest = 255 * sums[static_cast<size_t>(c)] + (bias && bias->count() == outputs ? std::abs(bias->int_at(c)) : 0);
    if (largest >= (int64_t{1} << 31)) {
      Lowering::unsupported(node, "output channel " + std::to_string(c) + " could overflow the 32-bit accumulator (up to " + std::to_string(largest) + ")");
    }
  }
}

}  // namespace systole
