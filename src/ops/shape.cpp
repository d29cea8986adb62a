// Shapes are known when the compiler runs, whatever the values.
#include <algorithm>

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

constexpr Operator kOperators[] = {
    {"", "Shape", lower_shape, "shapes"},
    {"", "Size", lower_size, "shapes"},
};

}  // namespace

std::span<const Operator> shape_operators() { return kOperators; }

}  // namespace systole
