#include "train/convolution.h"

#include <algorithm>

#include "graph/checks.h"

namespace systole {
ConvolutionGeometry::ConvolutionGeometry(const Node& node, const Shape& x, const Shape& w, const Shape& y) {
  const auto& op = std::get<OnnxOp>(node.op);
  if (x.size() != 4) unsupported(node, "the gradient of a convolution of other than two dimensions");
  const auto strides = op.integers("strides"), dilations = op.integers("dilations"), pads = op.integers("pads");
  const std::string automatic = op.text("auto_pad", "NOTSET");
  groups = op.integer("group", 1);
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

ValueId convolution_data_gradient(Builder& b, const ConvolutionGeometry& g, ValueId dy, ValueId weights, const Shape& input, ValueId bias) {
  const Shape y = b.shape(dy), w = b.shape(weights);
  Shape grid = y;
  if (g.stride[0] > 1 || g.stride[1] > 1) {
    dy = b.reshape(dy, {y[0], y[1], y[2], 1, y[3], 1});
    dy = b.pad(dy, {0, 0, 0, 0, 0, 0}, {0, 0, 0, g.stride[0] - 1, 0, g.stride[1] - 1});
    dy = b.reshape(dy, {y[0], y[1], y[2] * g.stride[0], y[3] * g.stride[1]});
    grid = {y[0], y[1], (y[2] - 1) * g.stride[0] + 1, (y[3] - 1) * g.stride[1] + 1};
    dy = b.slice(dy, {2, 3}, {0, 0}, {grid[2], grid[3]}, {1, 1});
  }
  ValueId turned = b.slice(weights, {2, 3}, {w[2] - 1, w[3] - 1}, {-1, -1}, {-1, -1});
  if (w[2] == 1 && w[3] == 1) turned = weights;
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
  std::vector<ValueId> in = {dy, turned};
  if (bias != kNoValue) in.push_back(bias);
  return b.node("Conv", in, input, {{"pads", pads}, {"dilations", std::vector<int64_t>{g.dilation[0], g.dilation[1]}}, {"group", g.groups}, {"kernel_shape", std::vector<int64_t>{w[2], w[3]}}});
}

ValueId ConvolutionGeometry::seen_by_tap(Builder& b, ValueId whole, int64_t kh, int64_t kw) const {
  const int64_t h = kh * dilation[0], w = kw * dilation[1];
  return b.slice(whole, {2, 3}, {h, w}, {h + (out[0] - 1) * stride[0] + 1, w + (out[1] - 1) * stride[1] + 1}, {stride[0], stride[1]});
}

ValueId ConvolutionGeometry::padded(Builder& b, ValueId x) const {
  const std::vector<int64_t> end = {0, 0, std::max<int64_t>(0, reach(0) - in[0] - pad[0]), std::max<int64_t>(0, reach(1) - in[1] - pad[1])};
  return b.pad(x, {0, 0, pad[0], pad[1]}, end);
}

namespace {

/// dW [KH KW][C, Co] of some samples.
std::vector<ValueId> taps_of_samples(Builder& b, const ConvolutionGeometry& g, ValueId input, ValueId output_gradient) {
  const Shape x = b.shape(input), y = b.shape(output_gradient);
  const int64_t pixels = y[0] * y[2] * y[3];
  ValueId by_channel = b.transpose(g.padded(b, input), {1, 0, 2, 3});  // [C, N, H, W]
  if (const Shape turned = b.shape(by_channel); g.kernel[0] * g.kernel[1] > 1) {
    // A flat shape has one order of its bytes: the input is turned once, not each tap's part of it.
    by_channel = b.reshape(b.reshape(by_channel, {turned[0], turned[1] * turned[2] * turned[3]}), turned);
  }
  const ValueId dy = b.reshape(b.transpose(output_gradient, {0, 2, 3, 1}), {pixels, y[1]});
  std::vector<ValueId> taps;
  for (int64_t kh = 0; kh < g.kernel[0]; ++kh) {
    for (int64_t kw = 0; kw < g.kernel[1]; ++kw) taps.push_back(b.long_matmul(b.reshape(g.seen_by_tap(b, by_channel, kh, kw), {x[1], pixels}), dy));
  }
  return taps;
}

}  // namespace

ValueId convolution_weight_gradient(Builder& b, const ConvolutionGeometry& g, ValueId input, ValueId output_gradient) {
  const Shape x = b.shape(input), y = b.shape(output_gradient);
  // As many samples at a time as one product takes: samples are runs of bytes, parts of its pixels would be copies.
  const int64_t at_once = std::max<int64_t>(1, Builder::kLongestProduct / (y[2] * y[3]));
  std::vector<ValueId> sums;
  for (int64_t from = 0; from < y[0]; from += at_once) {
    const int64_t to = std::min(y[0], from + at_once);
    const auto part = [&](ValueId v) { return at_once >= y[0] ? v : b.slice(v, {0}, {from}, {to}, {1}); };
    const auto taps = taps_of_samples(b, g, part(input), part(output_gradient));
    for (size_t i = 0; i < taps.size(); ++i) from == 0 ? sums.push_back(taps[i]) : static_cast<void>(sums[i] = b.add(sums[i], taps[i]));
  }
  for (ValueId& tap : sums) tap = b.reshape(tap, {1, x[1], y[1]});
  return b.transpose(b.reshape(b.concat(sums, 0), {g.kernel[0], g.kernel[1], x[1], y[1]}), {3, 2, 0, 1});
}

void spread_transposed_convolutions(Graph& graph) {
  std::vector<Node> nodes = std::move(graph.nodes);
  graph.nodes.clear();
  Builder b(graph, "spread.");
  for (Node& n : nodes) {
    const auto* op = std::get_if<OnnxOp>(&n.op);
    if (!op || op->full_name() != "ConvTranspose" || graph.value(n.inputs[1]).constant) {
      graph.nodes.push_back(std::move(n));
      continue;
    }
    const Shape y = graph.value(n.outputs[0]).shape;
    const ConvolutionGeometry g(n, y, b.shape(n.inputs[1]), b.shape(n.inputs[0]));
    convolution_data_gradient(b, g, n.inputs[0], n.inputs[1], y, n.inputs.size() > 2 ? n.inputs[2] : kNoValue);
    graph.nodes.back().outputs = n.outputs;
  }
}

}  // namespace systole
