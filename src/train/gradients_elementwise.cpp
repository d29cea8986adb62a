// Gradients of elementwise operators, softmax and casts.
#include <cmath>
#include <numbers>

#include "graph/checks.h"
#include "train/gradients.h"

namespace systole {
namespace {

void give(GradientCall& c, size_t k, ValueId gradient) {
  if (c.wants(k)) c.inputs[k] = c.b.sum_to(gradient, c.shape(k));
}

void add(GradientCall& c) { give(c, 0, c.dy()), give(c, 1, c.dy()); }
void sub(GradientCall& c) {
  give(c, 0, c.dy());
  if (c.wants(1)) give(c, 1, c.b.neg(c.dy()));
}
void mul(GradientCall& c) {
  if (c.wants(0)) give(c, 0, c.b.mul(c.dy(), c.in(1)));
  if (c.wants(1)) give(c, 1, c.b.mul(c.dy(), c.in(0)));
}
void div(GradientCall& c) {
  if (c.wants(0)) give(c, 0, c.b.div(c.dy(), c.in(1)));
  if (c.wants(1)) give(c, 1, c.b.neg(c.b.div(c.b.mul(c.dy(), c.out()), c.in(1))));
}
void sum_of(GradientCall& c) {
  for (size_t k = 0; k < c.node.inputs.size(); ++k) give(c, k, c.dy());
}
void mean_of(GradientCall& c) {
  const ValueId share = c.b.scale(c.dy(), 1 / static_cast<double>(c.node.inputs.size()));
  for (size_t k = 0; k < c.node.inputs.size(); ++k) give(c, k, share);
}
void pass(GradientCall& c) { c.inputs[0] = c.dy(); }
/// Integers have no gradient.
void cast(GradientCall& c) {
  if (is_float(c.b.graph().value(c.in(0)).type)) c.inputs[0] = c.dy();
}
/// By the scale alone: codes that do not change times it, one for all, per slice along an axis or per block of one.
void dequantize(GradientCall& c) {
  if (!c.constant(0)) unsupported(c.node, "the gradient through codes that a run computes");
  if (!c.wants(1)) return;
  Builder& b = c.b;
  const Shape x = c.shape(0), scales = c.shape(1);
  std::vector<ValueId> inputs = {c.in(0), b.tensor(Tensor::from_floats(std::vector<float>(static_cast<size_t>(element_count(scales)), 1.0f), scales))};
  if (c.in(2) != kNoValue) inputs.push_back(c.in(2));
  Builder::Attributes attributes = {{"axis", c.op().integer("axis", 1)}, {"block_size", c.op().integer("block_size", 0)}};
  const ValueId share = b.mul(c.dy(), b.node("DequantizeLinear", inputs, x, attributes));
  if (element_count(scales) == 1) {
    c.inputs[1] = b.reshape(b.sum_to(share, Shape(x.size(), 1)), scales);
    return;
  }
  const auto axis = static_cast<size_t>(normalise_axis(c.node, c.op().integer("axis", 1), static_cast<int64_t>(x.size())));
  if (scales.size() == 1) {
    Shape along(x.size(), 1);
    along[axis] = scales[0];
    c.inputs[1] = b.reshape(b.sum_to(share, along), scales);
    return;
  }
  if (x[axis] % scales[axis] != 0) unsupported(c.node, "the gradient of scales whose last block is not whole");
  Shape blocks = x;
  blocks[axis] = scales[axis];
  blocks.insert(blocks.begin() + static_cast<long>(axis) + 1, x[axis] / scales[axis]);
  c.inputs[1] = b.sum(b.reshape(share, blocks), {static_cast<int64_t>(axis) + 1}, false);
}
/// x - floor(x / m) m, or with the sign of x (fmod).
void mod(GradientCall& c) {
  give(c, 0, c.dy());
  if (!c.wants(1)) return;
  const ValueId whole = c.b.div(c.b.sub(c.in(0), c.out()), c.in(1));
  give(c, 1, c.b.neg(c.b.mul(c.dy(), whole)));
}
/// 1 + tan^2
void tan(GradientCall& c) { c.inputs[0] = c.b.mul(c.dy(), c.b.add(c.b.mul(c.out(), c.out()), c.b.scalar(1))); }
void neg(GradientCall& c) { c.inputs[0] = c.b.neg(c.dy()); }
void exp(GradientCall& c) { c.inputs[0] = c.b.mul(c.dy(), c.out()); }
void log(GradientCall& c) { c.inputs[0] = c.b.div(c.dy(), c.in(0)); }
void sqrt(GradientCall& c) { c.inputs[0] = c.b.scale(c.b.div(c.dy(), c.out()), 0.5); }
void reciprocal(GradientCall& c) { c.inputs[0] = c.b.neg(c.b.mul(c.dy(), c.b.mul(c.out(), c.out()))); }
void abs(GradientCall& c) { c.inputs[0] = c.b.mul(c.dy(), c.b.unary("Sign", c.in(0))); }
/// By the sign of its output, which has the input's: what comes before a Relu need not be kept.
void relu(GradientCall& c) { c.inputs[0] = c.b.mul(c.dy(), c.b.greater(c.out(), c.b.scalar(0))); }
void sigmoid(GradientCall& c) { c.inputs[0] = c.b.mul(c.dy(), c.b.mul(c.out(), c.b.sub(c.b.scalar(1), c.out()))); }
void tanh(GradientCall& c) { c.inputs[0] = c.b.mul(c.dy(), c.b.sub(c.b.scalar(1), c.b.mul(c.out(), c.out()))); }
void leaky_relu(GradientCall& c) {
  const double alpha = static_cast<double>(c.op().real("alpha", 0.01f));
  c.inputs[0] = c.b.mul(c.dy(), c.b.add(c.b.scale(c.b.greater(c.in(0), c.b.scalar(0)), 1 - alpha), c.b.scalar(alpha)));
}
/// d/dx erf = 2 / sqrt(pi) exp(-x^2)
void erf(GradientCall& c) {
  const ValueId bell = c.b.unary("Exp", c.b.neg(c.b.mul(c.in(0), c.in(0))));
  c.inputs[0] = c.b.mul(c.dy(), c.b.scale(bell, 2 / std::sqrt(std::numbers::pi)));
}
void softplus(GradientCall& c) { c.inputs[0] = c.b.mul(c.dy(), c.b.unary("Sigmoid", c.in(0))); }
/// e x^(e - 1), and x^e ln x for the exponent, which wants x above 0.
void pow(GradientCall& c) {
  Builder& b = c.b;
  const TensorPtr e = c.constant(1);
  if (e && e->count() == 1) {
    const double p = e->at(0);
    if (c.wants(0)) give(c, 0, b.mul(c.dy(), p == 2 ? b.scale(c.in(0), 2) : b.scale(b.binary("Pow", c.in(0), b.scalar(p - 1)), p)));
    return;
  }
  const ValueId exponent = e ? b.tensor(Tensor::from_floats(e->to_floats(), e->shape)) : c.in(1);
  if (!is_float(b.graph().value(exponent).type)) unsupported(c.node, "the gradient of a power whose integer exponents come at run time");
  if (c.wants(0)) give(c, 0, b.mul(c.dy(), b.mul(exponent, b.binary("Pow", c.in(0), b.sub(exponent, b.scalar(1))))));
  if (c.wants(1)) give(c, 1, b.mul(c.dy(), b.mul(c.out(), b.unary("Log", c.in(0)))));
}
/// 1 inside the bounds, which were attributes before opset 11. Bounds that are computed have none.
void clip(GradientCall& c) {
  Builder& b = c.b;
  const auto bound = [&](size_t k, const char* name) { return c.in(k) != kNoValue ? c.in(k) : c.op().has(name) ? b.scalar(static_cast<double>(c.op().real(name, 0))) : kNoValue; };
  const ValueId lo = bound(1, "min"), hi = bound(2, "max");
  for (size_t k : {1, 2}) {
    if (c.in(k) != kNoValue && c.wants(k)) unsupported(c.node, "the gradient of a bound");
  }
  ValueId mask = lo == kNoValue ? kNoValue : b.greater(c.in(0), lo);
  if (hi != kNoValue) {
    const ValueId below = b.greater(hi, c.in(0));
    mask = mask == kNoValue ? below : b.mul(mask, below);
  }
  c.inputs[0] = mask == kNoValue ? c.dy() : b.mul(c.dy(), mask);
}
/// dx = y (dy - sum(dy y))
void softmax(GradientCall& c) {
  const int64_t axis = normalise_axis(c.node, c.op().integer("axis", -1), c.b.rank(c.in(0)));
  const ValueId weighted = c.b.mul(c.dy(), c.out());
  c.inputs[0] = c.b.sub(weighted, c.b.mul(c.out(), c.b.sum(weighted, {axis}, true)));
}
/// dx = dy - exp(y) sum(dy)
void log_softmax(GradientCall& c) {
  const int64_t axis = normalise_axis(c.node, c.op().integer("axis", -1), c.b.rank(c.in(0)));
  c.inputs[0] = c.b.sub(c.dy(), c.b.mul(c.b.unary("Exp", c.out()), c.b.sum(c.dy(), {axis}, true)));
}
/// With x' = (x - mean) / deviation and g = dy scale: dx = (g - mean(g) - x' mean(g x')) / deviation. The node has its statistics as outputs
/// (expand_layer_normalization), mean and r = 1 / deviation; what reads them gives (dmean - x' r^2 dr) / count beside.
void layer_normalization(GradientCall& c) {
  std::vector<int64_t> axes;
  for (int64_t a = normalise_axis(c.node, c.op().integer("axis", -1), c.b.rank(c.in(0))); a < c.b.rank(c.in(0)); ++a) axes.push_back(a);
  const ValueId mean = c.node.outputs.at(1), inverse = c.node.outputs.at(2);
  const ValueId normal = c.b.mul(c.b.sub(c.in(0), mean), inverse);
  ValueId dx = kNoValue;
  const auto add = [&](ValueId part) { dx = dx == kNoValue ? part : c.b.add(dx, part); };
  if (c.dy() != kNoValue) {
    if (c.wants(1)) give(c, 1, c.b.mul(c.dy(), normal));
    if (c.in(2) != kNoValue) give(c, 2, c.dy());
    const ValueId g = c.b.mul(c.dy(), c.in(1));
    const ValueId along = c.b.mul(normal, c.b.mean(c.b.mul(g, normal), axes, true));
    add(c.b.mul(inverse, c.b.sub(c.b.sub(g, c.b.mean(g, axes, true)), along)));
  }
  const double share = static_cast<double>(element_count(c.b.shape(mean))) / static_cast<double>(element_count(c.shape(0)));
  if (c.outputs.at(1) != kNoValue) add(c.b.expand(c.b.scale(c.outputs[1], share), c.shape(0)));
  if (c.outputs.at(2) != kNoValue) add(c.b.mul(normal, c.b.scale(c.b.mul(c.outputs[2], c.b.mul(inverse, inverse)), -share)));
  if (c.wants(0)) c.inputs[0] = dx;
}
/// Where(mask, a, b)
void where(GradientCall& c) {
  const ValueId zero = c.b.scalar(0);
  auto chosen = [&](ValueId a, ValueId b) {
    return c.b.node("Where", {c.in(0), a, b}, c.b.shape(c.out()));
  };
  if (c.wants(1)) give(c, 1, chosen(c.dy(), zero));
  if (c.wants(2)) give(c, 2, chosen(zero, c.dy()));
}

constexpr GradientRule kRules[] = {{"Add", add}, {"Sub", sub}, {"Mul", mul}, {"Div", div}, {"Sum", sum_of}, {"Mean", mean_of}, {"Identity", pass}, {"Cast", cast}, {"CastLike", cast}, {"Dropout", pass}, {"Round", pass}, {"Neg", neg}, {"Exp", exp}, {"Log", log}, {"Sqrt", sqrt},
                                   {"Reciprocal", reciprocal}, {"Abs", abs}, {"Relu", relu}, {"Sigmoid", sigmoid}, {"Tanh", tanh}, {"LeakyRelu", leaky_relu}, {"Erf", erf}, {"Softplus", softplus}, {"Pow", pow},
                                   {"Clip", clip}, {"Softmax", softmax}, {"LogSoftmax", log_softmax}, {"LayerNormalization", layer_normalization}, {"Where", where}, {"Mod", mod}, {"Tan", tan}, {"DequantizeLinear", dequantize}};
/// Constant but where they jump, or counts and shapes.
constexpr const char* kFlat[] = {"Shape", "Size", "Sign", "Floor", "Ceil", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor", "Not", "ArgMax", "ArgMin", "IsNaN", "IsInf", "Hardmax", "NonZero", "EyeLike"};

}  // namespace

std::span<const GradientRule> elementwise_gradients() { return kRules; }
std::span<const char* const> flat_operators() { return kFlat; }

}  // namespace systole
