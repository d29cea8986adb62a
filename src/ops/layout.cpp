// Operators that rename a tensor's elements: Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Identity, Dropout, Cast.
#include <algorithm>
#include <cmath>
#include <optional>

#include "numerics/formats.h"
#include "ops/normalization.h"
#include "ops/operator.h"

namespace systole {
namespace {

/// The order in which `shape` is stored when axes that were stored in the order `perm` are split, or merged with their neighbours; nothing where axes
/// merge that do not lie side by side.
std::optional<Perm> stored_order(const Shape& in, const Perm& perm, const Shape& shape) {
  std::vector<std::vector<int>> made(in.size());  // axes of the result that stand for those from an axis on
  std::vector<int> follows(in.size(), -1);        // the axis that has to be stored right behind another
  size_t i = 0, o = 0;
  while (i < in.size() || o < shape.size()) {
    // The fewest axes on either side with as many elements.
    const size_t first = i, start = o;
    int64_t left = i < in.size() ? in[i++] : 1, right = o < shape.size() ? shape[o++] : 1;
    while (left != right) {
      if (left < right ? i == in.size() : o == shape.size()) return {};
      if (left < right) left *= in[i++];
      else right *= shape[o++];
    }
    if (first == in.size()) {  // axes of extent 1 behind all others
      if (in.empty()) return {};
      for (size_t d = start; d < o; ++d) made[in.size() - 1].push_back(static_cast<int>(d));
      continue;
    }
    for (size_t d = start; d < o; ++d) made[first].push_back(static_cast<int>(d));
    for (size_t d = first; d + 1 < i; ++d) follows[d] = static_cast<int>(d) + 1;
  }
  Perm order;
  for (size_t at = 0; at < perm.size(); ++at) {
    const auto axis = static_cast<size_t>(perm[at]);
    if (follows[axis] >= 0 && (at + 1 == perm.size() || perm[at + 1] != follows[axis])) return {};
    order.insert(order.end(), made[axis].begin(), made[axis].end());
  }
  return order;
}

void reshape_to(Lowering& l, const Node& node, Shape shape) {
  const ValueId v = node.inputs[0];
  if (element_count(shape) != element_count(l.shape(v))) {
    Lowering::malformed(node, to_string(l.shape(v)) + " to " + to_string(shape), "shapes with equal element counts");
  }
  const auto best = l.best(v);
  const bool turns = std::get<OnnxOp>(node.op).integer("systole_turns", 0) != 0;  // in front of it: gradients are turned once for all that read them
  if (const auto perm = turns ? std::nullopt : stored_order(l.shape(v), best.perm, shape)) {
    const Shape stored = permute(shape, *perm);
    return l.define(node.outputs[0], std::move(shape), *perm, l.emit_view(node.name, best.id, stored));
  }
  l.define_logical(node.outputs[0], l.emit_view(node.name, l.logical(v), std::move(shape)));
}

void lower_reshape(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const Shape in = l.shape(node.inputs[0]);
  Shape shape = op.has("shape") ? op.integers("shape") : l.need_ints(node, 1, "shape");
  int64_t rest = 1;
  int unknown = -1;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (shape[d] == 0 && !op.integer("allowzero", 0)) {
      if (d >= in.size()) Lowering::malformed(node, "0 in position " + std::to_string(d), "a position that the input has");
      shape[d] = in[d];
    }
    if (shape[d] == -1) {
      if (unknown >= 0) Lowering::malformed(node, "two -1 in the shape", "at most one");
      unknown = static_cast<int>(d);
    } else {
      if (shape[d] < 0 || __builtin_mul_overflow(rest, shape[d], &rest)) Lowering::malformed(node, "the shape " + to_string(shape), "extents whose product is the input's element count");
    }
  }
  if (unknown >= 0) {
    if (rest == 0 || element_count(in) % rest != 0) Lowering::malformed(node, to_string(in) + " to " + to_string(shape), "an extent that divides");
    shape[static_cast<size_t>(unknown)] = element_count(in) / rest;
  }
  reshape_to(l, node, shape);
}

void lower_flatten(Lowering& l, const Node& node) {
  const Shape in = l.shape(node.inputs[0]);
  int64_t axis = std::get<OnnxOp>(node.op).integer("axis", 1);
  if (axis < 0) axis += static_cast<int64_t>(in.size());
  if (axis < 0 || axis > static_cast<int64_t>(in.size())) Lowering::malformed(node, "axis " + std::to_string(axis), "0 to rank");
  reshape_to(l, node, {element_count(Shape(in.begin(), in.begin() + axis)), element_count(Shape(in.begin() + axis, in.end()))});
}

std::vector<int64_t> axes_of(Lowering& l, const Node& node, size_t rank) {
  auto axes = Lowering::present(node, 1) ? l.need_ints(node, 1, "axes") : std::get<OnnxOp>(node.op).integers("axes");
  for (int64_t& a : axes) a = normalise_axis(node, a, rank);
  return axes;
}

/// Unit dimensions come and go without touching the axis order of the others.
void lower_squeeze(Lowering& l, const Node& node) {
  const ValueId v = node.inputs[0];
  const Shape in = l.shape(v);
  auto axes = axes_of(l, node, in.size());
  const bool all = axes.empty() && !Lowering::present(node, 1);
  std::vector<int> position(in.size(), -1);
  Shape shape;
  for (size_t d = 0; d < in.size(); ++d) {
    const bool drop = all ? in[d] == 1 : std::count(axes.begin(), axes.end(), static_cast<int64_t>(d)) > 0;
    if (drop && in[d] != 1) Lowering::malformed(node, "axis " + std::to_string(d) + " of " + to_string(in), "an extent of 1");
    if (!drop) position[d] = static_cast<int>(shape.size()), shape.push_back(in[d]);
  }
  const auto best = l.best(v);
  Perm perm;
  for (int d : best.perm) {
    if (position[static_cast<size_t>(d)] >= 0) perm.push_back(position[static_cast<size_t>(d)]);
  }
  l.define(node.outputs[0], shape, perm, l.emit_view(node.name, best.id, permute(shape, perm)));
}

void lower_unsqueeze(Lowering& l, const Node& node) {
  const ValueId v = node.inputs[0];
  const Shape in = l.shape(v);
  const size_t extra = (Lowering::present(node, 1) ? l.need_ints(node, 1, "axes") : std::get<OnnxOp>(node.op).integers("axes")).size();
  const auto axes = axes_of(l, node, in.size() + extra);
  Shape shape;
  std::vector<int> position;
  Perm perm;
  for (size_t d = 0; d < in.size() + extra; ++d) {
    if (std::count(axes.begin(), axes.end(), static_cast<int64_t>(d))) {
      shape.push_back(1);
      perm.push_back(static_cast<int>(d));
    } else {
      if (position.size() >= in.size()) Lowering::malformed(node, "repeated axes", "each axis once");
      shape.push_back(in[position.size()]);
      position.push_back(static_cast<int>(d));
    }
  }
  const auto best = l.best(v);
  for (int d : best.perm) perm.push_back(position[static_cast<size_t>(d)]);
  l.define(node.outputs[0], shape, perm, l.emit_view(node.name, best.id, permute(shape, perm)));
}

/// No data moves: the form's axis order is renamed.
void lower_transpose(Lowering& l, const Node& node) {
  const ValueId v = node.inputs[0];
  const Shape in = l.shape(v);
  auto q = std::get<OnnxOp>(node.op).integers("perm");
  if (q.empty()) {
    for (size_t d = in.size(); d-- > 0;) q.push_back(static_cast<int64_t>(d));
  }
  Perm perm;
  for (int64_t a : q) perm.push_back(static_cast<int>(normalise_axis(node, a, in.size())));
  Perm sorted = perm;
  std::sort(sorted.begin(), sorted.end());
  if (sorted != identity_perm(in.size())) Lowering::malformed(node, "perm " + to_string(Shape(q.begin(), q.end())), "a permutation of the axes");
  const auto best = l.best(v);
  const Perm inverse = invert(perm);
  Perm out_perm;
  for (int d : best.perm) out_perm.push_back(inverse[static_cast<size_t>(d)]);
  l.define(node.outputs[0], permute(in, perm), out_perm, best.id);
}

void lower_identity(Lowering& l, const Node& node) {
  for (size_t k = 1; k < node.outputs.size(); ++k) {
    if (node.outputs[k] != kNoValue) Lowering::unsupported(node, "its second output");
  }
  l.alias(node.outputs[0], node.inputs[0]);
}

/// Inference only: the training form draws random numbers.
void lower_dropout(Lowering& l, const Node& node) {
  if (Lowering::present(node, 2) && l.need_constant(node, 2, "training_mode")->int_at(0) != 0) Lowering::unsupported(node, "training_mode = 1");
  lower_identity(l, node);
}

/// Formats of 8 and 4 bits: with saturate (the default) what overflows becomes the greatest finite value; NaN stays.
void to_narrow_float(const OnnxOp& op, MapBuilder& m, Operand x, DType to) {
  const float most = greatest_finite(to);
  const Operand v = m.op(isa::Micro::kMove, {x});
  if (op.integer("saturate", 1) || to == DType::kF4E2M1) m.op(isa::Micro::kMin, {m.op(isa::Micro::kMax, {v, Operand::value(-most)}), Operand::value(most)});
}

/// Between f32, f16 and bf16 a cast only changes how values are stored, which the policy decides.
void cast_to(Lowering& l, const Node& node, DType to) {
  const auto& op = std::get<OnnxOp>(node.op);
  const DType from = l.type(node.inputs[0]);
  if (from == to || (is_float(from) && is_float(to) && !is_narrow_float(from) && !is_narrow_float(to))) return l.alias(node.outputs[0], node.inputs[0]);
  const bool low_bits = is_small_integer(to);
  const bool possible = is_float(to) ? to != DType::kF8E8M0 : to == DType::kBool || low_bits || (to == DType::kI32 && !is_narrow_float(from));
  if (!possible || (low_bits && from == DType::kI32)) Lowering::unsupported(node, std::string("a cast from ") + to_string(from) + " to " + to_string(to) + " at run time");
  const auto best = l.best(node.inputs[0]);
  MapBuilder m(l, node.name, l.out.value(best.id).shape);
  const Operand x = m.input(best.id, direct_access(l.out.value(best.id).shape.size()));
  if (to == DType::kBool) m.op(isa::Micro::kSub, {Operand::value(1), m.op(isa::Micro::kEqual, {x, Operand::value(0)})});
  else if (low_bits) m.low_bits(is_float(from) ? m.truncated(x) : x, to);
  else if (is_narrow_float(to)) to_narrow_float(op, m, x, to);
  else m.op(isa::Micro::kMove, {x});
  // Integers beyond 8 bits (positions, indices) stay exact whatever the policy stores.
  const bool exact = !is_float(from) && bytes_of(from) > 1 && is_float(to);
  l.define(node.outputs[0], l.shape(node.inputs[0]), best.perm, m.finish(is_narrow_float(to) ? to : exact ? DType::kF32 : l.store_type(to)));
}

void lower_cast(Lowering& l, const Node& node) { cast_to(l, node, static_cast<DType>(std::get<OnnxOp>(node.op).integer("systole_to", 0))); }

/// The type of the second input, whose values do not matter.
void lower_cast_like(Lowering& l, const Node& node) {
  if (!Lowering::present(node, 1)) Lowering::malformed(node, "no second input", "the tensor whose type is wanted");
  cast_to(l, node, l.type(node.inputs[1]));
}

constexpr Operator kOperators[] = {
    {"", "Reshape", lower_reshape, "DMA"},
    {"", "Flatten", lower_flatten, "DMA"},
    {"", "Squeeze", lower_squeeze, "DMA"},
    {"", "Unsqueeze", lower_unsqueeze, "DMA"},
    {"", "Transpose", lower_transpose, "DMA"},
    {"", "Identity", lower_identity, "DMA"},
    {"", "Dropout", lower_dropout, "DMA", 1, expand_dropout},
    {"", "Cast", lower_cast, "VX"},
    {"", "CastLike", lower_cast_like, "VX", 2},
};

}  // namespace

std::span<const Operator> layout_operators() { return kOperators; }

}  // namespace systole
