// Reduce*, Softmax, LogSoftmax, and the normalisations: maps with a reduction.
#include "ops/reduction.h"

#include <algorithm>
#include <cmath>

#include "ops/normalization.h"
#include "ops/operator.h"

namespace systole {

using isa::Micro;
using isa::Reduce;

std::vector<int64_t> reduction_axes(const Lowering& l, const Node& node, size_t rank) {
  const auto& op = std::get<OnnxOp>(node.op);
  std::vector<int64_t> axes = op.integers("axes");
  if (Lowering::present(node, 1)) axes = l.need_ints(node, 1, "axes");
  if (axes.empty() && !op.integer("noop_with_empty_axes", 0)) {
    for (size_t d = 0; d < rank; ++d) axes.push_back(static_cast<int64_t>(d));
  }
  for (int64_t& a : axes) a = normalise_axis(node, a, rank);
  std::sort(axes.begin(), axes.end());
  axes.erase(std::unique(axes.begin(), axes.end()), axes.end());
  return axes;
}

namespace {

/// The loops of a reduction over logical `axes` of a value in some axis order: kept dimensions first, reduced ones last.
struct Split {
  Lowering::Form x;
  Shape shape;                   ///< logical
  Perm kept;                     ///< logical dimensions in physical order, without the reduced ones
  Shape extents;                 ///< kept, then reduced
  Access access;                 ///< of x over these loops
  int64_t count = 1;             ///< reduced elements
  int64_t reduced_loops = 0;
};

Split split(Lowering& l, const Node& node, ValueId v, const std::vector<int64_t>& axes) {
  const std::string& type = std::get<OnnxOp>(node.op).type;
  if (!is_float(l.type(v)) && !(is_int8(l.type(v)) && (type == "ReduceMax" || type == "ReduceMin"))) {
    Lowering::unsupported(node, std::string("a reduction of ") + to_string(l.type(v)) + " values at run time");
  }
  Split s{l.best(v), l.shape(v), {}, {}, {}, 1, static_cast<int64_t>(axes.size())};
  auto is_reduced = [&](int d) { return std::count(axes.begin(), axes.end(), d) > 0; };
  Perm order;
  for (int d : s.x.perm) {
    if (!is_reduced(d)) s.kept.push_back(d), order.push_back(d);
  }
  // Logical order of reduced elements does not depend on the axis order they are held in.
  for (int64_t a : axes) order.push_back(static_cast<int>(a)), s.count *= s.shape[static_cast<size_t>(a)];
  s.extents = permute(s.shape, order);
  s.access = broadcast_access(s.shape, s.x.perm, s.shape, order);
  return s;
}

/// Defines node output from a map over the kept dimensions.
void define_reduced(Lowering& l, const Node& node, const Split& s, const std::vector<int64_t>& axes, bool keepdims, ValueId id, size_t output = 0) {
  Shape logical;
  Perm perm;
  if (keepdims) {
    logical = s.shape;
    for (int64_t a : axes) logical[static_cast<size_t>(a)] = 1;
    perm = s.x.perm;
    id = l.emit_view(node.name, id, permute(logical, perm));
  } else {
    std::vector<int> position(s.shape.size(), -1);
    for (size_t d = 0; d < s.shape.size(); ++d) {
      if (!std::count(axes.begin(), axes.end(), static_cast<int64_t>(d))) position[d] = static_cast<int>(logical.size()), logical.push_back(s.shape[d]);
    }
    for (int d : s.kept) perm.push_back(position[static_cast<size_t>(d)]);
  }
  l.define(node.outputs[output], logical, perm, id);
}

enum class Kind { kSum, kMean, kMax, kMin, kSumSquare, kL1, kL2, kLogSum };

template <Kind kind>
void lower_reduce(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const ValueId v = node.inputs[0];
  const auto axes = reduction_axes(l, node, l.shape(v).size());
  if (axes.empty()) return l.alias(node.outputs[0], v);
  const Split s = split(l, node, v, axes);
  MapBuilder m(l, node.name, s.extents);
  const Operand x = m.input(s.x.id, s.access);
  if (kind == Kind::kSumSquare || kind == Kind::kL2) m.op(Micro::kMul, {x, x});
  else if (kind == Kind::kL1) m.op(Micro::kAbs, {x});
  else m.op(Micro::kMove, {x});
  const Operand r = m.reduce(kind == Kind::kMax ? Reduce::kMax : kind == Kind::kMin ? Reduce::kMin : Reduce::kSum, s.reduced_loops);
  if (kind == Kind::kMean) m.op(Micro::kMul, {r, Operand::value(1.0f / static_cast<float>(s.count))});
  if (kind == Kind::kL2) m.op(Micro::kSqrt, {r});
  if (kind == Kind::kLogSum) m.op(Micro::kLog, {r});
  define_reduced(l, node, s, axes, op.integer("keepdims", 1) != 0, m.finish(is_float(l.type(v)) ? l.store_type(node) : l.type(v)));
}

/// Access of a row statistic (kept dimensions only) from loops over the whole value in x's axis order.
Access statistic_access(const Split& s) {
  Access a;
  const Perm loop_of = invert(s.x.perm);
  for (int d : s.kept) a.index.push_back({0, {{loop_of[static_cast<size_t>(d)], 1}}});
  return a;
}

/// t = x log2 e; m = max ceil t; p = 2^t 2^-m, exactly scaled; y = p / sum p. (docs/numerics.md, "Softmax")
constexpr float kLog2e = 1.44269502f;
Operand softmax_exponent(MapBuilder& m, Operand x) { return m.op(Micro::kMul, {x, Operand::value(kLog2e)}); }

/// Before opset 13 the input is coerced to two dimensions at `axis`, so all later axes are reduced together.
std::vector<int64_t> softmax_axes(const Node& node, size_t rank) {
  const auto& op = std::get<OnnxOp>(node.op);
  const int64_t axis = normalise_axis(node, op.integer("axis", op.opset >= 13 ? -1 : 1), rank);
  std::vector<int64_t> axes = {axis};
  for (int64_t a = axis + 1; op.opset < 13 && a < static_cast<int64_t>(rank); ++a) axes.push_back(a);
  return axes;
}

/// Per row: m = max ceil t, and `finish`(sum 2^t 2^-m).
std::pair<ValueId, ValueId> exponent_rows(Lowering& l, const Node& node, const Split& s, Micro finish_sum) {
  MapBuilder top(l, node.name + ".max", s.extents);
  top.op(Micro::kCeil, {softmax_exponent(top, top.input(s.x.id, s.access))});
  top.reduce(Reduce::kMax, s.reduced_loops);
  const ValueId maximum = top.finish(DType::kF32);
  MapBuilder sum(l, node.name + ".sum", s.extents);
  const Operand t = softmax_exponent(sum, sum.input(s.x.id, s.access));
  sum.op(Micro::kExp2Shifted, {t, sum.input(maximum, direct_access(s.kept.size()))});
  sum.op(finish_sum, {sum.reduce(Reduce::kSum, s.reduced_loops)});
  return {maximum, sum.finish(DType::kF32)};
}

struct SoftmaxRows {
  Split s;
  ValueId maximum, sum;
};

SoftmaxRows softmax_rows(Lowering& l, const Node& node, Micro finish_sum) {
  const Split s = split(l, node, node.inputs[0], softmax_axes(node, l.shape(node.inputs[0]).size()));
  const auto [maximum, sum] = exponent_rows(l, node, s, finish_sum);
  return {s, maximum, sum};
}

void lower_softmax(Lowering& l, const Node& node) {
  const SoftmaxRows rows = softmax_rows(l, node, Micro::kReciprocal);
  const Split& s = rows.s;
  MapBuilder m(l, node.name, permute(s.shape, s.x.perm));
  const Operand t = softmax_exponent(m, m.input(s.x.id, direct_access(s.shape.size())));
  const Operand p = m.op(Micro::kExp2Shifted, {t, m.input(rows.maximum, statistic_access(s))});
  m.op(Micro::kMul, {p, m.input(rows.sum, statistic_access(s))});
  l.define(node.outputs[0], s.shape, s.x.perm, m.finish(l.store_type(l.type(node.inputs[0]))));
}

/// log y = (t - m - log2 sum) ln 2.
void lower_log_softmax(Lowering& l, const Node& node) {
  const SoftmaxRows rows = softmax_rows(l, node, Micro::kLog2);
  const Split& s = rows.s;
  MapBuilder m(l, node.name, permute(s.shape, s.x.perm));
  const Operand t = softmax_exponent(m, m.input(s.x.id, direct_access(s.shape.size())));
  const Operand d = m.op(Micro::kSub, {t, m.input(rows.maximum, statistic_access(s))});
  m.op(Micro::kMul, {m.op(Micro::kSub, {d, m.input(rows.sum, statistic_access(s))}), Operand::value(0.693147182f)});
  l.define(node.outputs[0], s.shape, s.x.perm, m.finish(l.store_type(l.type(node.inputs[0]))));
}

/// Mean over `axes` by (x - x0), then 1 / sqrt(mean (x - mean)^2 + epsilon), per kept element.
std::pair<ValueId, ValueId> moments(Lowering& l, const Node& node, const Split& s, float epsilon) {
  const float inverse = 1.0f / static_cast<float>(s.count);
  Access first = s.access;  // the row's first element: no term of a reduced loop
  for (IndexExpr& e : first.index) std::erase_if(e.terms, [&](const IndexTerm& t) { return t.loop >= static_cast<int>(s.kept.size()); });
  MapBuilder mean(l, node.name + ".mean", s.extents);
  const Operand x0 = mean.input(s.x.id, first);
  mean.op(Micro::kSub, {mean.input(s.x.id, s.access), x0});
  const Operand sum = mean.reduce(Reduce::kSum, s.reduced_loops);
  mean.op(Micro::kFma, {sum, Operand::value(inverse), mean.input(s.x.id, first)});
  const ValueId mean_id = mean.finish(DType::kF32);
  MapBuilder spread(l, node.name + ".rstd", s.extents);
  const Operand d = spread.op(Micro::kSub, {spread.input(s.x.id, s.access), spread.input(mean_id, direct_access(s.kept.size()))});
  spread.op(Micro::kMul, {d, d});
  const Operand squares = spread.reduce(Reduce::kSum, s.reduced_loops);
  spread.op(Micro::kRsqrt, {spread.op(Micro::kFma, {squares, Operand::value(inverse), Operand::value(epsilon)})});
  return {mean_id, spread.finish(DType::kF32)};
}

/// Input k broadcasts to the shape of x.
void require_broadcast(Lowering& l, const Node& node, size_t k, const Shape& x) {
  const Shape& s = l.shape(node.inputs[k]);
  if (s.size() > x.size() || broadcast_shapes(node, s, x) != x) Lowering::malformed(node, "input " + std::to_string(k) + " of shape " + to_string(s), "a shape that broadcasts to " + to_string(x));
}

/// (x - mean) rstd, then scale and bias given by accesses over the whole value's loops.
void normalise(Lowering& l, const Node& node, const Split& s, std::pair<ValueId, ValueId> stats, ValueId scale, Access scale_access, ValueId bias, Access bias_access) {
  const Shape loops = permute(s.shape, s.x.perm);
  MapBuilder m(l, node.name + ".normal", loops);
  const Operand d = m.op(Micro::kSub, {m.input(s.x.id, direct_access(loops.size())), m.input(stats.first, statistic_access(s))});
  m.op(Micro::kMul, {d, m.input(stats.second, statistic_access(s))});
  ValueId id = m.finish(DType::kF32);
  MapBuilder affine(l, node.name, loops);
  const Operand y = affine.input(id, direct_access(loops.size()));
  const Operand g = affine.input(scale, std::move(scale_access));
  if (bias == kNoValue) affine.op(Micro::kMul, {y, g});
  else affine.op(Micro::kFma, {y, g, affine.input(bias, std::move(bias_access))});
  id = affine.finish(l.store_type(l.type(node.inputs[0])));
  l.define(node.outputs[0], s.shape, s.x.perm, id);
}

/// The axes from the attribute `axis` (default the last) to the end.
std::vector<int64_t> trailing_axes(const Node& node, size_t rank) {
  std::vector<int64_t> axes;
  for (int64_t a = normalise_axis(node, std::get<OnnxOp>(node.op).integer("axis", -1), rank); a < static_cast<int64_t>(rank); ++a) axes.push_back(a);
  return axes;
}

void lower_layer_norm(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const Shape x = l.shape(node.inputs[0]);
  const auto axes = trailing_axes(node, x.size());
  const Split s = split(l, node, node.inputs[0], axes);
  auto parameter = [&](size_t k) {
    require_broadcast(l, node, k, x);
    const auto form = l.best(node.inputs[k]);
    return std::pair{form.id, broadcast_access(l.shape(node.inputs[k]), form.perm, s.shape, s.x.perm)};
  };
  const auto [scale, scale_access] = parameter(1);
  ValueId bias = kNoValue;
  Access bias_access;
  if (Lowering::present(node, 2)) std::tie(bias, bias_access) = parameter(2);
  const auto stats = moments(l, node, s, op.real("epsilon", 1e-5f));
  normalise(l, node, s, stats, scale, scale_access, bias, bias_access);
  // Mean and InvStdDev
  if (node.outputs.size() > 1 && node.outputs[1] != kNoValue) define_reduced(l, node, s, axes, true, stats.first, 1);
  if (node.outputs.size() > 2 && node.outputs[2] != kNoValue) define_reduced(l, node, s, axes, true, stats.second, 2);
}

/// x / sqrt(mean x^2 + epsilon) x scale.
void lower_rms_norm(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const Shape x = l.shape(node.inputs[0]);
  const auto axes = trailing_axes(node, x.size());
  const Split s = split(l, node, node.inputs[0], axes);
  MapBuilder mean(l, node.name + ".rms", s.extents);
  const Operand v = mean.input(s.x.id, s.access);
  mean.op(Micro::kMul, {v, v});
  const Operand sum = mean.reduce(Reduce::kSum, s.reduced_loops);
  mean.op(Micro::kRsqrt, {mean.op(Micro::kFma, {sum, Operand::value(1.0f / static_cast<float>(s.count)), Operand::value(op.real("epsilon", 1e-5f))})});
  const ValueId rms = mean.finish(DType::kF32);
  require_broadcast(l, node, 1, x);
  const auto scale = l.best(node.inputs[1]);
  MapBuilder m(l, node.name, permute(s.shape, s.x.perm));
  const Operand y = m.op(Micro::kMul, {m.input(s.x.id, direct_access(s.shape.size())), m.input(rms, statistic_access(s))});
  m.op(Micro::kMul, {y, m.input(scale.id, broadcast_access(l.shape(node.inputs[1]), scale.perm, s.shape, s.x.perm))});
  l.define(node.outputs[0], s.shape, s.x.perm, m.finish(l.store_type(l.type(node.inputs[0]))));
}

/// x / (norm of x along the axis), norm L1 or L2.
void lower_lp_norm(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const int64_t p = op.integer("p", 2);
  if (p != 1 && p != 2) Lowering::unsupported(node, "p = " + std::to_string(p) + "; 1 and 2 are supported");
  const std::vector<int64_t> axes = {normalise_axis(node, op.integer("axis", -1), l.shape(node.inputs[0]).size())};
  const Split s = split(l, node, node.inputs[0], axes);
  MapBuilder norm(l, node.name + ".norm", s.extents);
  const Operand v = norm.input(s.x.id, s.access);
  if (p == 1) norm.op(Micro::kAbs, {v});
  else norm.op(Micro::kMul, {v, v});
  const Operand sum = norm.reduce(Reduce::kSum, s.reduced_loops);
  if (p == 2) norm.op(Micro::kSqrt, {sum});
  const ValueId length = norm.finish(DType::kF32);
  MapBuilder m(l, node.name, permute(s.shape, s.x.perm));
  // A row of zeros stays zero.
  const Operand x = m.input(s.x.id, direct_access(s.shape.size())), n = m.input(length, statistic_access(s));
  m.op(Micro::kSelect, {n, m.op(Micro::kDivide, {x, n}), Operand::value(0)});
  l.define(node.outputs[0], s.shape, s.x.perm, m.finish(l.store_type(l.type(node.inputs[0]))));
}

/// log sum e^x = (m + log2 sum 2^(t - m)) ln 2 with t = x log2 e and m = max ceil t, so nothing overflows.
void lower_log_sum_exp(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const ValueId v = node.inputs[0];
  const auto axes = reduction_axes(l, node, l.shape(v).size());
  if (axes.empty()) return l.alias(node.outputs[0], v);
  const Split s = split(l, node, v, axes);
  const auto [maximum, logarithm] = exponent_rows(l, node, s, Micro::kLog2);
  Shape kept(s.extents.begin(), s.extents.begin() + static_cast<long>(s.kept.size()));
  MapBuilder m(l, node.name, kept);
  const Operand sum = m.op(Micro::kAdd, {m.input(maximum, direct_access(kept.size())), m.input(logarithm, direct_access(kept.size()))});
  m.op(Micro::kMul, {sum, Operand::value(0.693147182f)});
  define_reduced(l, node, s, axes, op.integer("keepdims", 1) != 0, m.finish(l.store_type(l.type(v))));
}

/// Per image and channel over the spatial axes.
void lower_instance_norm(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const Shape x = l.shape(node.inputs[0]);
  if (x.size() < 3) Lowering::malformed(node, "an input of shape " + to_string(x), "rank 3 or more");
  for (size_t k : {size_t{1}, size_t{2}}) {
    if (l.shape(node.inputs[k]) != Shape{x[1]}) Lowering::malformed(node, "input " + std::to_string(k) + " of shape " + to_string(l.shape(node.inputs[k])), "one value per channel");
  }
  std::vector<int64_t> axes;
  for (size_t d = 2; d < x.size(); ++d) axes.push_back(static_cast<int64_t>(d));
  const Split s = split(l, node, node.inputs[0], axes);
  const int channel_loop = invert(s.x.perm)[1];
  const Access per_channel{{{0, {{channel_loop, 1}}}}, false, 0};
  normalise(l, node, s, moments(l, node, s, op.real("epsilon", 1e-5f)), l.logical(node.inputs[1]), per_channel, l.logical(node.inputs[2]), per_channel);
}

/// Inference form: y = x g + h with g = scale / sqrt(var + eps), h = bias - mean g, computed once in double.
void lower_batch_norm(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  if (op.integer("training_mode", 0)) Lowering::unsupported(node, "training_mode = 1");
  const Shape x = l.shape(node.inputs[0]);
  const char* names[] = {"X", "scale", "B", "mean", "var"};
  std::vector<TensorPtr> p;
  for (size_t k = 1; k <= 4; ++k) p.push_back(l.need_constant(node, k, names[k]));
  if (x.size() < 2 || std::any_of(p.begin(), p.end(), [&](const TensorPtr& t) { return t->count() != x[1]; })) Lowering::malformed(node, "scale of shape " + to_string(p[0]->shape) + " for input " + to_string(x), "one value per channel");
  const int64_t n = x[1];
  std::vector<float> g(static_cast<size_t>(n)), h(static_cast<size_t>(n));
  for (int64_t c = 0; c < n; ++c) {
    const double scale = p[0]->at(c) / std::sqrt(p[3]->at(c) + static_cast<double>(op.real("epsilon", 1e-5f)));
    g[static_cast<size_t>(c)] = static_cast<float>(scale);
    h[static_cast<size_t>(c)] = static_cast<float>(p[1]->at(c) - p[2]->at(c) * scale);
  }
  const auto form = l.best(node.inputs[0]);
  const Access per_channel{{{0, {{invert(form.perm)[1], 1}}}}, false, 0};
  MapBuilder m(l, node.name, permute(x, form.perm));
  const Operand v = m.input(form.id, direct_access(x.size()));
  m.op(Micro::kFma, {v, m.input(l.add_constant(node.name + ".scale", Tensor::from_floats(g, {n})), per_channel), m.input(l.add_constant(node.name + ".bias", Tensor::from_floats(h, {n})), per_channel)});
  l.define(node.outputs[0], x, form.perm, m.finish(l.store_type(l.type(node.inputs[0]))));
}

constexpr Operator kOperators[] = {
    {"", "ReduceSum", lower_reduce<Kind::kSum>, "VX"},
    {"", "ReduceMean", lower_reduce<Kind::kMean>, "VX"},
    {"", "ReduceMax", lower_reduce<Kind::kMax>, "VX"},
    {"", "ReduceMin", lower_reduce<Kind::kMin>, "VX"},
    {"", "ReduceSumSquare", lower_reduce<Kind::kSumSquare>, "VX"},
    {"", "ReduceL1", lower_reduce<Kind::kL1>, "VX"},
    {"", "ReduceL2", lower_reduce<Kind::kL2>, "VX"},
    {"", "ReduceLogSum", lower_reduce<Kind::kLogSum>, "VX"},
    {"", "Softmax", lower_softmax, "VX"},
    {"", "LogSoftmax", lower_log_softmax, "VX"},
    {"", "ReduceLogSumExp", lower_log_sum_exp, "VX"},
    {"", "RMSNormalization", lower_rms_norm, "VX", 2},
    {"", "LpNormalization", lower_lp_norm, "VX"},
    {"", "LayerNormalization", lower_layer_norm, "VX", 2},
    {"", "InstanceNormalization", lower_instance_norm, "VX", 3},
    {"", "BatchNormalization", lower_batch_norm, "VX", 5, expand_batch_norm},
};

}  // namespace

std::span<const Operator> reduction_operators() { return kOperators; }

}  // namespace systole
