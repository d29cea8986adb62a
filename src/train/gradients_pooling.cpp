// Gradients of pools: windows that tile the input by reshaping, others tap by tap.
#include <algorithm>

#include "graph/checks.h"
#include "train/convolution.h"
#include "train/gradients.h"

namespace systole {
namespace {

struct Pool {
  int64_t kernel[2], stride[2] = {1, 1}, pad[2] = {0, 0}, in[2], out[2];
  explicit Pool(const GradientCall& c) {
    const Shape &x = c.shape(0), &y = c.b.shape(c.out());
    if (x.size() != 4) unsupported(c.node, "the gradient of a pool of other than two dimensions");
    const auto k = c.op().integers("kernel_shape"), s = c.op().integers("strides"), p = c.op().integers("pads"), d = c.op().integers("dilations");
    if (std::any_of(d.begin(), d.end(), [](int64_t v) { return v != 1; })) unsupported(c.node, "the gradient of a dilated pool");
    if (c.op().text("auto_pad", "NOTSET") != std::string("NOTSET")) unsupported(c.node, "the gradient of a pool with auto_pad");
    for (size_t i = 0; i < 2; ++i) {
      kernel[i] = k[i], in[i] = x[2 + i], out[i] = y[2 + i];
      if (!s.empty()) stride[i] = s[i];
      if (!p.empty()) pad[i] = p[i];
    }
  }
  bool tiles() const { return kernel[0] == stride[0] && kernel[1] == stride[1] && !pad[0] && !pad[1] && out[0] * stride[0] == in[0] && out[1] * stride[1] == in[1]; }
  int64_t reach(size_t i) const { return std::max(in[i] + pad[i], (out[i] - 1) * stride[i] + kernel[i]); }
};

/// [N, C, OH, OW] to its windows' shape [N, C, OH, 1, OW, 1].
ValueId spread(Builder& b, ValueId v) {
  const Shape s = b.shape(v);
  return b.reshape(v, {s[0], s[1], s[2], 1, s[3], 1});
}

/// Adds up per-tap gradients [N, C, OH, OW] where their taps read the padded input, and cuts the padding off. Taps a stride apart meet at
/// the same places within a stride: they are added there, and the places put side by side once.
ValueId scatter(GradientCall& c, const Pool& p, const std::vector<ValueId>& taps) {
  Builder& b = c.b;
  const Shape y = b.shape(c.dy());
  const int64_t length[2] = {(p.reach(0) + p.stride[0] - 1) / p.stride[0], (p.reach(1) + p.stride[1] - 1) / p.stride[1]};
  std::vector<ValueId> phases(static_cast<size_t>(p.stride[0] * p.stride[1]), kNoValue);
  for (int64_t kh = 0; kh < p.kernel[0]; ++kh) {
    for (int64_t kw = 0; kw < p.kernel[1]; ++kw) {
      const int64_t h = kh / p.stride[0], w = kw / p.stride[1];
      const ValueId t = b.pad(taps[static_cast<size_t>(kh * p.kernel[1] + kw)], {0, 0, h, w}, {0, 0, length[0] - y[2] - h, length[1] - y[3] - w});
      ValueId& sum = phases[static_cast<size_t>(kh % p.stride[0] * p.stride[1] + kw % p.stride[1])];
      sum = sum == kNoValue ? t : b.add(sum, t);
    }
  }
  const ValueId whole = interleave(b, phases, {p.stride[0], p.stride[1]}, {y[0], y[1], length[0], length[1]});
  return b.slice(whole, {2, 3}, {p.pad[0], p.pad[1]}, {p.pad[0] + p.in[0], p.pad[1] + p.in[1]}, {1, 1});
}

/// Equal maxima share the gradient.
void max_pool(GradientCall& c) {
  Builder& b = c.b;
  const Pool p(c);
  const Shape x = c.shape(0);
  if (p.tiles()) {
    const Shape windows = {x[0], x[1], p.out[0], p.kernel[0], p.out[1], p.kernel[1]};
    const ValueId mask = b.equal(b.reshape(c.in(0), windows), spread(b, c.out()));
    c.inputs[0] = b.reshape(b.mul(mask, b.div(spread(b, c.dy()), b.sum(mask, {3, 5}, true))), x);
    return;
  }
  c.inputs[0] = b.node("MaxPoolGradient", {c.in(0), c.out(), c.dy()}, x);
  auto& op = std::get<OnnxOp>(b.graph().nodes.back().op);
  op.domain = "systole", op.attributes = c.op().attributes;
}

void average_pool(GradientCall& c) {
  Builder& b = c.b;
  const Pool p(c);
  const Shape x = c.shape(0);
  if ((p.pad[0] || p.pad[1]) && !c.op().integer("count_include_pad", 0)) unsupported(c.node, "the gradient of an average pool whose divisors change at the border");
  const ValueId share = b.scale(c.dy(), 1.0 / static_cast<double>(p.kernel[0] * p.kernel[1]));
  if (p.tiles()) c.inputs[0] = b.reshape(b.expand(spread(b, share), {x[0], x[1], p.out[0], p.kernel[0], p.out[1], p.kernel[1]}), x);
  else c.inputs[0] = scatter(c, p, std::vector<ValueId>(static_cast<size_t>(p.kernel[0] * p.kernel[1]), share));
}

void global_average_pool(GradientCall& c) {
  const Shape& x = c.shape(0);
  double n = 1;
  for (size_t d = 2; d < x.size(); ++d) n *= static_cast<double>(x[d]);
  // With channels last, as what it meets: in the other order it would turn every tensor on the way to the first convolution.
  Shape one = {x[0]}, wide = {x[0]};
  std::vector<int64_t> back = {0, static_cast<int64_t>(x.size()) - 1};
  for (size_t d = 2; d < x.size(); ++d) one.push_back(1), wide.push_back(x[d]), back.push_back(static_cast<int64_t>(d) - 1);
  one.push_back(x[1]), wide.push_back(x[1]);
  c.inputs[0] = c.b.transpose(c.b.expand(c.b.reshape(c.b.scale(c.dy(), 1 / n), one), wide), back);
}

constexpr GradientRule kRules[] = {{"MaxPool", max_pool}, {"AveragePool", average_pool}, {"GlobalAveragePool", global_average_pool}};

}  // namespace

std::span<const GradientRule> pooling_gradients() { return kRules; }

}  // namespace systole
