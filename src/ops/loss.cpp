// NegativeLogLikelihoodLoss (12, 13, 22) and SoftmaxCrossEntropyLoss (12, 13): a mask of the target classes, products, sums.
#include <algorithm>

#include "ops/operator.h"

namespace systole {
namespace {

/// [N, C, d...] log-probabilities and targets [N, d...] to a loss per target, or its weighted mean or sum.
void expand_loss(Expander& x, ValueId log_probabilities) {
  const OnnxOp& op = x.op();
  const Shape s = x.shape(0), target = x.shape(1);
  Shape expected = s;
  if (s.size() >= 2) expected.erase(expected.begin() + 1);
  if (s.size() < 2 || target != expected) malformed(x.node, "scores " + to_string(s) + " and targets " + to_string(target), "[N,C,...] and [N,...]");
  const bool ignores = op.has("ignore_index");
  const int64_t ignored = op.integer("ignore_index", 0), classes = s[1];
  const std::string reduction = op.text("reduction", "mean");
  // An ignored index may lie outside of the classes: it selects none of them then.
  const ValueId ids = x.cast(x.in(1), DType::kI64);
  Tensor values(DType::kF32, {2});
  values.set(1, 1);
  const ValueId depth = x.constant_tensor(Tensor::from_ints({classes}, {1}));
  ValueId chosen = x.call("OneHot", {ids, depth, x.constant_tensor(values)}, {{"axis", int64_t{1}}});
  Shape per_class(s.size(), 1);
  per_class[1] = classes;
  if (x.has(2)) chosen = x.mul(chosen, x.reshape(x.in(2), per_class));
  if (ignores && ignored >= 0 && ignored < classes) {
    Tensor keep(DType::kF32, per_class);
    for (int64_t c = 0; c < classes; ++c) keep.set(c, c != ignored);
    chosen = x.mul(chosen, x.constant_tensor(keep));
  }
  if (ignores && ignored < 0 && ignored >= -classes) {
    const ValueId kept = x.call("Not", {x.call("Equal", {ids, x.constant_tensor(Tensor::from_ints({ignored}, {}))})});
    Shape wide = s;
    wide[1] = 1;
    chosen = x.mul(chosen, x.reshape(x.cast(kept, DType::kF32), wide));
  }
  const ValueId per_target = x.call("Neg", {x.call("ReduceSum", {x.mul(log_probabilities, chosen), x.ints({1})}, {{"keepdims", int64_t{0}}})});
  auto total = [&](ValueId v) { return x.call("ReduceSum", {v}, {{"keepdims", int64_t{0}}}); };
  if (reduction == "none") x.result(0, per_target);
  else if (reduction == "sum") x.result(0, total(per_target));
  else x.result(0, x.div(total(per_target), total(chosen)));
}

bool expand_nll_loss(Expander& x) {
  expand_loss(x, x.in(0));
  return true;
}

bool expand_softmax_loss(Expander& x) {
  const ValueId log_probabilities = x.call("LogSoftmax", {x.in(0)}, {{"axis", int64_t{1}}});
  x.result(1, log_probabilities);
  expand_loss(x, log_probabilities);
  return true;
}

constexpr Operator kOperators[] = {
    {"", "NegativeLogLikelihoodLoss", nullptr, "expands", 2, expand_nll_loss},
    {"", "SoftmaxCrossEntropyLoss", nullptr, "expands", 2, expand_softmax_loss},
};

}  // namespace

std::span<const Operator> loss_operators() { return kOperators; }

}  // namespace systole
