// Resize (10, 11, 13, 18, 19), Upsample (7, 9): nearest is a move; linear is two interpolation steps, rows then columns,
// each a pair of gathers and one fused multiply-add per element.
#include <algorithm>
#include <cmath>

#include "ops/operator.h"
#include "ops/window.h"

namespace systole {
namespace {

/// Where each output index of one axis reads: two source indices and the weight of the second.
struct AxisSamples {
  std::vector<int64_t> lo, hi;
  std::vector<float> weight;
};

struct Settings {
  std::string mode, coordinates, nearest;
};

double source_coordinate(const Settings& s, int64_t o, int64_t in, int64_t out, double scale) {
  const double x = static_cast<double>(o);
  if (s.coordinates == "asymmetric") return x / scale;
  if (s.coordinates == "align_corners") {
    const double resized = scale * static_cast<double>(in);  // not rounded when scales are given
    return out == 1 ? 0 : x * static_cast<double>(in - 1) / (resized - 1);
  }
  if (s.coordinates == "pytorch_half_pixel") return out == 1 ? 0 : (x + 0.5) / scale - 0.5;
  if (s.coordinates == "half_pixel_symmetric") {
    const double adjustment = static_cast<double>(out) / (scale * static_cast<double>(in)), centre = static_cast<double>(in) / 2;
    return centre * (1 - adjustment) + (x + 0.5) / scale - 0.5;
  }
  if (s.coordinates == "tf_half_pixel_for_nn") return (x + 0.5) / scale;
  return (x + 0.5) / scale - 0.5;  // half_pixel
}

AxisSamples sample_axis(const Settings& s, int64_t in, int64_t out, double scale) {
  AxisSamples a;
  for (int64_t o = 0; o < out; ++o) {
    // ONNX Runtime computes coordinates in float; rounding there decides ties of nearest.
    const double x = static_cast<float>(source_coordinate(s, o, in, out, scale));
    if (s.mode == "nearest") {
      double i = 0;
      if (s.nearest == "floor") i = std::floor(x);
      else if (s.nearest == "ceil") i = std::ceil(x);
      else if (s.nearest == "round_prefer_ceil") i = std::floor(x + 0.5);
      else i = x == std::floor(x) + 0.5 ? std::floor(x) : std::round(x);
      a.lo.push_back(std::clamp<int64_t>(static_cast<int64_t>(i), 0, in - 1));
    } else {
      const double clamped = std::clamp(x, 0.0, static_cast<double>(in - 1));
      const int64_t lo = std::min<int64_t>(static_cast<int64_t>(clamped), in - 1);
      a.lo.push_back(lo);
      a.hi.push_back(std::min(lo + 1, in - 1));
      a.weight.push_back(static_cast<float>(clamped - static_cast<double>(lo)));
    }
  }
  return a;
}

/// Rows of dimension `axis` of a dense value picked by `indices`: one region per run of equal steps, zero included.
ValueId gather_axis(Lowering& l, const std::string& name, ValueId id, size_t axis, const std::vector<int64_t>& indices) {
  const Value v = l.out.value(id);
  Shape shape = v.shape;
  shape[axis] = static_cast<int64_t>(indices.size());
  const auto src = row_major_strides(v.shape), dst = row_major_strides(shape);
  Move move;
  auto add = [&](size_t first, std::vector<int64_t> counts, std::vector<int64_t> src_steps, std::vector<int64_t> dst_steps) {
    CopyRegion r{0, {}, indices[first] * src[axis], static_cast<int64_t>(first) * dst[axis], {}, {}};
    for (size_t d = 0; d < shape.size(); ++d) {
      if (d != axis) {
        r.extents.push_back(shape[d]), r.src_strides.push_back(src[d]), r.dst_strides.push_back(dst[d]);
        continue;
      }
      for (size_t k = 0; k < counts.size(); ++k) r.extents.push_back(counts[k]), r.src_strides.push_back(src_steps[k] * src[d]), r.dst_strides.push_back(dst_steps[k] * dst[d]);
    }
    move.regions.push_back(std::move(r));
  };
  // Integer upscaling by f: indices 0 x f, 1 x f, ...: one region with a repeating loop.
  const int64_t n = static_cast<int64_t>(indices.size()), f = n / v.shape[axis];
  bool integral = f >= 1 && f * v.shape[axis] == n;
  for (int64_t i = 0; i < n && integral; ++i) integral = indices[static_cast<size_t>(i)] == i / f;
  if (integral) {
    add(0, {v.shape[axis], f}, {1, 0}, {f, 1});
  } else {
    for (size_t i = 0; i < indices.size();) {
      size_t end = i + 1;
      const int64_t step = end < indices.size() ? indices[end] - indices[i] : 1;
      while (end < indices.size() && indices[end] - indices[end - 1] == step) ++end;
      add(i, {static_cast<int64_t>(end - i)}, {step}, {1});
      i = end;
    }
  }
  return l.emit(name, std::move(move), {id}, v.type, shape);
}

ValueId interpolate_axis(Lowering& l, const Node& node, ValueId id, size_t axis, const AxisSamples& a) {
  const ValueId lo = gather_axis(l, node.name + ".lo", id, axis, a.lo), hi = gather_axis(l, node.name + ".hi", id, axis, a.hi);
  const Shape shape = l.out.value(lo).shape;
  MapBuilder m(l, node.name, shape);
  const Operand x = m.input(lo, direct_access(shape.size())), y = m.input(hi, direct_access(shape.size()));
  const ValueId w = l.add_constant(node.name + ".weight", Tensor::from_floats(a.weight, {static_cast<int64_t>(a.weight.size())}));
  const Operand weight = m.input(w, Access{{{0, {{static_cast<int>(axis), 1}}}}, false, 0});
  m.op(isa::Micro::kFma, {m.op(isa::Micro::kSub, {y, x}), weight, x});
  return m.finish(l.store_type(DType::kF32));
}

void resize(Lowering& l, const Node& node, const Shape& shape, const std::vector<double>& scales, const Settings& s) {
  const ValueId v = node.inputs[0];
  const Shape in = l.shape(v);
  if (shape == in) return l.alias(node.outputs[0], v);
  const auto best = l.best(v);
  ValueId id = best.id;
  for (size_t p = 0; p < best.perm.size(); ++p) {
    const size_t d = static_cast<size_t>(best.perm[p]);
    if (shape[d] == in[d]) continue;
    if (in[d] < 1) Lowering::malformed(node, "an empty axis", "a positive extent");
    const AxisSamples a = sample_axis(s, in[d], shape[d], scales[d]);
    id = s.mode == "nearest" ? gather_axis(l, node.name, id, p, a.lo) : interpolate_axis(l, node, id, p, a);
  }
  l.define(node.outputs[0], shape, best.perm, id);
}

void lower_resize(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const Shape in = l.shape(node.inputs[0]);
  const bool eleven = op.type == "Resize" && op.opset >= 11;
  Settings s{op.text("mode", "nearest"), op.text("coordinate_transformation_mode", eleven ? "half_pixel" : "asymmetric"), op.text("nearest_mode", eleven ? "round_prefer_floor" : "floor")};
  if (s.mode == "bilinear") s.mode = "linear";
  if (s.mode != "nearest" && s.mode != "linear") Lowering::unsupported(node, "mode '" + s.mode + "'; nearest and linear are supported");
  if (op.integer("antialias", 0)) Lowering::unsupported(node, "antialias = 1");
  if (s.coordinates == "tf_crop_and_resize") Lowering::unsupported(node, "tf_crop_and_resize");
  std::vector<double> given;
  const size_t scales_input = eleven ? 2 : 1;
  if (op.has("scales")) {
    const auto& list = std::get<std::vector<float>>(op.attributes.at("scales"));
    given.assign(list.begin(), list.end());
  } else if (Lowering::present(node, scales_input)) {
    for (float f : l.need_constant(node, scales_input, "scales")->to_floats()) given.push_back(f);
  }
  std::vector<int64_t> axes = op.integers("axes");
  if (axes.empty()) {
    for (size_t d = 0; d < in.size(); ++d) axes.push_back(static_cast<int64_t>(d));
  }
  Shape shape = in;
  std::vector<double> scales(in.size(), 1.0);
  const bool by_sizes = given.empty();
  const auto sizes = by_sizes ? l.need_ints(node, 3, "sizes") : std::vector<int64_t>{};
  if ((by_sizes ? sizes.size() : given.size()) != axes.size()) Lowering::malformed(node, "scales or sizes of the wrong length", std::to_string(axes.size()));
  if (by_sizes && op.text("keep_aspect_ratio_policy", "stretch") != "stretch") Lowering::unsupported(node, "keep_aspect_ratio_policy");
  for (size_t i = 0; i < axes.size(); ++i) {
    const size_t d = static_cast<size_t>(normalise_axis(node, axes[i], in.size()));
    shape[d] = by_sizes ? sizes[i] : static_cast<int64_t>(std::floor(static_cast<double>(in[d]) * given[i]));
    if (shape[d] < 1 || shape[d] > (1 << 20)) Lowering::malformed(node, "an output extent of " + std::to_string(shape[d]), "1 to 2^20");
    scales[d] = by_sizes ? static_cast<double>(shape[d]) / static_cast<double>(in[d]) : given[i];
  }
  resize(l, node, shape, scales, s);
}

constexpr Operator kOperators[] = {
    {"", "Resize", lower_resize, nullptr, "DMA"},
    {"", "Upsample", lower_resize, nullptr, "DMA"},
};

}  // namespace

std::span<const Operator> resize_operators() { return kOperators; }

}  // namespace systole
