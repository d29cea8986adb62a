// Gradients of activations that are one operator in ONNX.
#include <cmath>
#include <numbers>

#include "graph/checks.h"
#include "train/gradients.h"

namespace systole {
namespace {

double alpha(const GradientCall& c, float standard) { return static_cast<double>(c.op().real("alpha", standard)); }
/// 1 where v > limit.
ValueId above(GradientCall& c, ValueId v, double limit) { return c.b.greater(v, c.b.scalar(limit)); }
ValueId one_minus(Builder& b, ValueId v) { return b.sub(b.scalar(1), v); }
/// dy times `inside` where x > 0, else times `outside`.
void by_sign(GradientCall& c, double inside, ValueId outside) {
  const ValueId positive = above(c, c.in(0), 0);
  c.inputs[0] = c.b.mul(c.dy(), c.b.add(c.b.scale(positive, inside), c.b.mul(one_minus(c.b, positive), outside)));
}

/// x Phi(x): Phi + x phi; or its approximation by tanh.
void gelu(GradientCall& c) {
  Builder& b = c.b;
  const ValueId x = c.in(0), square = b.mul(x, x);
  if (c.op().text("approximate", "none") == std::string("tanh")) {
    const double k = std::sqrt(2 / std::numbers::pi);
    const ValueId t = b.unary("Tanh", b.scale(b.mul(x, b.add(b.scale(square, 0.044715), b.scalar(1))), k));
    const ValueId inner = b.add(b.scale(square, 3 * 0.044715 * k), b.scalar(k));
    const ValueId slope = b.mul(b.mul(b.scale(x, 0.5), one_minus(b, b.mul(t, t))), inner);
    c.inputs[0] = b.mul(c.dy(), b.add(b.scale(b.add(t, b.scalar(1)), 0.5), slope));
    return;
  }
  const ValueId below = b.scale(b.add(b.unary("Erf", b.scale(x, 1 / std::numbers::sqrt2)), b.scalar(1)), 0.5);
  const ValueId density = b.scale(b.unary("Exp", b.scale(square, -0.5)), 1 / std::sqrt(2 * std::numbers::pi));
  c.inputs[0] = b.mul(c.dy(), b.add(below, b.mul(x, density)));
}

/// alpha inside the bounds of the output.
ValueId hard_slope(GradientCall& c, ValueId y, double slope) { return c.b.scale(c.b.mul(above(c, y, 0), c.b.greater(c.b.scalar(1), y)), slope); }
void hard_sigmoid(GradientCall& c) { c.inputs[0] = c.b.mul(c.dy(), hard_slope(c, c.out(), alpha(c, 0.2f))); }
/// x h(x), h = clip(x / 6 + 1/2, 0, 1)
void hard_swish(GradientCall& c) {
  Builder& b = c.b;
  const ValueId line = b.add(b.scale(c.in(0), 1.0 / 6), b.scalar(0.5));
  const ValueId h = b.binary("Min", b.binary("Max", line, b.scalar(0)), b.scalar(1));
  c.inputs[0] = b.mul(c.dy(), b.add(h, b.mul(c.in(0), hard_slope(c, line, 1.0 / 6))));
}

void elu(GradientCall& c) { by_sign(c, 1, c.b.add(c.out(), c.b.scalar(alpha(c, 1)))); }
void selu(GradientCall& c) {
  const double gamma = static_cast<double>(c.op().real("gamma", 1.05070102f));
  by_sign(c, gamma, c.b.add(c.out(), c.b.scalar(gamma * alpha(c, 1.67326319f))));
}
void celu(GradientCall& c) { by_sign(c, 1, c.b.add(c.b.scale(c.out(), 1 / alpha(c, 1)), c.b.scalar(1))); }
void thresholded_relu(GradientCall& c) { c.inputs[0] = c.b.mul(c.dy(), above(c, c.in(0), alpha(c, 1))); }
/// Slope 1 outside of the band, 0 in it.
void shrink(GradientCall& c) {
  const double limit = static_cast<double>(c.op().real("lambd", 0.5f));
  c.inputs[0] = c.b.mul(c.dy(), above(c, c.b.unary("Abs", c.in(0)), limit));
}
/// Until opset 6 slopes are one for all or one per channel.
void prelu(GradientCall& c) {
  Builder& b = c.b;
  const ValueId positive = above(c, c.in(0), 0), negative = one_minus(b, positive);
  Shape slopes = c.shape(1);
  if (c.op().opset < 7 && slopes.size() == 1) slopes.resize(c.shape(0).size() - 1, 1);  // behind the batch
  if (c.wants(0)) c.inputs[0] = b.mul(c.dy(), b.add(positive, b.mul(negative, b.reshape(c.in(1), slopes))));
  if (c.wants(1)) c.inputs[1] = b.reshape(b.sum_to(b.mul(c.dy(), b.mul(negative, c.in(0))), slopes), c.shape(1));
}
/// 1 / (1 + |x|)^2
void softsign(GradientCall& c) {
  const ValueId d = c.b.add(c.b.unary("Abs", c.in(0)), c.b.scalar(1));
  c.inputs[0] = c.b.div(c.dy(), c.b.mul(d, d));
}
/// x tanh(softplus(x))
void mish(GradientCall& c) {
  Builder& b = c.b;
  const ValueId t = b.unary("Tanh", b.unary("Softplus", c.in(0)));
  c.inputs[0] = b.mul(c.dy(), b.add(t, b.mul(b.mul(c.in(0), one_minus(b, b.mul(t, t))), b.unary("Sigmoid", c.in(0)))));
}
/// x s(a x): s + a y (1 - s)
void swish(GradientCall& c) {
  Builder& b = c.b;
  const double a = alpha(c, 1);
  const ValueId s = b.unary("Sigmoid", b.scale(c.in(0), a));
  c.inputs[0] = b.mul(c.dy(), b.add(s, b.scale(b.mul(c.out(), one_minus(b, s)), a)));
}
void sine(GradientCall& c) { c.inputs[0] = c.b.mul(c.dy(), c.b.unary("Cos", c.in(0))); }
void cosine(GradientCall& c) { c.inputs[0] = c.b.neg(c.b.mul(c.dy(), c.b.unary("Sin", c.in(0)))); }

/// Greatest or least of several: equals share the gradient.
void extreme(GradientCall& c) {
  Builder& b = c.b;
  std::vector<ValueId> masks;
  ValueId count = kNoValue;
  for (ValueId v : c.node.inputs) {
    masks.push_back(b.equal(v, c.out()));
    count = count == kNoValue ? masks.back() : b.add(count, masks.back());
  }
  const ValueId share = b.div(c.dy(), count);
  for (size_t k = 0; k < masks.size(); ++k) {
    if (c.wants(k)) c.inputs[k] = b.sum_to(b.mul(masks[k], share), c.shape(k));
  }
}

constexpr GradientRule kRules[] = {{"Gelu", gelu}, {"HardSigmoid", hard_sigmoid}, {"HardSwish", hard_swish}, {"Elu", elu}, {"Selu", selu}, {"Celu", celu}, {"ThresholdedRelu", thresholded_relu}, {"Shrink", shrink},
                                   {"PRelu", prelu}, {"Softsign", softsign}, {"Mish", mish}, {"Swish", swish}, {"Sin", sine}, {"Cos", cosine}, {"Max", extreme}, {"Min", extreme}};

}  // namespace

std::span<const GradientRule> activation_gradients() { return kRules; }

}  // namespace systole
