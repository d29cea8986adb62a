// ai.onnx.preview.training: Adam, Adagrad, Momentum. Inputs: R (rate), T (steps so far), then the tensors X, their
// gradients G, and the states, each a run of n.
#include <cmath>

#include "ops/operator.h"

namespace systole {
namespace {

/// Tensors of one kind: `states` runs after X and G.
struct Layout {
  size_t n;
  ValueId rate;
  Layout(const Expander& x, size_t states) : n((x.node.inputs.size() - 2) / (2 + states)), rate(x.in(0)) {
    if (x.node.inputs.size() != 2 + n * (2 + states) || n == 0 || x.node.outputs.size() > n * (1 + states)) malformed(x.node, std::to_string(x.node.inputs.size()) + " inputs", "R, T and runs of equal length");
  }
  ValueId at(const Expander& x, size_t run, size_t i) const { return x.in(2 + run * n + i); }
};

/// The gradient with weight decay.
ValueId regularised(Expander& x, ValueId weights, ValueId gradient) {
  const double norm = static_cast<double>(x.op().real("norm_coefficient", 0));
  return norm == 0 ? gradient : x.add(gradient, x.mul(weights, x.scalar(norm)));
}

/// Number of updates so far, which must be known: it decides the rates.
double steps_so_far(const Expander& x) {
  const TensorPtr t = x.constant(1);
  if (!t || t->count() != 1) unsupported(x.node, "T computed at run time");
  return t->at(0);
}

bool expand_adagrad(Expander& x) {
  const OnnxOp& op = x.op();
  const Layout l(x, 1);
  const double decay = 1 + steps_so_far(x) * static_cast<double>(op.real("decay_factor", 0));
  const ValueId rate = x.mul(l.rate, x.scalar(1 / decay));
  for (size_t i = 0; i < l.n; ++i) {
    const ValueId g = regularised(x, l.at(x, 0, i), l.at(x, 1, i)), h = x.add(l.at(x, 2, i), x.mul(g, g));
    const ValueId step = x.div(x.mul(rate, g), x.add(x.call("Sqrt", {h}), x.scalar(static_cast<double>(op.real("epsilon", 1e-6f)))));
    x.result(i, x.sub(l.at(x, 0, i), step)), x.result(l.n + i, h);
  }
  return true;
}

bool expand_momentum(Expander& x) {
  const OnnxOp& op = x.op();
  const Layout l(x, 1);
  const double alpha = static_cast<double>(op.real("alpha", 0)), beta = steps_so_far(x) > 0 ? static_cast<double>(op.real("beta", 0)) : 1;
  const bool nesterov = op.text("mode", "standard") == "nesterov";
  for (size_t i = 0; i < l.n; ++i) {
    const ValueId g = regularised(x, l.at(x, 0, i), l.at(x, 1, i)), v = x.add(x.mul(l.at(x, 2, i), x.scalar(alpha)), x.mul(g, x.scalar(beta)));
    const ValueId direction = nesterov ? x.add(g, x.mul(v, x.scalar(alpha))) : v;
    x.result(i, x.sub(l.at(x, 0, i), x.mul(l.rate, direction))), x.result(l.n + i, v);
  }
  return true;
}

bool expand_adam(Expander& x) {
  const OnnxOp& op = x.op();
  const Layout l(x, 2);
  const double alpha = static_cast<double>(op.real("alpha", 0.9f)), beta = static_cast<double>(op.real("beta", 0.999f)), t = steps_so_far(x);
  const double correction = t > 0 ? std::sqrt(1 - std::pow(beta, t)) / (1 - std::pow(alpha, t)) : 1, after = static_cast<double>(op.real("norm_coefficient_post", 0));
  const ValueId rate = x.mul(l.rate, x.scalar(correction));
  for (size_t i = 0; i < l.n; ++i) {
    const ValueId g = regularised(x, l.at(x, 0, i), l.at(x, 1, i));
    const ValueId v = x.add(x.mul(l.at(x, 2, i), x.scalar(alpha)), x.mul(g, x.scalar(1 - alpha)));
    const ValueId h = x.add(x.mul(l.at(x, 3, i), x.scalar(beta)), x.mul(x.mul(g, g), x.scalar(1 - beta)));
    const ValueId step = x.div(x.mul(rate, v), x.add(x.call("Sqrt", {h}), x.scalar(static_cast<double>(op.real("epsilon", 1e-6f)))));
    ValueId w = x.sub(l.at(x, 0, i), step);
    if (after != 0) w = x.mul(w, x.scalar(1 - after));
    x.result(i, w), x.result(l.n + i, v), x.result(2 * l.n + i, h);
  }
  return true;
}

constexpr Operator kOperators[] = {
    {"ai.onnx.preview.training", "Adagrad", nullptr, "expands", 5, expand_adagrad},
    {"ai.onnx.preview.training", "Momentum", nullptr, "expands", 5, expand_momentum},
    {"ai.onnx.preview.training", "Adam", nullptr, "expands", 6, expand_adam},
};

}  // namespace

std::span<const Operator> optimizer_operators() { return kOperators; }

}  // namespace systole
