// Gradients of pools: windows that tile the input by reshaping, others tap by tap.
#include <algorithm>
#include <cmath>

#include "graph/checks.h"
#include "ops/window.h"
#include "train/convolution.h"
#include "train/gradients.h"

namespace systole {
namespace {

constexpr int64_t kMostTaps = 1024;  ///< that are maps of their own

/// Pools over one dimension are pools over two, of which the first has one row: what reads `x`, `y` and `dy` sees [N, C, H, W].
struct Pool {
  Window w;
  ValueId x, y, dy;
  explicit Pool(GradientCall& c) : w(read_window(c.node, c.op(), c.shape(0), c.op().integers("kernel_shape"), c.op().integer("ceil_mode", 0) != 0)), x(wide(c.b, c.in(0))), y(wide(c.b, c.out())), dy(wide(c.b, c.dy())) {}
  static ValueId wide(Builder& b, ValueId v) {
    const Shape s = b.shape(v);
    return s.size() == 4 ? v : b.reshape(v, {s[0], s[1], 1, s[2]});
  }
  /// Windows lie side by side and have all of the input.
  bool tiles() const {
    const auto along = [&](size_t d) { return w.kernel[d] == w.stride[d] && w.dilation[d] == 1 && w.pad_begin[d] == 0 && w.out[d] * w.stride[d] == w.in[d]; };
    return along(0) && along(1);
  }
  bool dilated() const { return w.dilation[0] > 1 || w.dilation[1] > 1; }
  int64_t taps() const { return w.kernel[0] * w.kernel[1]; }
  /// Rows, or columns, from the first that a window reads, before the input by its pad, to the last of the input or of a window.
  int64_t reach(size_t d) const { return std::max(w.in[d] + w.pad_begin[d], (w.out[d] - 1) * w.stride[d] + (w.kernel[d] - 1) * w.dilation[d] + 1); }
};

/// [N, C, OH, OW] to its windows' shape [N, C, OH, 1, OW, 1].
ValueId spread(Builder& b, ValueId v) {
  const Shape s = b.shape(v);
  return b.reshape(v, {s[0], s[1], s[2], 1, s[3], 1});
}

void refuse_many_taps(const GradientCall& c, const Pool& p) {
  if (p.taps() > kMostTaps) unsupported(c.node, "the gradient of a pool of more than " + std::to_string(kMostTaps) + " taps that overlap");
}

/// Adds up per-tap gradients [N, C, OH, OW] where their taps read the padded input, and cuts the padding off. Taps a stride apart meet at
/// the same places within a stride: they are added there, and the places put side by side once.
ValueId scatter(GradientCall& c, const Pool& p, const std::vector<ValueId>& taps) {
  Builder& b = c.b;
  const Window& w = p.w;
  const Shape y = b.shape(p.dy);
  const int64_t length[2] = {(p.reach(0) + w.stride[0] - 1) / w.stride[0], (p.reach(1) + w.stride[1] - 1) / w.stride[1]};
  std::vector<ValueId> phases(static_cast<size_t>(w.stride[0] * w.stride[1]), kNoValue);
  for (int64_t kh = 0; kh < w.kernel[0]; ++kh) {
    for (int64_t kw = 0; kw < w.kernel[1]; ++kw) {
      const int64_t row = kh * w.dilation[0], column = kw * w.dilation[1], h = row / w.stride[0], v = column / w.stride[1];
      const ValueId t = b.pad(taps[static_cast<size_t>(kh * w.kernel[1] + kw)], {0, 0, h, v}, {0, 0, length[0] - y[2] - h, length[1] - y[3] - v});
      ValueId& sum = phases[static_cast<size_t>(row % w.stride[0] * w.stride[1] + column % w.stride[1])];
      sum = sum == kNoValue ? t : b.add(sum, t);
    }
  }
  const ValueId whole = interleave(b, phases, {w.stride[0], w.stride[1]}, {y[0], y[1], length[0], length[1]});
  return b.slice(whole, {2, 3}, {w.pad_begin[0], w.pad_begin[1]}, {w.pad_begin[0] + w.in[0], w.pad_begin[1] + w.in[1]}, {1, 1});
}

/// Tap by tap: the input as each sees it, outside of it less than any maximum.
std::vector<ValueId> dilated_max_taps(GradientCall& c, const Pool& p) {
  Builder& b = c.b;
  const Window& w = p.w;
  const ValueId whole = b.pad(p.x, {0, 0, w.pad_begin[0], w.pad_begin[1]}, {0, 0, p.reach(0) - w.pad_begin[0] - w.in[0], p.reach(1) - w.pad_begin[1] - w.in[1]}, -INFINITY);
  std::vector<ValueId> masks, taps;
  ValueId count = kNoValue;
  for (int64_t t = 0; t < p.taps(); ++t) {
    const int64_t row = t / w.kernel[1] * w.dilation[0], column = t % w.kernel[1] * w.dilation[1];
    const ValueId seen = b.slice(whole, {2, 3}, {row, column}, {row + (w.out[0] - 1) * w.stride[0] + 1, column + (w.out[1] - 1) * w.stride[1] + 1}, {w.stride[0], w.stride[1]});
    masks.push_back(b.equal(seen, p.y));
    count = count == kNoValue ? masks.back() : b.add(count, masks.back());
  }
  const ValueId share = b.div(p.dy, count);
  for (ValueId mask : masks) taps.push_back(b.mul(mask, share));
  return taps;
}

/// Equal maxima share the gradient.
void max_pool(GradientCall& c) {
  Builder& b = c.b;
  const Pool p(c);
  const Window& w = p.w;
  const Shape x = b.shape(p.x);
  if (p.tiles()) {
    const ValueId mask = b.equal(b.reshape(p.x, {x[0], x[1], w.out[0], w.kernel[0], w.out[1], w.kernel[1]}), spread(b, p.y));
    c.inputs[0] = b.reshape(b.mul(mask, b.div(spread(b, p.dy), b.sum(mask, {3, 5}, true))), c.shape(0));
  } else if (p.dilated()) {
    refuse_many_taps(c, p);
    c.inputs[0] = b.reshape(scatter(c, p, dilated_max_taps(c, p)), c.shape(0));
  } else {
    c.inputs[0] = b.node("MaxPoolGradient", {c.in(0), c.out(), c.dy()}, c.shape(0));
    auto& op = std::get<OnnxOp>(b.graph().nodes.back().op);
    op.domain = "systole", op.attributes = c.op().attributes;
  }
}

void average_pool(GradientCall& c) {
  Builder& b = c.b;
  const Pool p(c);
  const Window& w = p.w;
  const Shape x = b.shape(p.x);
  Tensor shares = reciprocal_counts(w, c.op().integer("count_include_pad", 0) != 0);
  shares.shape = {1, 1, w.out[0], w.out[1]};
  const bool uniform = std::all_of(shares.data<float>(), shares.data<float>() + shares.count(), [&](float v) { return v == shares.data<float>()[0]; });
  const ValueId share = uniform ? b.scale(p.dy, shares.at(0)) : b.mul(p.dy, b.tensor(shares));
  if (p.tiles()) {
    c.inputs[0] = b.reshape(b.expand(spread(b, share), {x[0], x[1], w.out[0], w.kernel[0], w.out[1], w.kernel[1]}), c.shape(0));
  } else {
    refuse_many_taps(c, p);
    c.inputs[0] = b.reshape(scatter(c, p, std::vector<ValueId>(static_cast<size_t>(p.taps()), share)), c.shape(0));
  }
}

/// Equal maxima share the gradient.
void global_max_pool(GradientCall& c) {
  std::vector<int64_t> axes;
  for (int64_t d = 2; d < c.b.rank(c.in(0)); ++d) axes.push_back(d);
  const ValueId mask = c.b.equal(c.in(0), c.out());
  c.inputs[0] = c.b.mul(mask, c.b.div(c.dy(), c.b.sum(mask, axes, true)));
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

constexpr GradientRule kRules[] = {{"MaxPool", max_pool}, {"AveragePool", average_pool}, {"GlobalAveragePool", global_average_pool}, {"GlobalMaxPool", global_max_pool}};

}  // namespace

std::span<const GradientRule> pooling_gradients() { return kRules; }

}  // namespace systole
