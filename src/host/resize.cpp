#include "host/resize.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "host/host.h"

namespace systole {
namespace {

double source_coordinate(const ResizeRequest& s, int64_t o, int64_t in, int64_t out, double scale) {
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

/// Weights of one output position: taps start at `first`, `ratio` of the way to the next sample.
std::vector<double> kernel_weights(const ResizeRequest& r, double ratio, double scale, int64_t* first) {
  const bool cubic = r.mode == "cubic";
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

}  // namespace

ResizeRequest::ResizeRequest(const Node& node, const Shape& in, const std::function<TensorPtr(size_t k, const char* name)>& constant) {
  const auto& op = std::get<OnnxOp>(node.op);
  const bool eleven = op.type == "Resize" && op.opset >= 11;
  mode = op.text("mode", "nearest"), coordinates = op.text("coordinate_transformation_mode", eleven ? "half_pixel" : "asymmetric"), nearest = op.text("nearest_mode", eleven ? "round_prefer_floor" : "floor");
  if (mode == "bilinear") mode = "linear";
  if (mode != "nearest" && mode != "linear" && mode != "cubic") malformed(node, "mode '" + mode + "'", "nearest, linear or cubic");
  cubic = static_cast<double>(op.real("cubic_coeff_a", -0.75f)), extrapolation = static_cast<double>(op.real("extrapolation_value", 0));
  exclude_outside = op.integer("exclude_outside", 0) != 0, antialias = op.integer("antialias", 0) != 0;
  std::vector<double> given;
  const size_t scales_input = eleven ? 2 : 1;
  if (op.has("scales")) {
    for (float f : op.reals("scales")) given.push_back(static_cast<double>(f));
  } else if (scales_input < node.inputs.size() && node.inputs[scales_input] != kNoValue) {
    for (float f : constant(scales_input, "scales")->to_floats()) given.push_back(f);
  }
  std::vector<int64_t> axes = op.integers("axes");
  if (axes.empty()) {
    for (size_t d = 0; d < in.size(); ++d) axes.push_back(static_cast<int64_t>(d));
  }
  for (int64_t& a : axes) a = normalise_axis(node, a, in.size());
  shape = in, scales.assign(in.size(), 1.0), roi_begin.assign(in.size(), 0.0), roi_end.assign(in.size(), 1.0);
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
    shape[d] = by_sizes ? sizes[i] : static_cast<int64_t>(std::floor(static_cast<double>(in[d]) * given[i]));
    if (shape[d] < (in[d] ? 1 : 0) || shape[d] > (1 << 20)) malformed(node, "an output extent of " + std::to_string(shape[d]), "1 to 2^20");
    scales[d] = given.empty() ? static_cast<double>(shape[d]) / static_cast<double>(in[d]) : given[i];
  }
  if (is_crop()) {
    const TensorPtr region = constant(1, "roi");
    if (region->count() != static_cast<int64_t>(2 * axes.size())) malformed(node, "a region of " + std::to_string(region->count()) + " values", std::to_string(2 * axes.size()));
    for (size_t i = 0; i < axes.size(); ++i) {
      const size_t d = static_cast<size_t>(axes[i]);
      roi_begin[d] = region->at(static_cast<int64_t>(i)), roi_end[d] = region->at(static_cast<int64_t>(axes.size() + i));
    }
  }
}

AxisSamples sample_axis(const ResizeRequest& s, size_t d, int64_t in) {
  const int64_t out = s.shape[d];
  AxisSamples a;
  for (int64_t o = 0; o < out; ++o) {
    // ONNX Runtime computes coordinates in float; rounding there decides ties of nearest.
    const double x = static_cast<float>(source_coordinate(s, o, in, out, s.scales[d]));
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

Tensor axis_matrix(const ResizeRequest& r, size_t d, int64_t in, std::vector<bool>& outside) {
  const int64_t out = r.shape[d];
  Tensor m(DType::kF32, {in, out});
  outside.assign(static_cast<size_t>(out), false);
  for (int64_t o = 0; o < out; ++o) {
    const bool crop = r.is_crop();
    const double span = static_cast<double>(in - 1), begin = r.roi_begin[d], end = r.roi_end[d];
    const double x = !crop ? source_coordinate(r, o, in, out, r.scales[d]) : out > 1 ? begin * span + static_cast<double>(o) * (end - begin) * span / static_cast<double>(out - 1) : 0.5 * (begin + end) * span;
    outside[static_cast<size_t>(o)] = crop && (x < 0 || x > span);
    double base = std::floor(x), ratio = x - base;
    if (ratio == 0) base -= 1, ratio = 1;
    if (r.mode == "nearest") base = std::floor(x + 0.5), ratio = 0;
    int64_t first = 0;
    const auto w = r.mode == "nearest" ? std::vector<double>{1} : kernel_weights(r, ratio, r.scales[d], &first);
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

namespace {

/// Sources and weights of each output index along an axis.
std::vector<std::vector<std::pair<int64_t, double>>> taps_of(const ResizeRequest& r, size_t d, int64_t in, std::vector<bool>& outside) {
  std::vector<std::vector<std::pair<int64_t, double>>> taps(static_cast<size_t>(r.shape[d]));
  outside.assign(taps.size(), false);
  if (!r.is_product()) {
    const AxisSamples a = sample_axis(r, d, in);
    for (size_t o = 0; o < taps.size(); ++o) {
      const double high = a.hi.empty() ? 0 : static_cast<double>(a.weight[o]);
      taps[o].emplace_back(a.lo[o], 1 - high);
      if (high != 0) taps[o].emplace_back(a.hi[o], high);
    }
    return taps;
  }
  const Tensor m = axis_matrix(r, d, in, outside);
  for (int64_t i = 0; i < m.count(); ++i) {
    if (m.at(i) != 0) taps[static_cast<size_t>(i % r.shape[d])].emplace_back(i / r.shape[d], m.at(i));
  }
  return taps;
}

/// Axis by axis, in double.
void run_resize(HostCall& c) {
  const Tensor& x = c.in(0);
  const ResizeRequest r(c.node, x.shape, [&](size_t k, const char*) { return c.ptr(k); });
  if (r.mode == "nearest" && r.antialias) unsupported(c.node, "antialias with nearest");
  Shape shape = x.shape;
  std::vector<double> v(static_cast<size_t>(x.count()));
  for (int64_t i = 0; i < x.count(); ++i) v[static_cast<size_t>(i)] = x.at(i);
  std::vector<std::vector<bool>> outside(shape.size());
  for (size_t d = 0; d < shape.size(); ++d) {
    if (r.keeps(d, shape[d])) continue;
    if (shape[d] < 1) malformed(c.node, "an empty axis", "a positive extent");
    if (r.is_product() && shape[d] * r.shape[d] > host_limits().elements) fail(ErrorCode::kResource, "node '" + c.node.name + "'", "weights of " + std::to_string(shape[d]) + " by " + std::to_string(r.shape[d]), "at most " + std::to_string(host_limits().elements));
    const auto taps = taps_of(r, d, shape[d], outside[d]);
    const int64_t in = shape[d], inner = row_major_strides(shape)[d];
    shape[d] = r.shape[d];
    if (element_count(shape) > host_limits().elements) fail(ErrorCode::kResource, "node '" + c.node.name + "'", "a result of shape " + to_string(shape), "at most " + std::to_string(host_limits().elements) + " elements");
    std::vector<double> made(static_cast<size_t>(element_count(shape)));
    for (size_t i = 0; i < made.size(); ++i) {
      const int64_t at = static_cast<int64_t>(i), o = at / inner % shape[d], base = at / (inner * shape[d]) * inner * in + at % inner;
      for (const auto& [from, weight] : taps[static_cast<size_t>(o)]) made[i] += weight * v[static_cast<size_t>(base + from * inner)];
    }
    v = std::move(made);
  }
  Tensor& y = c.make(0, x.type, shape);
  const auto strides = row_major_strides(shape);
  for (int64_t i = 0; i < y.count(); ++i) {
    double value = v[static_cast<size_t>(i)];
    for (size_t d = 0; d < shape.size(); ++d) {
      if (!outside[d].empty() && outside[d][static_cast<size_t>(i / strides[d] % shape[d])]) value = r.extrapolation;
    }
    is_float(y.type) ? y.set(i, value) : y.set_int(i, static_cast<int64_t>(value));
  }
}

constexpr HostOperator kOperators[] = {{"", "Resize", run_resize, 0xE, true, true}, {"", "Upsample", run_resize, 2, true, true}};

}  // namespace

std::span<const HostOperator> host_resizes() { return kOperators; }

}  // namespace systole
