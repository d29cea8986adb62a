// Resize (10, 11, 13, 18, 19), Upsample (7, 9): nearest is a move; linear is two interpolation steps, rows then columns,
// each a pair of gathers and one fused multiply-add per element.
#include "ops/resize.h"

#include <algorithm>
#include <cmath>

#include "ops/matrices.h"
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

/// What a node asks for: extents, scales per axis and how coordinates map.
struct Request {
  Shape shape;
  std::vector<double> scales, roi_begin, roi_end;
  Settings s;
  double cubic = -0.75, extrapolation = 0;
  bool exclude_outside = false, antialias = false;
};

/// `constant(k, name)` is input k, or an error.
template <class Constant>
Request read_request(const Node& node, const Shape& in, Constant&& constant) {
  const auto& op = std::get<OnnxOp>(node.op);
  const bool eleven = op.type == "Resize" && op.opset >= 11;
  Request r;
  r.s = {op.text("mode", "nearest"), op.text("coordinate_transformation_mode", eleven ? "half_pixel" : "asymmetric"), op.text("nearest_mode", eleven ? "round_prefer_floor" : "floor")};
  if (r.s.mode == "bilinear") r.s.mode = "linear";
  if (r.s.mode != "nearest" && r.s.mode != "linear" && r.s.mode != "cubic") malformed(node, "mode '" + r.s.mode + "'", "nearest, linear or cubic");
  r.cubic = static_cast<double>(op.real("cubic_coeff_a", -0.75f)), r.extrapolation = static_cast<double>(op.real("extrapolation_value", 0));
  r.exclude_outside = op.integer("exclude_outside", 0) != 0, r.antialias = op.integer("antialias", 0) != 0;
  std::vector<double> given;
  const size_t scales_input = eleven ? 2 : 1;
  if (op.has("scales")) {
    for (float f : op.reals("scales")) given.push_back(static_cast<double>(f));
  } else if (Lowering::present(node, scales_input)) {
    for (float f : constant(scales_input, "scales")->to_floats()) given.push_back(f);
  }
  std::vector<int64_t> axes = op.integers("axes");
  if (axes.empty()) {
    for (size_t d = 0; d < in.size(); ++d) axes.push_back(static_cast<int64_t>(d));
  }
  for (int64_t& a : axes) a = normalise_axis(node, a, in.size());
  r.shape = in, r.scales.assign(in.size(), 1.0), r.roi_begin.assign(in.size(), 0.0), r.roi_end.assign(in.size(), 1.0);
  const bool by_sizes = given.empty();
  auto sizes = by_sizes ? constant(3, "sizes")->to_ints() : std::vector<int64_t>{};
  if ((by_sizes ? sizes.size() : given.size()) != axes.size()) malformed(node, "scales or sizes of the wrong length", std::to_string(axes.size()));
  const std::string policy = op.text("keep_aspect_ratio_policy", "stretch");
  if (by_sizes && policy != "stretch") {
    double scale = policy == "not_larger" ? INFINITY : 0;
    for (size_t i = 0; i < axes.size(); ++i) {
      const double own = static_cast<double>(sizes[i]) / static_cast<double>(in[static_cast<size_t>(axes[i])]);
      scale = policy == "not_larger" ? std::min(scale, own) : std::max(scale, own);
    }
    for (size_t i = 0; i < axes.size(); ++i) sizes[i] = static_cast<int64_t>(std::floor(scale * static_cast<double>(in[static_cast<size_t>(axes[i])]) + 0.5)), given.push_back(scale);
  }
  for (size_t i = 0; i < axes.size(); ++i) {
    const size_t d = static_cast<size_t>(axes[i]);
    r.shape[d] = by_sizes ? sizes[i] : static_cast<int64_t>(std::floor(static_cast<double>(in[d]) * given[i]));
    if (r.shape[d] < 1 || r.shape[d] > (1 << 20)) malformed(node, "an output extent of " + std::to_string(r.shape[d]), "1 to 2^20");
    r.scales[d] = given.empty() ? static_cast<double>(r.shape[d]) / static_cast<double>(in[d]) : given[i];
  }
  if (r.s.coordinates == "tf_crop_and_resize") {
    const TensorPtr roi = constant(1, "roi");
    if (roi->count() != static_cast<int64_t>(2 * axes.size())) malformed(node, "a region of " + std::to_string(roi->count()) + " values", std::to_string(2 * axes.size()));
    for (size_t i = 0; i < axes.size(); ++i) {
      const size_t d = static_cast<size_t>(axes[i]);
      r.roi_begin[d] = roi->at(static_cast<int64_t>(i)), r.roi_end[d] = roi->at(static_cast<int64_t>(axes.size() + i));
    }
  }
  return r;
}

void lower_resize(Lowering& l, const Node& node) {
  const Request r = read_request(node, l.shape(node.inputs[0]), [&](size_t k, const char* name) { return l.need_constant(node, k, name); });
  resize(l, node, r.shape, r.scales, r.s);
}

/// Weights of one output position: taps start at `first`, `ratio` of the way to the next sample.
std::vector<double> kernel_weights(const Request& r, double ratio, double scale, int64_t* first) {
  const bool cubic = r.s.mode == "cubic";
  const double a = r.cubic, narrow = r.antialias ? std::min(scale, 1.0) : 1.0, reach = cubic ? 2 : 1;
  *first = static_cast<int64_t>(std::floor(-reach / narrow)) + 1;
  std::vector<double> w;
  double sum = 0;
  for (int64_t k = *first; k <= 1 - *first; ++k) {
    const double t = std::fabs((static_cast<double>(k) - ratio) * narrow);
    w.push_back(!cubic ? std::max(0.0, 1 - t) : t <= 1 ? ((a + 2) * t - (a + 3)) * t * t + 1 : t < 2 ? ((a * t - 5 * a) * t + 8 * a) * t - 4 * a : 0.0);
    sum += w.back();
  }
  for (double& v : w) v = r.antialias ? v / sum : v;
  return w;
}

/// [in, out] weights of one axis; `outside` marks outputs that read beyond the input (tf_crop_and_resize).
Tensor axis_matrix(const Request& r, size_t d, int64_t in, std::vector<bool>& outside) {
  const int64_t out = r.shape[d];
  Tensor m(DType::kF32, {in, out});
  outside.assign(static_cast<size_t>(out), false);
  for (int64_t o = 0; o < out; ++o) {
    const bool crop = r.s.coordinates == "tf_crop_and_resize";
    const double span = static_cast<double>(in - 1), begin = r.roi_begin[d], end = r.roi_end[d];
    const double x = !crop ? source_coordinate(r.s, o, in, out, r.scales[d]) : out > 1 ? begin * span + static_cast<double>(o) * (end - begin) * span / static_cast<double>(out - 1) : 0.5 * (begin + end) * span;
    outside[static_cast<size_t>(o)] = crop && (x < 0 || x > span);
    double base = std::floor(x), ratio = x - base;
    if (ratio == 0) base -= 1, ratio = 1;
    if (r.s.mode == "nearest") base = std::floor(x + 0.5), ratio = 0;
    int64_t first = 0;
    const auto w = r.s.mode == "nearest" ? std::vector<double>{1} : kernel_weights(r, ratio, r.scales[d], &first);
    double kept = 0;
    for (size_t k = 0; k < w.size(); ++k) {
      const int64_t at = static_cast<int64_t>(base) + first + static_cast<int64_t>(k);
      kept += at >= 0 && at < in ? w[k] : 0;
    }
    for (size_t k = 0; k < w.size(); ++k) {
      const int64_t at = static_cast<int64_t>(base) + first + static_cast<int64_t>(k), to = std::clamp<int64_t>(at, 0, in - 1) * out + o;
      if (r.exclude_outside && at != std::clamp<int64_t>(at, 0, in - 1)) continue;
      m.set(to, m.at(to) + (r.exclude_outside ? w[k] / kept : w[k]));
    }
  }
  return m;
}

/// [in, out] weights of nearest and linear: what sample_axis reads.
Tensor sample_matrix(const AxisSamples& a, int64_t in) {
  const int64_t out = static_cast<int64_t>(a.lo.size());
  Tensor m(DType::kF32, {in, out});
  for (int64_t o = 0; o < out; ++o) {
    const size_t i = static_cast<size_t>(o);
    const double high = a.weight.empty() ? 0 : static_cast<double>(a.weight[i]);
    const auto give = [&](int64_t at, double w) { m.set(at * out + o, m.at(at * out + o) + w); };
    give(a.lo[i], 1 - high);
    if (!a.hi.empty()) give(a.hi[i], high);
  }
  return m;
}

bool is_product(const Request& r) { return r.s.mode == "cubic" || r.antialias || r.s.coordinates == "tf_crop_and_resize"; }

/// Cubic kernels, antialiasing and crops are products with one matrix per axis.
bool expand_resize(Expander& x) {
  const OnnxOp& op = x.op();
  if (op.text("mode", "nearest") != "cubic" && !op.integer("antialias", 0) && op.text("coordinate_transformation_mode", "") != "tf_crop_and_resize") return false;
  const Shape in = x.shape(0);
  const Request r = read_request(x.node, in, [&](size_t k, const char* name) {
    const TensorPtr t = x.constant(k);
    if (!t) unsupported(x.node, std::string("input '") + name + "' is computed at run time; it must be a constant");
    return t;
  });
  if (r.s.mode == "nearest" && r.antialias) unsupported(x.node, "antialias with nearest");
  ValueId v = x.in(0);
  Shape shape = in;
  Tensor inside(DType::kBool, r.shape);
  std::fill(inside.bytes.begin(), inside.bytes.end(), uint8_t{1});
  bool crops = false;
  for (size_t d = 0; d < in.size(); ++d) {
    std::vector<bool> outside;
    const bool crop = r.roi_begin[d] != 0 || r.roi_end[d] != 1;
    if (r.shape[d] == in[d] && r.scales[d] == 1 && !crop) continue;
    v = multiply_axis(x, v, shape, d, axis_matrix(r, d, in[d], outside));
    shape[d] = r.shape[d];
    const int64_t inner = row_major_strides(r.shape)[d];
    for (int64_t i = 0; i < inside.count(); ++i) {
      if (outside[static_cast<size_t>(i / inner % shape[d])]) inside.set_int(i, 0), crops = true;
    }
  }
  if (crops) v = x.call("Where", {x.constant_tensor(inside), v, x.scalar(r.extrapolation)});
  x.result(0, v);
  return true;
}

constexpr Operator kOperators[] = {
    {"", "Resize", lower_resize, "DMA", 1, expand_resize},
    {"", "Upsample", lower_resize, "DMA"},
};

}  // namespace

std::vector<Tensor> resize_weights(const Node& node, const Shape& in, const std::function<TensorPtr(size_t)>& constant) {
  const Request r = read_request(node, in, [&](size_t k, const char* name) {
    TensorPtr t = constant(k);
    if (!t) unsupported(node, std::string("input '") + name + "' is computed at run time; it must be a constant");
    return t;
  });
  if (r.s.coordinates == "tf_crop_and_resize") unsupported(node, "weights of a crop");
  std::vector<Tensor> list(in.size());
  for (size_t d = 0; d < in.size(); ++d) {
    if (r.shape[d] == in[d] && (r.scales[d] == 1 || !is_product(r))) continue;
    std::vector<bool> outside;
    list[d] = is_product(r) ? axis_matrix(r, d, in[d], outside) : sample_matrix(sample_axis(r.s, in[d], r.shape[d], r.scales[d]), in[d]);
  }
  return list;
}

std::span<const Operator> resize_operators() { return kOperators; }

}  // namespace systole
