// QuantizeLinear, DequantizeLinear (10, 13, 19, 21) and com.microsoft.QLinearAdd / QLinearMul: maps whose streams convert.
#include <cmath>

#include "numerics/formats.h"
#include "ops/expander.h"
#include "ops/operator.h"
#include "ops/quantized.h"

namespace systole {
namespace {

using isa::Micro;

/// The scale as an operand: a constant, or a vector along `axis` of the loops.
Operand scale_operand(Lowering& l, MapBuilder& m, const Node& node, std::vector<float> scales, const Shape& shape, const Perm& perm) {
  if (scales.size() == 1) return Operand::value(scales[0]);
  const auto& op = std::get<OnnxOp>(node.op);
  const int64_t axis = normalise_axis(node, op.integer("axis", 1), shape.size());
  const int64_t n = static_cast<int64_t>(scales.size());
  if (n != shape[static_cast<size_t>(axis)]) Lowering::unsupported(node, "scales in blocks along an axis");
  const int loop = invert(perm)[static_cast<size_t>(axis)];
  return m.input(l.add_constant(node.name + ".scale", Tensor::from_floats(scales, {n})), Access{{{0, {{loop, 1}}}}, false, 0});
}

/// x / scale in a format of 8 or 4 bits, saturated.
void quantize_narrow(Lowering& l, const Node& node, const Quantization& q) {
  const Shape shape = l.shape(node.inputs[0]);
  const auto x = l.best(node.inputs[0]);
  MapBuilder m(l, node.name, permute(shape, x.perm));
  const Operand v = m.op(Micro::kDivide, {m.input(x.id, direct_access(shape.size())), scale_operand(l, m, node, q.scales, shape, x.perm)});
  const float most = greatest_finite(q.type);
  m.op(Micro::kMin, {m.op(Micro::kMax, {v, Operand::value(-most)}), Operand::value(most)});
  l.define(node.outputs[0], shape, x.perm, m.finish(q.type));
}

/// q = sat(RNE(x / scale) + zero). After QDQ arithmetic (attribute by_reciprocal) x * fl(1 / scale), as ONNX Runtime does; and where floats are stored
/// in two bytes, whose rounding is coarser by far: a division takes six issue slots, the product one.
void lower_quantize(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const Quantization q = read_quantization(l, node, 1);
  if (is_narrow_float(q.type)) return quantize_narrow(l, node, q);
  if (!is_small_integer(q.type)) Lowering::unsupported(node, std::string("quantised type ") + to_string(q.type));
  const Shape shape = l.shape(node.inputs[0]);
  const auto x = l.best(node.inputs[0]);
  MapBuilder m(l, node.name, permute(shape, x.perm));
  const Operand v = m.input(x.id, direct_access(shape.size()));
  const float reciprocal = 1 / q.scales[0];
  if ((op.integer("by_reciprocal", 0) || l.policy.store != DType::kF32) && q.scales.size() == 1 && std::isnormal(reciprocal)) m.op(Micro::kMul, {v, Operand::value(reciprocal)});
  else m.op(Micro::kDivide, {v, scale_operand(l, m, node, q.scales, shape, x.perm)});
  if (bytes_of(q.type) == 2) {  // the store has no zero point of 16 bits
    m.op(Micro::kAdd, {m.op(Micro::kRound, {Operand::result(static_cast<int>(m.operations()) - 1)}), Operand::value(static_cast<float>(q.zero_point))});
    return l.define(node.outputs[0], shape, x.perm, m.finish(q.type));
  }
  const auto [lo, hi] = clamp_range(node, q.type);
  l.define(node.outputs[0], shape, x.perm, m.finish_quantized(q.type, q.zero_point, lo, hi));
}

/// y = (x - zero) * scale.
void lower_dequantize(Lowering& l, const Node& node) {
  Quantization q = read_quantization(l, node, 1);
  const Shape shape = l.shape(node.inputs[0]);
  const auto x = l.best(node.inputs[0]);
  const DType type = l.out.value(x.id).type;
  if (!is_small_integer(type) && !is_narrow_float(type) && type != DType::kI32) Lowering::unsupported(node, std::string("quantised type ") + to_string(type));
  MapBuilder m(l, node.name, permute(shape, x.perm));
  Access a = direct_access(shape.size());
  const bool apart = bytes_of(type) == 2;  // streams of 16 bits have no zero point
  a.zero_point = apart ? 0 : q.zero_point;
  Operand v = m.input(x.id, a);
  if (apart) v = m.op(Micro::kSub, {v, Operand::value(static_cast<float>(q.zero_point))});
  m.op(Micro::kMul, {v, scale_operand(l, m, node, q.scales, shape, x.perm)});
  l.define(node.outputs[0], shape, x.perm, m.finish(l.store_type(DType::kF32)));
}

/// A, A_scale, A_zero, B, B_scale, B_zero, C_scale, C_zero.
template <Micro micro>
void lower_qlinear_binary(Lowering& l, const Node& node) {
  const Quantization qa = read_quantization(l, node, 1), qb = read_quantization(l, node, 4), qc = read_quantization(l, node, 6);
  const Shape sa = l.shape(node.inputs[0]), sb = l.shape(node.inputs[3]), shape = broadcast_shapes(node, sa, sb);
  const auto a = l.best(node.inputs[0]), b = l.best(node.inputs[3]);
  const Perm perm = sa.size() == shape.size() ? a.perm : b.perm;
  MapBuilder m(l, node.name, permute(shape, perm));
  Access access_a = broadcast_access(sa, a.perm, shape, perm), access_b = broadcast_access(sb, b.perm, shape, perm);
  access_a.zero_point = qa.zero_point, access_b.zero_point = qb.zero_point;
  const Operand x = m.op(Micro::kMul, {m.input(a.id, access_a), Operand::value(qa.scales[0])});
  const Operand y = m.op(Micro::kMul, {m.input(b.id, access_b), Operand::value(qb.scales[0])});
  m.op(Micro::kMul, {m.op(micro, {x, y}), Operand::value(1.0f / qc.scales[0])});
  const auto [lo, hi] = clamp_range(node, qc.type);
  l.define(node.outputs[0], shape, perm, m.finish_quantized(qc.type, qc.zero_point, lo, hi));
}

/// Scale or zero point (input k) as floats that broadcast over the input.
ValueId along_axis(Expander& x, size_t k) {
  const ValueId v = is_float(x.type(k)) ? x.in(k) : x.cast(x.in(k), DType::kF32);
  const int64_t n = element_count(x.shape(k));
  if (n == 1) return x.reshape(v, {});
  Shape s(x.shape(0).size(), 1);
  s[static_cast<size_t>(normalise_axis(x.node, x.op().integer("axis", 1), x.shape(0).size()))] = n;
  return x.reshape(v, s);
}

bool small(DType t) { return t == DType::kI8 || t == DType::kU8 || t == DType::kI16 || t == DType::kU16; }

/// Whether scale or zero point come at run time, one or one per index of the axis.
bool at_run_time(const Expander& x) {
  if (!x.exact() || (x.constant(1) && (!x.has(2) || x.constant(2))) || x.type(1) != DType::kF32) return false;
  const int64_t n = element_count(x.shape(1)), rank = static_cast<int64_t>(x.shape(0).size()), axis = x.op().integer("axis", 1);
  const bool has_axis = axis < rank && axis >= -rank;
  return x.shape(1).size() <= 1 && (n == 1 || (has_axis && n == x.shape(0)[static_cast<size_t>(axis < 0 ? axis + rank : axis)])) && (!x.has(2) || element_count(x.shape(2)) == n);
}

/// clamp(RNE(x / scale) + zero)
bool expand_quantize(Expander& x) {
  const DType to = x.has(2) ? x.type(2) : static_cast<DType>(x.op().integer("systole_to", static_cast<int64_t>(DType::kU8)));
  if (!at_run_time(x) || !small(to) || x.type(0) != DType::kF32) return false;
  const IntegerKind kind = integer_kind(to);
  const double hi = std::exp2(kind.bits - (kind.is_signed ? 1 : 0)) - 1, lo = kind.is_signed ? -hi - 1 : 0;
  ValueId q = x.call("Round", {x.div(x.in(0), along_axis(x, 1))});
  if (x.has(2)) q = x.add(q, along_axis(x, 2));
  x.result(0, x.cast(x.call("Clip", {q, x.scalar(lo), x.scalar(hi)}), to));
  return true;
}

/// (x - zero) scale
bool expand_dequantize(Expander& x) {
  if (!at_run_time(x) || !small(x.type(0))) return false;
  ValueId v = x.cast(x.in(0), DType::kF32);
  if (x.has(2)) v = x.sub(v, along_axis(x, 2));
  x.result(0, x.mul(v, along_axis(x, 1)));
  return true;
}

constexpr Operator kOperators[] = {
    {"", "QuantizeLinear", lower_quantize, "VX", 2, expand_quantize},
    {"", "DequantizeLinear", lower_dequantize, "VX", 2, expand_dequantize},
    {"com.microsoft", "QLinearAdd", lower_qlinear_binary<Micro::kAdd>, "VX", 7},
    {"com.microsoft", "QLinearMul", lower_qlinear_binary<Micro::kMul>, "VX", 7},
};

}  // namespace

std::span<const Operator> quantization_operators() { return kOperators; }

}  // namespace systole
