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

Node with_pads(const Node& node, const Shape& x, const Shape& w, const Shape& y) {
  Node n = node;
  auto& op = std::get<OnnxOp>(n.op);
  const std::string automatic = op.text("auto_pad", "NOTSET");
  if (x.size() != 4 || (!op.has("output_shape") && automatic != "SAME_UPPER" && automatic != "SAME_LOWER")) return n;
  const auto strides = op.integers("strides"), dilations = op.integers("dilations"), extra = op.integers("output_padding");
  const auto at = [](const std::vector<int64_t>& list, size_t i, int64_t otherwise) { return list.empty() ? otherwise : list[i]; };
  std::vector<int64_t> pads(4);
  for (size_t i = 0; i < 2; ++i) {
    const int64_t full = (x[2 + i] - 1) * at(strides, i, 1) + (w[2 + i] - 1) * at(dilations, i, 1) + 1 + at(extra, i, 0), total = full - y[2 + i];
    if (total < 0) unsupported(node, "the gradient of a transposed convolution into more than it reaches");
    pads[i] = automatic == "SAME_UPPER" ? total / 2 : total - total / 2, pads[2 + i] = total - pads[i];
  }
  op.attributes.erase("auto_pad"), op.attributes.erase("output_shape");
  op.attributes["pads"] = pads;
  return n;
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

/// Positions that gradient and input have in common, so that what a tap sees is the input some positions further on: per dimension `length`
/// of them, which are the output's, as many as the last tap lies behind the first, less those pads that the end of a row shares with
/// the beginning of the next. With strides, every stride-th position of the input from some phase on.
struct Grid {
  const ConvolutionGeometry& g;
  int64_t length[2];
  explicit Grid(const ConvolutionGeometry& geometry) : g(geometry), length{length_of(0), length_of(1)} {}

  int64_t phase(size_t i, int64_t tap) const { return tap * g.dilation[i] % g.stride[i]; }
  int64_t offset(size_t i, int64_t tap) const { return tap * g.dilation[i] / g.stride[i]; }
  int64_t reach(size_t i) const { return offset(i, g.kernel[i] - 1); }

 private:
  int64_t length_of(size_t i) const {
    const int64_t all = g.out[i] + reach(i), s = g.stride[i];
    int64_t shared = reach(i);  // the output's positions are all there
    for (int64_t tap = 0; tap < g.kernel[i]; ++tap) {
      const auto from = [&](int64_t position) { return std::max<int64_t>(0, (position - phase(i, tap) + s - 1) / s); };  // first index at or behind it
      shared = std::min({shared, from(g.pad[i]), std::max<int64_t>(0, all - from(g.pad[i] + g.in[i]))});
    }
    return all - shared;
  }
};

/// Pads (or cuts) axis 1 + i of [N, H, W, C] to `length` times the stride.
ValueId fitted(Builder& b, const ConvolutionGeometry& g, ValueId v, const int64_t (&length)[2]) {
  std::vector<int64_t> begin = {0, g.pad[0], g.pad[1], 0}, end(4, 0), keep;
  for (size_t i = 0; i < 2; ++i) {
    const int64_t behind = length[i] * g.stride[i] - g.pad[i] - g.in[i];
    end[1 + i] = std::max<int64_t>(0, behind), keep.push_back(std::min(g.in[i], g.in[i] + behind));
  }
  return b.pad(b.slice_to(v, {1, 2}, keep), begin, end);
}

/// The left operands of a chunk's products, one for all taps, and the right ones, tap by tap.
struct Operands {
  ValueId gradient;           ///< [Co, positions]
  ValueId padded;             ///< the same with all pads
  std::vector<ValueId> taps;  ///< [positions, C], or [positions, KW C] for each row of the kernel
};

/// dy [N, OH, OW, Co] with zeros at the positions that are the input's alone, channels first.
ValueId channels_by_position(Builder& b, ValueId dy, int64_t height, int64_t width) {
  const Shape y = b.shape(dy);
  const ValueId grid = b.pad(dy, {0, 0, 0, 0}, {0, height - y[1], width - y[2], 0});
  return b.reshape(b.transpose(grid, {3, 0, 1, 2}), {y[3], y[0] * height * width});
}

/// [N, h, w, C] as [N h w + behind, C]: runs of its rows are what taps see.
ValueId by_position(Builder& b, ValueId v, int64_t behind) {
  const Shape s = b.shape(v);
  return b.pad(b.reshape(v, {s[0] * s[1] * s[2], s[3]}), {0, 0}, {behind, 0});
}

ValueId rows(Builder& b, ValueId flat, int64_t from, int64_t count) { return b.slice(flat, {0}, {from}, {from + count}, {1}); }

Operands operands_by_tap(Builder& b, const Grid& grid, ValueId x, ValueId dy) {
  const ConvolutionGeometry& g = grid.g;
  const int64_t height = grid.length[0], width = grid.length[1], behind = grid.reach(0) * width + grid.reach(1);
  // The last pads make nothing.
  const int64_t positions = b.shape(x)[0] * height * width - (height - g.out[0]) * width - (width - g.out[1]);
  const ValueId whole = fitted(b, g, x, grid.length);
  std::vector<ValueId> phases(static_cast<size_t>(g.stride[0] * g.stride[1]), kNoValue);
  const ValueId turned = channels_by_position(b, dy, height, width);
  Operands o{b.slice_to(turned, {1}, {positions}), turned, {}};
  for (int64_t kh = 0; kh < g.kernel[0]; ++kh) {
    for (int64_t kw = 0; kw < g.kernel[1]; ++kw) {
      const int64_t h = grid.phase(0, kh), w = grid.phase(1, kw);
      ValueId& phase = phases[static_cast<size_t>(h * g.stride[1] + w)];
      if (phase == kNoValue) phase = by_position(b, b.slice(whole, {1, 2}, {h, w}, {height * g.stride[0], width * g.stride[1]}, {g.stride[0], g.stride[1]}), behind);
      o.taps.push_back(rows(b, phase, grid.offset(0, kh) * width + grid.offset(1, kw), positions));
    }
  }
  return o;
}

/// For few channels: all taps of a kernel's row side by side, so that the array's columns are used.
Operands operands_by_row(Builder& b, const Grid& grid, ValueId x, ValueId dy) {
  const ConvolutionGeometry& g = grid.g;
  const int64_t height = grid.length[0], width = g.out[1], positions = b.shape(x)[0] * height * width;
  const int64_t lengths[2] = {height, width + grid.reach(1) + 1};
  const ValueId whole = fitted(b, g, x, lengths);
  std::vector<ValueId> phases(static_cast<size_t>(g.stride[0]), kNoValue);
  const auto windows = [&](int64_t row) {
    const ValueId seen = b.slice(whole, {1}, {row}, {height * g.stride[0]}, {g.stride[0]});
    std::vector<ValueId> side_by_side;
    for (int64_t kw = 0; kw < g.kernel[1]; ++kw) {
      const int64_t from = kw * g.dilation[1];
      side_by_side.push_back(b.slice(seen, {2}, {from}, {from + (width - 1) * g.stride[1] + 1}, {g.stride[1]}));
    }
    return b.concat(side_by_side, 3);
  };
  const ValueId turned = channels_by_position(b, dy, height, width);
  Operands o{turned, turned, {}};
  for (int64_t kh = 0; kh < g.kernel[0]; ++kh) {
    ValueId& phase = phases[static_cast<size_t>(grid.phase(0, kh))];
    if (phase == kNoValue) phase = by_position(b, windows(grid.phase(0, kh)), grid.reach(0) * width);
    o.taps.push_back(rows(b, phase, grid.offset(0, kh) * width, positions));
  }
  return o;
}

/// Rows [from, to) of the output and the rows of the input that they see, as a convolution of its own. Tensors are [N, H, W, C].
struct RowBlock {
  ConvolutionGeometry geometry;
  int64_t from, to, first, last;  ///< rows of output and input
  RowBlock(const ConvolutionGeometry& g, int64_t from_row, int64_t to_row) : geometry(g), from(from_row), to(to_row) {
    const int64_t top = from * g.stride[0] - g.pad[0];
    first = std::clamp<int64_t>(top, 0, g.in[0]), last = std::clamp<int64_t>(top + (to - from - 1) * g.stride[0] + (g.kernel[0] - 1) * g.dilation[0] + 1, first, g.in[0]);
    geometry.out[0] = to - from, geometry.in[0] = last - first, geometry.pad[0] = std::max<int64_t>(0, -top);
  }
  ValueId input(Builder& b, ValueId x) const { return b.slice(x, {1}, {first}, {last}, {1}); }
  ValueId gradient(Builder& b, ValueId dy) const { return b.slice(dy, {1}, {from}, {to}, {1}); }
};

/// sum + a [M, positions] over its positions; [M].
ValueId add_rows(Builder& b, ValueId sum, ValueId a) {
  const ValueId rows = b.sum(a, {1}, false);
  return sum == kNoValue ? rows : b.add(sum, rows);
}

constexpr int64_t kFewSums = 1 << 15;

/// dW [Co, C] of kernels with one tap: the tensor with fewer channels is turned, the other passes by once. If that is the gradient, a row of
/// ones beside the input's channels makes dB.
WeightGradient gradient_of_one_tap(Builder& b, const ConvolutionGeometry& g, ValueId x, ValueId dy, BiasSum bias, int64_t elements) {
  const Grid whole(g);
  const int64_t samples = b.shape(x)[0], channels = b.shape(x)[3], columns = b.shape(dy)[3], positions = whole.length[0] * whole.length[1];
  const bool turns_input = channels < columns, ones = turns_input && bias == BiasSum::kOfProducts;
  // Sums that an array's accumulators hold cost little to add up: short chunks then, which may follow what makes their operands while that is at hand.
  const bool short_chunks = channels * columns <= kFewSums;
  const int64_t sample = positions * (short_chunks ? 4 * std::max(channels, columns) : std::min(channels, columns));
  const int64_t at_once = std::max<int64_t>(1, std::min(Builder::kLongestProduct / positions, elements / sample));
  const int64_t rows_at_once = at_once > 1 ? g.out[0] : ceil_div(g.out[0], std::min(g.out[0], ceil_div(sample, elements)));
  ValueId sum = kNoValue, rows = kNoValue;
  for (int64_t from = 0; from < samples; from += at_once) {
    for (int64_t row = 0; row < g.out[0]; row += rows_at_once) {
      const RowBlock block(g, row, std::min(g.out[0], row + rows_at_once));
      const Grid grid(block.geometry);
      const int64_t to = std::min(samples, from + at_once);
      const ValueId input = b.slice(x, {0, 1}, {from, block.first}, {to, block.last}, {1, 1}), gradient = b.slice(dy, {0, 1}, {from, block.from}, {to, block.to}, {1, 1});
      ValueId seen = b.slice(fitted(b, block.geometry, input, grid.length), {1, 2}, {0, 0}, {grid.length[0] * g.stride[0], grid.length[1] * g.stride[1]}, {g.stride[0], g.stride[1]});
      if (ones) seen = b.pad(seen, {0, 0, 0, 0}, {0, 0, 0, 1}, 1);
      const ValueId turned = channels_by_position(b, turns_input ? seen : gradient, grid.length[0], grid.length[1]);
      if (!turns_input && bias != BiasSum::kNone) rows = add_rows(b, rows, turned);
      sum = b.add_product(sum, turned, by_position(b, turns_input ? gradient : seen, 0));
    }
  }
  if (ones) rows = b.reshape(b.slice(sum, {0}, {channels}, {channels + 1}, {1}), {columns});
  return {turns_input ? b.transpose(b.slice_to(sum, {0}, {channels}), {1, 0}) : sum, rows};
}

}  // namespace

WeightGradient convolution_weight_gradient(Builder& b, const ConvolutionGeometry& g, ValueId input, ValueId output_gradient, BiasSum bias, int64_t elements) {
  constexpr int64_t kFewChannels = 16, kLargeSums = 1 << 20;
  const Grid grid(g);
  const int64_t samples = b.shape(input)[0], channels = b.shape(input)[1], columns = b.shape(output_gradient)[1], taps = g.kernel[0] * g.kernel[1];
  // Samples are runs of bytes where channels are last; parts of their pixels would be copies.
  const ValueId x = b.transpose(input, {0, 2, 3, 1}), dy = b.transpose(output_gradient, {0, 2, 3, 1});
  if (taps == 1) {
    WeightGradient one = gradient_of_one_tap(b, g, x, dy, bias, elements);
    if (bias != BiasSum::kNone && one.bias == kNoValue) one.bias = b.sum(output_gradient, {0, 2, 3}, false);
    return {b.reshape(one.weights, {columns, channels, 1, 1}), one.bias};
  }
  const bool by_row = channels <= kFewChannels && g.kernel[1] > 1;
  const int64_t positions = grid.length[0] * (by_row ? g.out[1] : grid.length[1]), width = by_row ? g.kernel[1] * channels : channels;
  // Sums that have no place in a scratchpad pass once for each chunk.
  if (taps * channels * columns > kLargeSums) elements *= 2;
  const int64_t sample = positions * (width + columns), at_once = std::max<int64_t>(1, std::min(Builder::kLongestProduct / positions, elements / sample));
  const int64_t rows_at_once = at_once > 1 ? g.out[0] : ceil_div(g.out[0], std::min(g.out[0], ceil_div(sample, elements)));
  std::vector<ValueId> sums;
  ValueId bias_sum = kNoValue;
  for (int64_t from = 0; from < samples; from += at_once) {
    const auto part = [&](ValueId v) { return b.slice(v, {0}, {from}, {std::min(samples, from + at_once)}, {1}); };
    for (int64_t row = 0; row < g.out[0]; row += rows_at_once) {
      const RowBlock block(g, row, std::min(g.out[0], row + rows_at_once));
      const Operands o = (by_row ? operands_by_row : operands_by_tap)(b, Grid(block.geometry), block.input(b, part(x)), block.gradient(b, part(dy)));
      if (bias != BiasSum::kNone) bias_sum = add_rows(b, bias_sum, o.padded);
      sums.resize(o.taps.size(), kNoValue);
      for (size_t t = 0; t < o.taps.size(); ++t) sums[t] = b.add_product(sums[t], o.gradient, o.taps[t]);
    }
  }
  for (ValueId& sum : sums) sum = b.reshape(sum, {1, columns, by_row ? g.kernel[1] : 1, channels});
  return {b.transpose(b.reshape(b.transpose(b.concat(sums, 0), {0, 2, 1, 3}), {g.kernel[0], g.kernel[1], columns, channels}), {2, 3, 0, 1}), bias_sum};
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
    const Shape x = b.shape(n.inputs[0]), w = b.shape(n.inputs[1]), y = graph.value(n.outputs[0]).shape;
    const ConvolutionGeometry g(with_pads(n, x, w, y), y, w, x);
    convolution_data_gradient(b, g, n.inputs[0], n.inputs[1], y, n.inputs.size() > 2 ? n.inputs[2] : kNoValue);
    graph.nodes.back().outputs = n.outputs;
  }
}

}  // namespace systole
