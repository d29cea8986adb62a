// ArgMax and ArgMin (1, 11, 12, 13): the extreme along the axis, then the least (or greatest) index that holds it. Indices
// are int32 on the NPU and become int64 where they leave it.
#include <cmath>

#include "ops/operator.h"

namespace systole {
namespace {

using isa::Micro;
using isa::Reduce;

template <Reduce extreme>
void lower_arg(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const ValueId v = node.inputs[0];
  const Shape x = l.shape(v);
  const size_t axis = static_cast<size_t>(normalise_axis(node, op.integer("axis", 0), x.size()));
  if (!is_float(l.type(v)) && !is_int8(l.type(v))) Lowering::unsupported(node, std::string("arithmetic on ") + to_string(l.type(v)) + " values at run time");
  if (x[axis] < 1 || x[axis] > (1 << 24)) Lowering::unsupported(node, "an axis of " + std::to_string(x[axis]) + " elements");
  const auto form = l.best(v);
  Shape out = x, extents;
  out.erase(out.begin() + static_cast<long>(axis));
  extents = out;
  extents.push_back(x[axis]);
  Access read, best;
  const int last = static_cast<int>(out.size());
  for (int d : form.perm) read.index.push_back({0, {{d == static_cast<int>(axis) ? last : d > static_cast<int>(axis) ? d - 1 : d, 1}}});
  best = direct_access(out.size());
  MapBuilder first(l, node.name + ".extreme", extents);
  first.op(Micro::kMove, {first.input(form.id, read)});
  first.op(Micro::kMove, {first.reduce(extreme, 1)});
  const ValueId greatest = first.finish(DType::kF32);
  const bool last_index = op.integer("select_last_index", 0) != 0;
  std::vector<float> numbers;
  for (int64_t i = 0; i < x[axis]; ++i) numbers.push_back(static_cast<float>(i));
  const ValueId iota = l.add_constant(node.name + ".index", Tensor::from_floats(numbers, {x[axis]}));
  MapBuilder second(l, node.name, extents);
  const Operand here = second.op(Micro::kEqual, {second.input(form.id, read), second.input(greatest, best)});
  second.op(Micro::kSelect, {here, second.input(iota, Access{{{0, {{last, 1}}}}, false, 0}), Operand::value(last_index ? -1.0f : 16777216.0f)});
  second.op(Micro::kMove, {second.reduce(last_index ? Reduce::kMax : Reduce::kMin, 1)});
  const ValueId index = second.finish(DType::kI32);
  Shape kept = x;
  kept[axis] = 1;
  l.define_logical(node.outputs[0], op.integer("keepdims", 1) ? l.emit_view(node.name, index, kept) : index);
}

constexpr Operator kOperators[] = {
    {"", "ArgMax", lower_arg<Reduce::kMax>, "VX"},
    {"", "ArgMin", lower_arg<Reduce::kMin>, "VX"},
};

}  // namespace

std::span<const Operator> argument_operators() { return kOperators; }

}  // namespace systole
