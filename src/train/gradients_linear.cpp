// Gradients of products: MatMul, Gemm, Conv.
#include <algorithm>
#include <numeric>

#include "graph/checks.h"
#include "train/gradients.h"

namespace systole {
namespace {

ValueId swap_last(Builder& b, ValueId v) {
  std::vector<int64_t> perm(b.shape(v).size());
  std::iota(perm.begin(), perm.end(), 0);
  std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  return b.transpose(v, perm);
}

/// a [M, K] b [K, N], in parts of K that a scratchpad holds.
ValueId long_product(Builder& b, ValueId a, ValueId x) {
  constexpr int64_t kMost = 16384;
  const int64_t k = b.shape(a)[1], m = b.shape(a)[0], n = b.shape(x)[1];
  ValueId total = kNoValue;
  for (int64_t from = 0; from < k; from += kMost) {
    const int64_t to = std::min(k, from + kMost);
    const ValueId part = b.matmul(b.slice(a, {0, 1}, {0, from}, {m, to}, {1, 1}), b.slice(x, {0, 1}, {from, 0}, {to, n}, {1, 1}));
    total = total == kNoValue ? part : b.add(total, part);
  }
  return total;
}

void matmul(GradientCall& c) {
  Builder& b = c.b;
  const Shape &sa = c.shape(0), &sb = c.shape(1);
  if (sa.size() < 2 || sb.size() < 2) unsupported(c.node, "the gradient of a product with a vector");
  if (c.wants(0)) c.inputs[0] = b.sum_to(b.matmul(c.dy(), swap_last(b, c.in(1))), sa);
  if (!c.wants(1)) return;
  if (sb.size() == 2) {  // one matrix for all rows: their products add up inside one contraction
    const int64_t rows = element_count(sa) / sa.back();
    c.inputs[1] = long_product(b, swap_last(b, b.reshape(c.in(0), {rows, sa.back()})), b.reshape(c.dy(), {rows, sb[1]}));
  } else {
    c.inputs[1] = b.sum_to(b.matmul(swap_last(b, c.in(0)), c.dy()), sb);
  }
}

/// Y = alpha A' B' + beta C
void gemm(GradientCall& c) {
  Builder& b = c.b;
  const bool ta = c.op().integer("transA", 0) != 0, tb = c.op().integer("transB", 0) != 0;
  const ValueId dy = b.scale(c.dy(), static_cast<double>(c.op().real("alpha", 1)));
  if (c.wants(0)) {
    const ValueId bt = tb ? c.in(1) : swap_last(b, c.in(1));
    c.inputs[0] = ta ? swap_last(b, b.matmul(dy, bt)) : b.matmul(dy, bt);
  }
  if (c.wants(1)) {
    const ValueId at = ta ? c.in(0) : swap_last(b, c.in(0));
    c.inputs[1] = tb ? swap_last(b, b.matmul(at, dy)) : b.matmul(at, dy);
  }
  if (c.in(2) != kNoValue && c.wants(2)) c.inputs[2] = b.scale(b.sum_to(c.dy(), c.shape(2)), static_cast<double>(c.op().real("beta", 1)));
}

/// Attributes of a two-dimensional convolution.
struct Geometry {
  int64_t kernel[2], stride[2] = {1, 1}, dilation[2] = {1, 1}, pad[2] = {0, 0}, in[2], out[2], groups;
  explicit Geometry(const GradientCall& c) {
    const Shape &x = c.shape(0), &w = c.shape(1), &y = c.b.shape(c.out());
    if (x.size() != 4) unsupported(c.node, "the gradient of a convolution of other than two dimensions");
    const auto strides = c.op().integers("strides"), dilations = c.op().integers("dilations"), pads = c.op().integers("pads");
    const std::string automatic = c.op().text("auto_pad", "NOTSET");
    groups = c.op().integer("group", 1);
    for (size_t i = 0; i < 2; ++i) {
      kernel[i] = w[2 + i], in[i] = x[2 + i], out[i] = y[2 + i];
      if (!strides.empty()) stride[i] = strides[i];
      if (!dilations.empty()) dilation[i] = dilations[i];
      if (!pads.empty()) pad[i] = pads[i];
      if (automatic == "SAME_UPPER" || automatic == "SAME_LOWER") {
        const int64_t all = std::max<int64_t>(0, (out[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 - in[i]);
        pad[i] = automatic == "SAME_UPPER" ? all / 2 : all - all / 2;
      }
    }
  }
  /// Input rows that the kernel's first tap reads, from the first output to the last, in padded coordinates.
  int64_t reach(size_t i) const { return (out[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1; }
};

/// dX: the gradient, spread out by the stride, convolved with the turned kernel.
ValueId data_gradient(GradientCall& c, const Geometry& g) {
  Builder& b = c.b;
  const Shape &y = b.shape(c.dy()), &w = c.shape(1);
  ValueId dy = c.dy();
  Shape grid = y;
  if (g.stride[0] > 1 || g.stride[1] > 1) {
    dy = b.reshape(dy, {y[0], y[1], y[2], 1, y[3], 1});
    dy = b.pad(dy, {0, 0, 0, 0, 0, 0}, {0, 0, 0, g.stride[0] - 1, 0, g.stride[1] - 1});
    dy = b.reshape(dy, {y[0], y[1], y[2] * g.stride[0], y[3] * g.stride[1]});
    grid = {y[0], y[1], (y[2] - 1) * g.stride[0] + 1, (y[3] - 1) * g.stride[1] + 1};
    dy = b.slice(dy, {2, 3}, {0, 0}, {grid[2], grid[3]}, {1, 1});
  }
  ValueId turned = b.slice(c.in(1), {2, 3}, {w[2] - 1, w[3] - 1}, {-1, -1}, {-1, -1});
  if (w[2] == 1 && w[3] == 1) turned = c.in(1);
  const bool depthwise = g.groups > 1;
  if (!depthwise) turned = b.transpose(turned, {1, 0, 2, 3});
  // dx[i] = sum over k of dy[i + pad - k d]: pad so that all of them are there; what lies beyond the input is cut off.
  std::vector<int64_t> pads(4);
  for (size_t i = 0; i < 2; ++i) {
    const int64_t span = (g.kernel[i] - 1) * g.dilation[i];
    pads[i] = span - g.pad[i], pads[2 + i] = g.in[i] + g.pad[i] - grid[2 + i];
  }
  std::vector<int64_t> begin = {0, 0, std::min<int64_t>(0, pads[0]), std::min<int64_t>(0, pads[1])}, end = {0, 0, std::min<int64_t>(0, pads[2]), std::min<int64_t>(0, pads[3])};
  if (begin[2] || begin[3] || end[2] || end[3]) {
    dy = b.slice(dy, {2, 3}, {-begin[2], -begin[3]}, {grid[2] + end[2], grid[3] + end[3]}, {1, 1});
    for (int64_t& p : pads) p = std::max<int64_t>(0, p);
  }
  return b.node("Conv", {dy, turned}, c.shape(0), {{"pads", pads}, {"dilations", std::vector<int64_t>{g.dilation[0], g.dilation[1]}}, {"group", g.groups}, {"kernel_shape", std::vector<int64_t>{w[2], w[3]}}});
}

/// The input as each tap of the kernel sees it, [.., OH, OW], from an input padded to the kernel's reach.
ValueId seen_by_tap(Builder& b, ValueId padded, const Geometry& g, int64_t kh, int64_t kw) {
  const int64_t h = kh * g.dilation[0], w = kw * g.dilation[1];
  return b.slice(padded, {2, 3}, {h, w}, {h + (g.out[0] - 1) * g.stride[0] + 1, w + (g.out[1] - 1) * g.stride[1] + 1}, {g.stride[0], g.stride[1]});
}

ValueId padded_input(GradientCall& c, const Geometry& g) {
  std::vector<int64_t> end = {0, 0, std::max<int64_t>(0, g.reach(0) - g.in[0] - g.pad[0]), std::max<int64_t>(0, g.reach(1) - g.in[1] - g.pad[1])};
  return c.b.pad(c.in(0), {0, 0, g.pad[0], g.pad[1]}, end);
}

/// dW, tap by tap: channels of the input against channels of the gradient, contracted over all pixels of the batch.
ValueId weight_gradient(GradientCall& c, const Geometry& g) {
  Builder& b = c.b;
  const Shape &x = c.shape(0), &y = b.shape(c.dy());
  const int64_t pixels = y[0] * y[2] * y[3];
  ValueId by_channel = b.transpose(padded_input(c, g), {1, 0, 2, 3});  // [C, N, H, W]
  if (const Shape turned = b.shape(by_channel); g.kernel[0] * g.kernel[1] > 1) {
    // A flat shape has one order of its bytes: the input is turned once, not each tap's part of it.
    by_channel = b.reshape(b.reshape(by_channel, {turned[0], turned[1] * turned[2] * turned[3]}), turned);
  }
  const ValueId dy = b.reshape(b.transpose(c.dy(), {0, 2, 3, 1}), {pixels, y[1]});
  std::vector<ValueId> taps;
  for (int64_t kh = 0; kh < g.kernel[0]; ++kh) {
    for (int64_t kw = 0; kw < g.kernel[1]; ++kw) {
      const ValueId seen = b.reshape(seen_by_tap(b, by_channel, g, kh, kw), {x[1], pixels});
      taps.push_back(b.reshape(long_product(b, seen, dy), {1, x[1], y[1]}));
    }
  }
  return b.transpose(b.reshape(b.concat(taps, 0), {g.kernel[0], g.kernel[1], x[1], y[1]}), {3, 2, 0, 1});
}

/// Depthwise dW: per tap, products summed over pixels and batch, on the vector engine.
ValueId depthwise_weight_gradient(GradientCall& c, const Geometry& g) {
  Builder& b = c.b;
  const ValueId padded = padded_input(c, g);
  std::vector<ValueId> taps;
  for (int64_t kh = 0; kh < g.kernel[0]; ++kh) {
    for (int64_t kw = 0; kw < g.kernel[1]; ++kw) taps.push_back(b.reshape(b.sum(b.mul(seen_by_tap(b, padded, g, kh, kw), c.dy()), {0, 2, 3}, false), {c.shape(0)[1], 1}));
  }
  return b.reshape(b.concat(taps, 1), c.shape(1));
}

void conv(GradientCall& c) {
  const Geometry g(c);
  const Shape& w = c.shape(1);
  const bool depthwise = g.groups > 1 && w[1] == 1 && w[0] == g.groups;
  if (g.groups > 1 && !depthwise) unsupported(c.node, "the gradient of a convolution in " + std::to_string(g.groups) + " groups that is not depthwise");
  if (c.wants(0)) c.inputs[0] = data_gradient(c, g);
  if (c.wants(1)) c.inputs[1] = depthwise ? depthwise_weight_gradient(c, g) : weight_gradient(c, g);
  if (c.in(2) != kNoValue && c.wants(2)) c.inputs[2] = c.b.sum(c.dy(), {0, 2, 3}, false);
}

constexpr GradientRule kRules[] = {{"MatMul", matmul}, {"Gemm", gemm}, {"Conv", conv}};

}  // namespace

std::span<const GradientRule> linear_gradients() { return kRules; }

}  // namespace systole
