// Operators that only exist at compile time: shapes and constants.
#include <algorithm>
#include <cmath>

#include "ops/fold.h"
#include "ops/operator.h"

namespace systole {
namespace {

void lower_shape(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const Shape s = l.shape(node.inputs[0]);
  const int64_t r = static_cast<int64_t>(s.size());
  auto bound = [&](int64_t v) { return std::clamp<int64_t>(v < 0 ? v + r : v, 0, r); };
  const int64_t from = bound(op.integer("start", 0)), to = bound(op.integer("end", r));
  const std::vector<int64_t> part(s.begin() + from, s.begin() + std::max(from, to));
  l.define_constant(node.outputs[0], Tensor::from_ints(part, {static_cast<int64_t>(part.size())}));
}

void lower_size(Lowering& l, const Node& node) { l.define_constant(node.outputs[0], Tensor::from_ints({element_count(l.shape(node.inputs[0]))}, {})); }

void lower_constant(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  for (const auto& [name, a] : op.attributes) {
    if (const auto* t = std::get_if<TensorPtr>(&a)) return l.define_constant(node.outputs[0], **t);
    if (const auto* i = std::get_if<int64_t>(&a)) return l.define_constant(node.outputs[0], Tensor::from_ints({*i}, {}));
    if (const auto* f = std::get_if<float>(&a)) return l.define_constant(node.outputs[0], Tensor::scalar_f32(*f));
    if (const auto* v = std::get_if<std::vector<int64_t>>(&a)) return l.define_constant(node.outputs[0], Tensor::from_ints(*v, {static_cast<int64_t>(v->size())}));
    if (const auto* v = std::get_if<std::vector<float>>(&a)) return l.define_constant(node.outputs[0], Tensor::from_floats(*v, {static_cast<int64_t>(v->size())}));
  }
  Lowering::unsupported(node, "a constant of strings or of a sparse tensor");
}

void lower_constant_of_shape(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const Shape shape = l.need_ints(node, 0, "input");
  if (element_count(shape) > (int64_t{1} << 28)) Lowering::unsupported(node, "a constant of more than 2^28 elements");
  TensorPtr value;
  if (op.has("value")) value = std::get<TensorPtr>(op.attributes.at("value"));
  Tensor t(value ? value->type : DType::kF32, shape);
  for (int64_t i = 0; value && i < t.count(); ++i) is_float(t.type) ? t.set(i, value->at(0)) : t.set_int(i, value->int_at(0));
  l.define_constant(node.outputs[0], std::move(t));
}

void lower_range(Lowering& l, const Node& node) {
  const TensorPtr start = l.need_constant(node, 0, "start"), limit = l.need_constant(node, 1, "limit"), delta = l.need_constant(node, 2, "delta");
  const double step = delta->at(0), n = std::ceil((limit->at(0) - start->at(0)) / step);
  if (step == 0 || !(n < 0x1p28)) Lowering::malformed(node, "a range of " + std::to_string(n) + " elements", "fewer than 2^28 and a step other than 0");
  Tensor t(start->type, {std::max<int64_t>(0, static_cast<int64_t>(n))});
  for (int64_t i = 0; i < t.count(); ++i) is_float(t.type) ? t.set(i, start->at(0) + static_cast<double>(i) * step) : t.set_int(i, start->int_at(0) + i * delta->int_at(0));
  l.define_constant(node.outputs[0], std::move(t));
}

void only_constants(Lowering&, const Node& node) { Lowering::unsupported(node, "it is computed only from constants and shapes"); }

constexpr Operator kOperators[] = {
    {"", "Shape", lower_shape, lower_shape, "folded"},
    {"", "Size", lower_size, lower_size, "folded"},
    {"", "Constant", lower_constant, lower_constant, "folded", 0},
    {"", "ConstantOfShape", lower_constant_of_shape, lower_constant_of_shape, "folded"},
    {"", "Range", lower_range, lower_range, "folded", 3},
    {"", "Mod", only_constants, fold_elementwise, "folded", 2},
};

}  // namespace

std::span<const Operator> shape_operators() { return kOperators; }

}  // namespace systole
