// Gradients of products: MatMul, Gemm, Conv.
#include <algorithm>
#include <numeric>

#include "graph/checks.h"
#include "train/convolution.h"
#include "train/gradients.h"

namespace systole {
namespace {

ValueId swap_last(Builder& b, ValueId v) {
  std::vector<int64_t> perm(b.shape(v).size());
  std::iota(perm.begin(), perm.end(), 0);
  std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  return b.transpose(v, perm);
}

void matmul(GradientCall& c) {
  Builder& b = c.b;
  const Shape &sa = c.shape(0), &sb = c.shape(1);
  if (sa.size() < 2 || sb.size() < 2) unsupported(c.node, "the gradient of a product with a vector");
  if (c.wants(0)) c.inputs[0] = b.sum_to(b.matmul(c.dy(), swap_last(b, c.in(1))), sa);
  if (!c.wants(1)) return;
  if (sb.size() == 2) {  // one matrix for all rows: their products add up inside one contraction
    const int64_t rows = element_count(sa) / sa.back();
    c.inputs[1] = b.long_matmul(swap_last(b, b.reshape(c.in(0), {rows, sa.back()})), b.reshape(c.dy(), {rows, sb[1]}));
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

/// Depthwise dW: per tap, products summed over pixels and batch, on the vector engine.
ValueId depthwise_weight_gradient(GradientCall& c, const ConvolutionGeometry& g) {
  Builder& b = c.b;
  const ValueId whole = g.padded(b, c.in(0));
  std::vector<ValueId> taps;
  for (int64_t kh = 0; kh < g.kernel[0]; ++kh) {
    for (int64_t kw = 0; kw < g.kernel[1]; ++kw) taps.push_back(b.reshape(b.sum(b.mul(g.seen_by_tap(b, whole, kh, kw), c.dy()), {0, 2, 3}, false), {c.shape(0)[1], 1}));
  }
  return b.reshape(b.concat(taps, 1), c.shape(1));
}

void conv(GradientCall& c) {
  const Shape& w = c.shape(1);
  const ConvolutionGeometry g(c.node, c.shape(0), w, c.b.shape(c.out()));
  const bool depthwise = g.groups > 1 && w[1] == 1 && w[0] == g.groups;
  if (g.groups > 1 && !depthwise) unsupported(c.node, "the gradient of a convolution in " + std::to_string(g.groups) + " groups that is not depthwise");
  if (c.wants(0)) c.inputs[0] = convolution_data_gradient(c.b, g, c.dy(), c.in(1), c.shape(0));
  if (c.wants(1)) c.inputs[1] = depthwise ? depthwise_weight_gradient(c, g) : convolution_weight_gradient(c.b, g, c.in(0), c.dy());
  if (c.in(2) != kNoValue && c.wants(2)) c.inputs[2] = c.b.sum(c.dy(), {0, 2, 3}, false);
}

/// A transposed convolution is the data gradient of a convolution from y to x with the same weights [C, Co, KH, KW].
void conv_transpose(GradientCall& c) {
  Builder& b = c.b;
  const Shape &x = c.shape(0), &w = c.shape(1), y = b.shape(c.out());
  if (c.op().integer("group", 1) != 1) unsupported(c.node, "the gradient of a transposed convolution in groups");
  if (c.op().has("output_shape") || c.op().text("auto_pad", "NOTSET") != std::string("NOTSET")) unsupported(c.node, "the gradient of a transposed convolution with automatic pads");
  const ConvolutionGeometry g(c.node, y, w, x);
  if (c.wants(0)) {
    std::vector<int64_t> pads = {g.pad[0], g.pad[1], 0, 0};
    for (size_t i = 0; i < 2; ++i) pads[2 + i] = std::max<int64_t>(0, g.reach(i) - g.in[i] - g.pad[i]);
    c.inputs[0] = b.node("Conv", {c.dy(), c.in(1)}, x, {{"pads", pads}, {"strides", std::vector<int64_t>{g.stride[0], g.stride[1]}}, {"dilations", std::vector<int64_t>{g.dilation[0], g.dilation[1]}}, {"kernel_shape", std::vector<int64_t>{w[2], w[3]}}});
  }
  if (c.wants(1)) c.inputs[1] = convolution_weight_gradient(b, g, c.dy(), c.in(0));
  if (c.in(2) != kNoValue && c.wants(2)) c.inputs[2] = b.sum(c.dy(), {0, 2, 3}, false);
}

constexpr GradientRule kRules[] = {{"MatMul", matmul}, {"Gemm", gemm}, {"Conv", conv}, {"ConvTranspose", conv_transpose}};

}  // namespace

std::span<const GradientRule> linear_gradients() { return kRules; }

}  // namespace systole
