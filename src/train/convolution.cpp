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

namespace {

/// Correlation of dy with a turned kernel, `pads` before and behind height and width; negative ones cut dy.
ValueId correlate(Builder& b, const ConvolutionGeometry& g, ValueId dy, ValueId turned, std::vector<int64_t> pads, const Shape& out, const std::vector<int64_t>& dilations, ValueId bias) {
  const Shape y = b.shape(dy), w = b.shape(turned);
  const int64_t cut[4] = {std::max<int64_t>(0, -pads[0]), std::max<int64_t>(0, -pads[1]), std::max<int64_t>(0, -pads[2]), std::max<int64_t>(0, -pads[3])};
  if (cut[0] || cut[1] || cut[2] || cut[3]) dy = b.slice(dy, {2, 3}, {cut[0], cut[1]}, {y[2] - cut[2], y[3] - cut[3]}, {1, 1});
  for (int64_t& p : pads) p = std::max<int64_t>(0, p);
  std::vector<ValueId> in = {dy, turned};
  if (bias != kNoValue) in.push_back(bias);
  return b.node("Conv", in, out, {{"pads", pads}, {"dilations", dilations}, {"group", g.groups}, {"kernel_shape", std::vector<int64_t>{w[2], w[3]}}});
}

/// Taps first, first + step ... of a kernel [Co, C, KH, KW], last first, as the kernel of the other direction.
ValueId turned_taps(Builder& b, const ConvolutionGeometry& g, ValueId weights, const int64_t (&first)[2], const int64_t (&step)[2], const int64_t (&taps)[2]) {
  if (g.kernel[0] > 1 || g.kernel[1] > 1) {
    weights = b.slice(weights, {2, 3}, {first[0] + (taps[0] - 1) * step[0], first[1] + (taps[1] - 1) * step[1]}, {first[0] - 1, first[1] - 1}, {-step[0], -step[1]});
  }
  return g.groups > 1 ? weights : b.transpose(weights, {1, 0, 2, 3});
}

/// One dimension of the input positions that lie `at` behind multiples of the stride: which taps reach them, and how dy is padded.
struct Phase {
  int64_t first, taps, before, behind;
  Phase(const ConvolutionGeometry& g, size_t i, int64_t at, int64_t length) {
    first = (at + g.pad[i]) % g.stride[i], taps = std::max<int64_t>(0, (g.kernel[i] - first + g.stride[i] - 1) / g.stride[i]);
    before = taps - 1 - (at + g.pad[i] - first) / g.stride[i], behind = length - g.out[i] - before + taps - 1;
  }
};

/// Without the zeros between: a plain convolution for each place within a stride, then their results side by side.
ValueId data_gradient_by_phases(Builder& b, const ConvolutionGeometry& g, ValueId dy, ValueId weights, const Shape& input, ValueId bias) {
  const int64_t length[2] = {(g.in[0] + g.stride[0] - 1) / g.stride[0], (g.in[1] + g.stride[1] - 1) / g.stride[1]};
  const Shape part = {input[0], input[1], length[0], length[1]};
  std::vector<ValueId> phases;
  for (int64_t h = 0; h < g.stride[0]; ++h) {
    for (int64_t w = 0; w < g.stride[1]; ++w) {
      const Phase v(g, 0, h, length[0]), u(g, 1, w, length[1]);
      if (v.taps == 0 || u.taps == 0) {
        phases.push_back(kNoValue);
        continue;
      }
      const ValueId turned = turned_taps(b, g, weights, {v.first, u.first}, {g.stride[0], g.stride[1]}, {v.taps, u.taps});
      phases.push_back(correlate(b, g, dy, turned, {v.before, u.before, v.behind, u.behind}, part, {1, 1}, bias));
    }
  }
  return b.slice_to(interleave(b, phases, {g.stride[0], g.stride[1]}, part), {2, 3}, {g.in[0], g.in[1]});
}

}  // namespace

ValueId interleave(Builder& b, const std::vector<ValueId>& phases, const int64_t (&stride)[2], const Shape& part) {
  // With channels last, as convolutions leave them: a run of bytes is a pixel, and other orders would turn every tensor twice.
  const int64_t n = part[0], c = part[1], h = part[2], w = part[3];
  auto channels_last = [&](ValueId v) { return b.reshape(b.transpose(v, {0, 2, 3, 1}), {n * h, 1, w, 1, c}); };
  const auto there = std::count_if(phases.begin(), phases.end(), [](ValueId v) { return v != kNoValue; });
  ValueId whole;
  if (there == 1 && phases[0] != kNoValue) {  // zeros between
    whole = b.pad(channels_last(phases[0]), {0, 0, 0, 0, 0}, {0, stride[0] - 1, 0, stride[1] - 1, 0});
  } else {
    std::vector<ValueId> rows;
    for (int64_t i = 0; i < stride[0]; ++i) {
      std::vector<ValueId> row;
      for (int64_t k = 0; k < stride[1]; ++k) {
        const ValueId v = phases[static_cast<size_t>(i * stride[1] + k)];
        row.push_back(v == kNoValue ? b.expand(b.scalar(0), {n * h, 1, w, 1, c}) : channels_last(v));
      }
      rows.push_back(b.concat(row, 3));
    }
    whole = b.concat(rows, 1);
  }
  return b.transpose(b.reshape(whole, {n, h * stride[0], w * stride[1], c}), {0, 3, 1, 2});
}

ValueId convolution_data_gradient(Builder& b, const ConvolutionGeometry& g, ValueId dy, ValueId weights, const Shape& input, ValueId bias) {
  const bool strided = g.stride[0] > 1 || g.stride[1] > 1, dilated = g.dilation[0] > 1 || g.dilation[1] > 1;
  // Positions that no tap reaches have their bias in no phase.
  const bool reaches_all = g.kernel[0] >= g.stride[0] && g.kernel[1] >= g.stride[1];
  if (strided && !dilated && (bias == kNoValue || reaches_all)) return data_gradient_by_phases(b, g, dy, weights, input, bias);
  const Shape y = b.shape(dy);
  Shape grid = y;
  if (strided) {
    dy = b.reshape(dy, {y[0], y[1], y[2], 1, y[3], 1});
    dy = b.pad(dy, {0, 0, 0, 0, 0, 0}, {0, 0, 0, g.stride[0] - 1, 0, g.stride[1] - 1});
    dy = b.reshape(dy, {y[0], y[1], y[2] * g.stride[0], y[3] * g.stride[1]});
    grid = {y[0], y[1], (y[2] - 1) * g.stride[0] + 1, (y[3] - 1) * g.stride[1] + 1};
    dy = b.slice(dy, {2, 3}, {0, 0}, {grid[2], grid[3]}, {1, 1});
  }
  // dx[i] = sum over k of dy[i + pad - k d]: pad so that all of them are there; what lies beyond the input is cut off.
  std::vector<int64_t> pads(4);
  for (size_t i = 0; i < 2; ++i) {
    const int64_t span = (g.kernel[i] - 1) * g.dilation[i];
    pads[i] = span - g.pad[i], pads[2 + i] = g.in[i] + g.pad[i] - grid[2 + i];
  }
  return correlate(b, g, dy, turned_taps(b, g, weights, {0, 0}, {1, 1}, g.kernel), pads, input, {g.dilation[0], g.dilation[1]}, bias);
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

/// Taps whose rows go into one product: all of them, so that the gradient is read once; where it is small, as many as stay in a scratchpad beside it.
size_t taps_at_once(int64_t taps, int64_t tap_elements, int64_t gradient_elements) {
  constexpr int64_t kSmall = 1 << 17;  // elements: 256 KiB in bf16
  if (gradient_elements > 2 * kSmall || tap_elements > kSmall / 2) return static_cast<size_t>(taps);
  return static_cast<size_t>(std::min(taps, kSmall / tap_elements));
}

/// dW [KH KW C, Co] of some samples: the input as each tap sees it, tap below tap, against the gradient.
ValueId taps_of_samples(Builder& b, const ConvolutionGeometry& g, ValueId input, ValueId output_gradient) {
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
    for (int64_t kw = 0; kw < g.kernel[1]; ++kw) taps.push_back(b.reshape(g.seen_by_tap(b, by_channel, kh, kw), {x[1], pixels}));
  }
  const size_t each = taps_at_once(static_cast<int64_t>(taps.size()), x[1] * pixels, y[1] * pixels);
  std::vector<ValueId> products;
  for (size_t first = 0; first < taps.size(); first += each) {
    const std::vector<ValueId> some(taps.begin() + static_cast<std::ptrdiff_t>(first), taps.begin() + static_cast<std::ptrdiff_t>(std::min(taps.size(), first + each)));
    products.push_back(b.long_matmul(b.concat(some, 0), dy));
  }
  return b.concat(products, 0);
}

}  // namespace

ValueId convolution_weight_gradient(Builder& b, const ConvolutionGeometry& g, ValueId input, ValueId output_gradient) {
  const Shape x = b.shape(input), y = b.shape(output_gradient);
  // As many samples at a time as one product takes: samples are runs of bytes, parts of its pixels would be copies.
  const int64_t at_once = std::max<int64_t>(1, Builder::kLongestProduct / (y[2] * y[3]));
  ValueId sum = kNoValue;
  for (int64_t from = 0; from < y[0]; from += at_once) {
    const int64_t to = std::min(y[0], from + at_once);
    const auto part = [&](ValueId v) { return at_once >= y[0] ? v : b.slice(v, {0}, {from}, {to}, {1}); };
    const ValueId here = taps_of_samples(b, g, part(input), part(output_gradient));
    sum = sum == kNoValue ? here : b.add(sum, here);
  }
  return b.transpose(b.reshape(sum, {g.kernel[0], g.kernel[1], x[1], y[1]}), {3, 2, 0, 1});
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
