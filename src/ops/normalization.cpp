// GroupNormalization (18, 21), LRN, MeanVarianceNormalization, LpPool, BatchNormalization in training mode, Hardmax: written
// as reductions, pools and arithmetic.
#include "ops/normalization.h"

#include <algorithm>

#include "ops/operator.h"

namespace systole {
namespace {

std::vector<int64_t> axes_from(size_t first, size_t rank) {
  std::vector<int64_t> axes;
  for (size_t d = first; d < rank; ++d) axes.push_back(static_cast<int64_t>(d));
  return axes;
}

ValueId reduce(Expander& x, const char* type, ValueId v, const std::vector<int64_t>& axes) { return x.call(type, {v, x.ints(axes)}); }

/// (v - mean) / sqrt(variance + epsilon) over some axes, with one division for all that share a variance.
ValueId standardise(Expander& x, ValueId v, const std::vector<int64_t>& axes, double epsilon) {
  const ValueId centred = x.sub(v, reduce(x, "ReduceMean", v, axes));
  const ValueId variance = reduce(x, "ReduceMean", x.mul(centred, centred), axes);
  return x.mul(centred, x.call("Reciprocal", {x.call("Sqrt", {x.add(variance, x.scalar(epsilon))})}));
}

bool expand_group_norm(Expander& x) {
  const Shape s = x.shape(0);
  const int64_t groups = x.op().integer("num_groups", 0);
  if (s.size() < 2 || groups < 1 || s[1] % groups) malformed(x.node, std::to_string(groups) + " groups for " + to_string(s), "groups that divide the channels");
  int64_t inner = 1;
  for (size_t d = 2; d < s.size(); ++d) inner *= s[d];
  const ValueId y = x.reshape(standardise(x, x.reshape(x.in(0), {s[0], groups, s[1] / groups * inner}), {2}, static_cast<double>(x.op().real("epsilon", 1e-5f))), {s[0], s[1], inner});
  // Up to opset 20 scale and bias are per group.
  auto per_channel = [&](size_t k) {
    ValueId v = x.in(k);
    if (element_count(x.shape(k)) == groups && groups != s[1]) v = x.call("Expand", {x.reshape(v, {groups, 1}), x.ints({groups, s[1] / groups})});
    return x.reshape(v, {1, s[1], 1});
  };
  x.result(0, x.reshape(x.add(x.mul(y, per_channel(1)), per_channel(2)), s));
  return true;
}

/// x / (bias + alpha / size x sum of squares over `size` neighbouring channels)^beta.
bool expand_lrn(Expander& x) {
  const OnnxOp& op = x.op();
  const Shape s = x.shape(0);
  const int64_t size = op.integer("size", 1), before = (size - 1) / 2;
  if (s.size() < 2 || size < 1) malformed(x.node, "size " + std::to_string(size), "1 or more");
  int64_t inner = 1;
  for (size_t d = 2; d < s.size(); ++d) inner *= s[d];
  const ValueId squares = x.reshape(x.mul(x.in(0), x.in(0)), {s[0], 1, s[1], inner});
  const ValueId mean = x.call("AveragePool", {squares}, {{"kernel_shape", std::vector<int64_t>{size, 1}}, {"pads", std::vector<int64_t>{before, 0, size - 1 - before, 0}}, {"count_include_pad", int64_t{1}}});
  const ValueId base = x.add(x.mul(mean, x.scalar(static_cast<double>(op.real("alpha", 1e-4f)))), x.scalar(static_cast<double>(op.real("bias", 1))));
  x.result(0, x.div(x.in(0), x.reshape(x.call("Pow", {base, x.scalar(static_cast<double>(op.real("beta", 0.75f)))}), s)));
  return true;
}

bool expand_mvn(Expander& x) {
  auto axes = x.op().integers("axes");
  if (axes.empty()) axes = {0, 2, 3};
  const ValueId centred = x.sub(x.in(0), reduce(x, "ReduceMean", x.in(0), axes));
  const ValueId deviation = x.call("Sqrt", {reduce(x, "ReduceMean", x.mul(centred, centred), axes)});
  x.result(0, x.div(centred, x.add(deviation, x.scalar(1e-9))));
  return true;
}

/// The average of |x|^p, times the number of taps, to the power 1 / p.
bool expand_lp_pool(Expander& x) {
  const OnnxOp& op = x.op();
  const double p = static_cast<double>(op.integer("p", 2));
  std::vector<Expander::NamedAttribute> attributes = {{"count_include_pad", int64_t{1}}};
  for (const char* name : {"kernel_shape", "strides", "pads", "dilations", "auto_pad", "ceil_mode"}) {
    if (op.has(name)) attributes.emplace_back(name, op.attributes.at(name));
  }
  if (op.integer("ceil_mode", 0) || x.shape(0).size() > 4) return false;
  double taps = 1;
  for (int64_t k : op.integers("kernel_shape")) taps *= static_cast<double>(k);
  const ValueId powered = p == 2 ? x.mul(x.in(0), x.in(0)) : p == 1 ? x.call("Abs", {x.in(0)}) : x.call("Pow", {x.call("Abs", {x.in(0)}), x.scalar(p)});
  const ValueId sum = x.mul(x.call("AveragePool", {powered}, attributes), x.scalar(taps));
  x.result(0, p == 2 ? x.call("Sqrt", {sum}) : p == 1 ? sum : x.call("Pow", {sum, x.scalar(1 / p)}));
  return true;
}

bool expand_global_lp_pool(Expander& x) {
  const double p = static_cast<double>(x.op().integer("p", 2));
  const ValueId powered = x.call("Pow", {x.call("Abs", {x.in(0)}), x.scalar(p)});
  x.result(0, x.call("Pow", {reduce(x, "ReduceSum", powered, axes_from(2, x.shape(0).size())), x.scalar(1 / p)}));
  return true;
}

constexpr Operator kOperators[] = {
    {"", "GroupNormalization", nullptr, "expands", 3, expand_group_norm},
    {"", "LRN", nullptr, "expands", 1, expand_lrn},
    {"", "MeanVarianceNormalization", nullptr, "expands", 1, expand_mvn},
    {"", "LpPool", nullptr, "expands", 1, expand_lp_pool},
    {"", "GlobalLpPool", nullptr, "expands", 1, expand_global_lp_pool},
};

}  // namespace

/// Statistics of this batch, and running ones that follow it. Run-time parameters in inference mode too.
bool expand_batch_norm(Expander& x) {
  const OnnxOp& op = x.op();
  const bool training = op.integer("training_mode", 0) != 0;
  if (!training && std::all_of(x.node.inputs.begin() + 1, x.node.inputs.end(), [&, k = size_t{1}](ValueId) mutable { return x.constant(k++) != nullptr; })) return false;
  const Shape s = x.shape(0);
  if (s.size() < 2) malformed(x.node, "shape " + to_string(s), "[N,C,...]");
  std::vector<int64_t> axes = axes_from(2, s.size());
  axes.insert(axes.begin(), 0);
  Shape wide(s.size(), 1);
  wide[1] = s[1];
  const ValueId epsilon = x.scalar(static_cast<double>(op.real("epsilon", 1e-5f)));
  ValueId mean = x.reshape(x.in(3), wide), variance = x.reshape(x.in(4), wide);
  if (training) {
    mean = reduce(x, "ReduceMean", x.in(0), axes);
    const ValueId centred = x.sub(x.in(0), mean);
    variance = reduce(x, "ReduceMean", x.mul(centred, centred), axes);
    const double keep = static_cast<double>(op.real("momentum", 0.9f));
    auto follow = [&](ValueId running, ValueId now) { return x.add(x.mul(running, x.scalar(keep)), x.mul(x.reshape(now, {s[1]}), x.scalar(1 - keep))); };
    x.result(1, follow(x.in(3), mean)), x.result(2, follow(x.in(4), variance));
  }
  const ValueId gain = x.div(x.reshape(x.in(1), wide), x.call("Sqrt", {x.add(variance, epsilon)}));
  x.result(0, x.add(x.mul(x.sub(x.in(0), mean), gain), x.reshape(x.in(2), wide)));
  return true;
}

std::span<const Operator> normalization_operators() { return kOperators; }

}  // namespace systole
