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

/// The rule for the same node with its values in other shapes, which `node` has; gradients come back in their own.
void reshaped(GradientCall& c, const Node& node, void (*rule)(GradientCall&)) {
  Builder& b = c.b;
  const std::vector<ValueId> dy = {b.reshape(c.dy(), b.shape(node.outputs[0]))};
  GradientCall call{b, node, dy, std::vector<ValueId>(c.inputs.size(), kNoValue), c.wanted, c.rounds_operands};
  rule(call);
  for (size_t k = 0; k < c.inputs.size(); ++k) c.inputs[k] = call.inputs[k] == kNoValue ? kNoValue : b.reshape(call.inputs[k], c.shape(k));
}

/// A vector on the left is a row, one on the right a column.
void with_vectors(GradientCall& c, void (*rule)(GradientCall&)) {
  Builder& b = c.b;
  Shape sa = c.shape(0), sb = c.shape(1), sy = b.shape(c.out());
  if (sa.size() == 1) sa.insert(sa.begin(), 1), sy.insert(sy.end() - (sb.size() > 1 ? 1 : 0), 1);
  if (sb.size() == 1) sb.push_back(1), sy.push_back(1);
  Node node = c.node;
  node.inputs = {b.reshape(c.in(0), sa), b.reshape(c.in(1), sb)}, node.outputs = {b.reshape(c.out(), sy)};
  reshaped(c, node, rule);
}

void matmul(GradientCall& c) {
  Builder& b = c.b;
  const Shape sa = c.shape(0), sb = c.shape(1);
  if (sa.size() < 2 || sb.size() < 2) return with_vectors(c, matmul);
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

/// The gradients of a convolution whose groups are convolutions of their own: the rule for each, put side by side. Axis 1 of x and y and
/// axis 0 of the weights are cut.
void in_groups(GradientCall& c, int64_t groups, void (*rule)(GradientCall&)) {
  Builder& b = c.b;
  const auto part = [&](ValueId v, int64_t axis, int64_t g) {
    const int64_t n = b.shape(v)[static_cast<size_t>(axis)] / groups;
    return b.slice(v, {axis}, {g * n}, {(g + 1) * n}, {1});
  };
  std::vector<ValueId> dx, dw;
  for (int64_t g = 0; g < groups; ++g) {
    Node node = c.node;
    std::get<OnnxOp>(node.op).attributes["group"] = int64_t{1};
    node.inputs = {part(c.in(0), 1, g), part(c.in(1), 0, g)}, node.outputs = {part(c.out(), 1, g)};
    const std::vector<ValueId> dy = {part(c.dy(), 1, g)};
    const std::vector<bool> wanted = {c.wants(0), c.wants(1)};
    GradientCall call{b, node, dy, {kNoValue, kNoValue}, wanted, c.rounds_operands};
    rule(call);
    dx.push_back(call.inputs[0]), dw.push_back(call.inputs[1]);
  }
  if (c.wants(0)) c.inputs[0] = b.concat(dx, 1);
  if (c.wants(1)) c.inputs[1] = b.concat(dw, 0);
  if (c.in(2) != kNoValue && c.wants(2)) c.inputs[2] = b.sum(c.dy(), {0, 2, 3}, false);
}

/// A convolution over one dimension is one over two, of which the first has one row.
void in_two_dimensions(GradientCall& c, void (*rule)(GradientCall&)) {
  Builder& b = c.b;
  const auto wide = [&](ValueId v) {
    const Shape s = b.shape(v);
    return b.reshape(v, {s[0], s[1], 1, s[2]});
  };
  Node node = c.node;
  auto& attributes = std::get<OnnxOp>(node.op).attributes;
  for (const auto& [name, first] : {std::pair{"strides", 1}, std::pair{"dilations", 1}, std::pair{"kernel_shape", 1}, std::pair{"output_padding", 0}, std::pair{"output_shape", 1}}) {
    if (const auto list = c.op().integers(name); !list.empty()) attributes[name] = std::vector<int64_t>{first, list.back()};
  }
  if (const auto pads = c.op().integers("pads"); !pads.empty()) attributes["pads"] = std::vector<int64_t>{0, pads[0], 0, pads[1]};
  node.inputs[0] = wide(c.in(0)), node.inputs[1] = wide(c.in(1)), node.outputs = {wide(c.out())};
  reshaped(c, node, rule);
}

void conv(GradientCall& c) {
  if (c.shape(0).size() == 3) return in_two_dimensions(c, conv);
  const Shape& w = c.shape(1);
  const ConvolutionGeometry g(c.node, c.shape(0), w, c.b.shape(c.out()));
  const bool depthwise = g.groups > 1 && w[1] == 1 && w[0] == g.groups;
  if (g.groups > 1 && !depthwise) return in_groups(c, g.groups, conv);
  if (c.wants(0)) c.inputs[0] = convolution_data_gradient(c.b, g, c.dy(), c.in(1), c.shape(0));
  const bool biased = c.in(2) != kNoValue && c.wants(2);
  if (c.wants(1) && !depthwise) {
    const WeightGradient w_and_b = convolution_weight_gradient(c.b, g, c.in(0), c.dy(), !biased ? BiasSum::kNone : c.rounds_operands ? BiasSum::kOfOperands : BiasSum::kOfProducts);
    c.inputs[1] = w_and_b.weights;
    if (biased) c.inputs[2] = w_and_b.bias;
    return;
  }
  if (c.wants(1)) c.inputs[1] = depthwise_weight_gradient(c, g);
  if (biased) c.inputs[2] = c.b.sum(c.dy(), {0, 2, 3}, false);
}

/// A transposed convolution is the data gradient of a convolution from y to x with the same weights [C, Co, KH, KW].
void conv_transpose(GradientCall& c) {
  if (c.shape(0).size() == 3) return in_two_dimensions(c, conv_transpose);
  Builder& b = c.b;
  const Shape &x = c.shape(0), &w = c.shape(1), y = b.shape(c.out());
  if (const int64_t groups = c.op().integer("group", 1); groups != 1) return in_groups(c, groups, conv_transpose);
  const ConvolutionGeometry g(with_pads(c.node, x, w, y), y, w, x);
  if (c.wants(0)) {
    std::vector<int64_t> pads = {g.pad[0], g.pad[1], 0, 0};
    for (size_t i = 0; i < 2; ++i) pads[2 + i] = std::max<int64_t>(0, g.reach(i) - g.in[i] - g.pad[i]);
    c.inputs[0] = b.node("Conv", {c.dy(), c.in(1)}, x, {{"pads", pads}, {"strides", std::vector<int64_t>{g.stride[0], g.stride[1]}}, {"dilations", std::vector<int64_t>{g.dilation[0], g.dilation[1]}}, {"kernel_shape", std::vector<int64_t>{w[2], w[3]}}});
  }
  if (c.wants(1)) c.inputs[1] = convolution_weight_gradient(b, g, c.dy(), c.in(0)).weights;
  if (c.in(2) != kNoValue && c.wants(2)) c.inputs[2] = b.sum(c.dy(), {0, 2, 3}, false);
}

constexpr GradientRule kRules[] = {{"MatMul", matmul}, {"Gemm", gemm}, {"Conv", conv}, {"ConvTranspose", conv_transpose}};

}  // namespace

std::span<const GradientRule> linear_gradients() { return kRules; }

}  // namespace systole
