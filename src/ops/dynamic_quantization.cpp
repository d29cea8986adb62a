// DynamicQuantizeLinear (11): u8 over the range of the data and 0. MatMulInteger (10): see matmul.cpp; ConvInteger (10): see
// convolution.cpp.
#include <cmath>

#include "ops/operator.h"

namespace systole {
namespace {

using isa::Micro;
using isa::Reduce;

/// The extreme of all elements and 0, as one fp32: one axis after another, so that any tensor fits the scratchpad.
ValueId extreme(Lowering& l, const Node& node, const Lowering::Form& x, Reduce kind) {
  const std::string name = node.name + (kind == Reduce::kMax ? ".max" : ".min");
  ValueId id = x.id;
  for (size_t rank = l.out.value(x.id).shape.size(); rank > 0; --rank) {
    MapBuilder m(l, name, l.out.value(id).shape);
    m.op(Micro::kMove, {m.input(id, direct_access(rank))});
    m.op(Micro::kMove, {m.reduce(kind, 1)});
    id = m.finish(DType::kF32);
  }
  MapBuilder m(l, name, {});
  m.op(kind == Reduce::kMax ? Micro::kMax : Micro::kMin, {m.input(id, {}), Operand::value(0)});
  return m.finish(DType::kF32);
}

/// scale = (max - min) / 255; zero = clamp(round(-min / scale)); y = clamp(round(x / scale) + zero).
void lower_dynamic_quantize(Lowering& l, const Node& node) {
  const auto x = l.best(node.inputs[0]);
  const Shape s = l.out.value(x.id).shape;
  if (!is_float(l.type(node.inputs[0])) || element_count(s) == 0) Lowering::unsupported(node, "a tensor without numbers");
  const ValueId hi = extreme(l, node, x, Reduce::kMax), lo = extreme(l, node, x, Reduce::kMin);
  const Access scalar;
  MapBuilder ms(l, node.name + ".scale", {});
  const Operand range = ms.op(Micro::kSub, {ms.input(hi, scalar), ms.input(lo, scalar)});
  ms.op(Micro::kSelect, {ms.op(Micro::kEqual, {range, Operand::value(0)}), Operand::value(1), ms.op(Micro::kDivide, {range, Operand::value(255)})});
  const ValueId scale = ms.finish(DType::kF32);
  MapBuilder mz(l, node.name + ".zero", {});
  mz.op(Micro::kRound, {mz.op(Micro::kDivide, {mz.op(Micro::kNeg, {mz.input(lo, scalar)}), mz.input(scale, scalar)})});
  const ValueId zero = mz.finish_quantized(DType::kU8, 0, 0, 255);
  Access every;  // one value for all loops
  MapBuilder my(l, node.name, s);
  const Operand steps = my.op(Micro::kRound, {my.op(Micro::kDivide, {my.input(x.id, direct_access(s.size())), my.input(scale, every)})});
  my.op(Micro::kAdd, {steps, my.input(zero, every)});
  l.define(node.outputs[0], l.shape(node.inputs[0]), x.perm, my.finish_quantized(DType::kU8, 0, 0, 255));
  if (node.outputs.size() > 1) l.define(node.outputs[1], {}, {}, scale);
  if (node.outputs.size() > 2) l.define(node.outputs[2], {}, {}, zero);
}

constexpr Operator kOperators[] = {{"", "DynamicQuantizeLinear", lower_dynamic_quantize, "VX"}};

}  // namespace

std::span<const Operator> dynamic_quantization_operators() { return kOperators; }

}  // namespace systole
