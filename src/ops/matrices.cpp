// Operators that are products with constant matrices: CumSum, DFT and STFT, AffineGrid, GridSample on a known grid, Resize
// by any kernel; and CenterCropPad, a slice and a pad.
#include "ops/matrices.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "host/host.h"
#include "ops/operator.h"

namespace systole {

namespace {

int64_t product(const Shape& s, size_t from, size_t to) {
  int64_t n = 1;
  for (size_t d = from; d < to; ++d) n *= s[d];
  return n;
}

}  // namespace

ValueId multiply_axis(Expander& x, ValueId v, const Shape& shape, size_t axis, const Tensor& matrix) {
  const int64_t outer = product(shape, 0, axis), inner = product(shape, axis + 1, shape.size()), n = matrix.shape[1];
  Shape out = shape;
  out[axis] = n;
  if (inner == 1) return x.reshape(x.call("MatMul", {x.reshape(v, {outer, shape[axis]}), x.constant_tensor(matrix)}), out);
  const ValueId lines = x.transpose(x.reshape(v, {outer, shape[axis], inner}), {0, 2, 1});
  const ValueId y = x.call("MatMul", {x.reshape(lines, {outer * inner, shape[axis]}), x.constant_tensor(matrix)});
  return x.reshape(x.transpose(x.reshape(y, {outer, inner, n}), {0, 2, 1}), out);
}

namespace {

bool expand_cumsum(Expander& x) {
  const TensorPtr axis_value = x.constant(1);
  if (!axis_value || axis_value->count() < 1 || !is_float(x.type(0)) || x.op().type == "CumProd") return false;
  const Shape s = x.shape(0);
  const size_t axis = static_cast<size_t>(normalise_axis(x.node, axis_value->int_at(0), s.size()));
  const bool reverse = x.op().integer("reverse", 0) != 0, exclusive = x.op().integer("exclusive", 0) != 0;
  const int64_t n = s[axis];
  if (n < 1 || n > 2048) return false;
  Tensor m(DType::kF32, {n, n});
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const int64_t before = reverse ? i - j : j - i;  // i counts for j
      m.set(i * n + j, before > 0 || (before == 0 && !exclusive));
    }
  }
  x.result(0, multiply_axis(x, x.in(0), s, axis, m));
  return true;
}

bool expand_cumprod(Expander& x) {
  const TensorPtr axis_value = x.constant(1);
  if (!axis_value || axis_value->count() < 1 || !is_float(x.type(0))) return false;
  const Shape s = x.shape(0);
  const int64_t axis = normalise_axis(x.node, axis_value->int_at(0), s.size()), n = s[static_cast<size_t>(axis)];
  const bool reverse = x.op().integer("reverse", 0) != 0, exclusive = x.op().integer("exclusive", 0) != 0;
  if (n < 1 || n > 256) return false;
  std::vector<ValueId> parts(static_cast<size_t>(n));
  Shape one = s;
  one[static_cast<size_t>(axis)] = 1;
  Tensor ones(DType::kF32, one);
  for (int64_t i = 0; i < ones.count(); ++i) ones.set(i, 1);
  ValueId running = exclusive ? x.constant_tensor(ones) : kNoValue;
  for (int64_t k = 0; k < n; ++k) {
    const int64_t at = reverse ? n - 1 - k : k;
    const ValueId here = x.slice(x.in(0), axis, at, at + 1);
    if (exclusive) parts[static_cast<size_t>(at)] = running, running = x.mul(running, here);
    else parts[static_cast<size_t>(at)] = running = running == kNoValue ? here : x.mul(running, here);
  }
  x.result(0, n == 1 ? parts[0] : x.call("Concat", parts, {{"axis", axis}}));
  return true;
}

bool expand_center_crop_pad(Expander& x) {
  const TensorPtr target = x.constant(1);
  if (!target) return false;
  const Shape s = x.shape(0);
  auto axes = x.op().integers("axes");
  if (axes.empty()) {
    for (size_t d = 0; d < s.size(); ++d) axes.push_back(static_cast<int64_t>(d));
  }
  if (static_cast<int64_t>(axes.size()) != target->count()) malformed(x.node, std::to_string(target->count()) + " extents", std::to_string(axes.size()));
  std::vector<int64_t> starts(s.size(), 0), ends = s, pads(2 * s.size(), 0), every;
  for (size_t d = 0; d < s.size(); ++d) every.push_back(static_cast<int64_t>(d));
  for (size_t i = 0; i < axes.size(); ++i) {
    const size_t a = static_cast<size_t>(normalise_axis(x.node, axes[i], s.size()));
    const int64_t want = target->int_at(static_cast<int64_t>(i)), more = want - s[a];
    if (want < 1) malformed(x.node, "an extent of " + std::to_string(want), "1 or more");
    if (more < 0) starts[a] = -more / 2, ends[a] = starts[a] + want;
    else pads[a] = more / 2, pads[s.size() + a] = more - more / 2;
  }
  x.result(0, x.call("Pad", {x.call("Slice", {x.in(0), x.ints(starts), x.ints(ends), x.ints(every)}), x.ints(pads)}));
  return true;
}

bool expand_affine_grid(Expander& x) {
  const TensorPtr size = x.constant(1);
  if (!size || size->count() < 4) return false;
  // The host's own rule on unit matrices gives the grid that each column of theta weighs.
  const Shape s = size->to_ints();
  const int64_t rank = static_cast<int64_t>(s.size()) - 2, n = s[0];
  if (x.shape(0) != Shape{n, rank, rank + 1}) malformed(x.node, "theta of shape " + to_string(x.shape(0)), to_string({n, rank, rank + 1}));
  int64_t places = 1;
  for (size_t d = 2; d < s.size(); ++d) places *= s[d];
  Tensor base(DType::kF32, {rank + 1, places});
  Shape one = s;
  one[0] = 1;
  for (int64_t c = 0; c <= rank; ++c) {
    Tensor theta(DType::kF32, {1, rank, rank + 1});
    theta.set(c, 1);  // coordinate 0 reads column c
    const Node node{x.node.name, x.node.op, {0, 1}, {2}};
    const auto grid = run_host(node, {HostValue(theta), HostValue(Tensor::from_ints(one, {static_cast<int64_t>(one.size())}))}, {});
    for (int64_t p = 0; p < places; ++p) base.set(c * places + p, grid[0].tensor->at(p * rank));
  }
  Shape out = {n};
  out.insert(out.end(), s.begin() + 2, s.end());
  out.push_back(rank);
  x.result(0, x.reshape(x.transpose(x.call("MatMul", {x.in(0), x.constant_tensor(base)}), {0, 2, 1}), out));
  return true;
}

/// Rows: input places; columns: grid places. Found by sampling unit pictures with the host's own rule.
bool expand_grid_sample(Expander& x) {
  const TensorPtr grid = x.constant(1);
  const Shape s = x.shape(0);
  if (!grid || s.size() < 3 || grid->shape.size() != s.size() || grid->shape[0] != s[0]) return false;
  const int64_t places = product(s, 2, s.size()), out_places = product(grid->shape, 1, grid->shape.size() - 1);
  if (places * out_places > (int64_t{1} << 22)) return false;
  std::vector<ValueId> batches;
  Shape out = {s[0], s[1]};
  out.insert(out.end(), grid->shape.begin() + 1, grid->shape.end() - 1);
  for (int64_t b = 0; b < s[0]; ++b) {
    // All unit pictures at once, as channels.
    Shape unit_shape = {1, places};
    unit_shape.insert(unit_shape.end(), s.begin() + 2, s.end());
    Tensor units(DType::kF32, unit_shape), one(DType::kF32, grid->shape);
    one.shape[0] = 1;
    one = Tensor(DType::kF32, one.shape);
    for (int64_t i = 0; i < places; ++i) units.set(i * places + i, 1);
    for (int64_t i = 0; i < one.count(); ++i) one.set(i, grid->at(b * one.count() + i));
    const Node node{x.node.name, x.node.op, {0, 1}, {2}};
    auto sampled = *run_host(node, {HostValue(units), HostValue(one)}, {})[0].tensor;
    sampled.shape = {places, out_places};
    const ValueId picture = x.reshape(x.slice(x.in(0), 0, b, b + 1), {s[1], places});
    batches.push_back(x.reshape(x.call("MatMul", {picture, x.constant_tensor(sampled)}), {1, s[1], out_places}));
  }
  x.result(0, x.reshape(batches.size() == 1 ? batches[0] : x.call("Concat", batches, {{"axis", int64_t{0}}}), out));
  return true;
}

/// Real and imaginary parts interleaved: [n x parts] to [bins x 2].
Tensor dft_matrix(int64_t n, int64_t parts, int64_t bins, bool inverse, const Tensor* window) {
  Tensor m(DType::kF32, {n * parts, bins * 2});
  for (int64_t k = 0; k < n; ++k) {
    for (int64_t f = 0; f < bins; ++f) {
      const double angle = (inverse ? 2 : -2) * std::numbers::pi * static_cast<double>(k * f % n) / static_cast<double>(n);
      const double scale = (inverse ? 1 / static_cast<double>(n) : 1) * (window ? window->at(k) : 1), re = std::cos(angle) * scale, im = std::sin(angle) * scale;
      m.set(k * parts * 2 * bins + 2 * f, re), m.set(k * parts * 2 * bins + 2 * f + 1, im);
      if (parts == 2) m.set((k * parts + 1) * 2 * bins + 2 * f, -im), m.set((k * parts + 1) * 2 * bins + 2 * f + 1, re);
    }
  }
  return m;
}

bool expand_dft(Expander& x) {
  const Shape s = x.shape(0);
  const OnnxOp& op = x.op();
  if (s.size() < 2 || (s.back() != 1 && s.back() != 2) || (x.has(1) && !x.constant(1)) || (x.has(2) && !x.constant(2))) return false;
  const int64_t axis = normalise_axis(x.node, op.opset >= 20 ? (x.has(2) ? x.constant(2)->int_at(0) : -2) : op.integer("axis", 1), s.size());
  const size_t a = static_cast<size_t>(axis), last = s.size() - 1;
  const bool inverse = op.integer("inverse", 0) != 0, onesided = op.integer("onesided", 0) != 0;
  const int64_t n = x.has(1) ? x.constant(1)->int_at(0) : s[a];
  if (a == last || n != s[a] || inverse || n > 2048) return false;  // an inverse cancels: the host computes it in double
  const int64_t bins = onesided ? n / 2 + 1 : n, outer = product(s, 0, a), inner = product(s, a + 1, last), parts = s.back();
  const ValueId lines = x.reshape(x.transpose(x.reshape(x.in(0), {outer, n, inner, parts}), {0, 2, 1, 3}), {outer * inner, n * parts});
  const ValueId y = x.call("MatMul", {lines, x.constant_tensor(dft_matrix(n, parts, bins, inverse, nullptr))});
  Shape out = s;
  out[a] = bins, out.back() = 2;
  x.result(0, x.reshape(x.transpose(x.reshape(y, {outer, inner, bins, 2}), {0, 2, 1, 3}), out));
  return true;
}

bool expand_stft(Expander& x) {
  const Shape s = x.shape(0);
  const TensorPtr step_value = x.constant(1), window = x.constant(2), length_value = x.constant(3);
  if (s.size() != 3 || s[2] != 1 || !step_value || (x.has(2) && !window) || (x.has(3) && !length_value) || (!window && !length_value)) return false;
  const int64_t step = step_value->int_at(0), length = length_value ? length_value->int_at(0) : window->count();
  if (step < 1 || length < 1 || length > s[1] || length > 2048 || (window && window->count() != length)) return false;
  const int64_t frames = (s[1] - length) / step + 1, bins = x.op().integer("onesided", 1) ? length / 2 + 1 : length;
  // A convolution along time: one output channel per real and imaginary part.
  const Tensor m = dft_matrix(length, 1, bins, false, window.get());
  Tensor w(DType::kF32, {bins * 2, 1, length});
  for (int64_t k = 0; k < length; ++k) {
    for (int64_t f = 0; f < bins * 2; ++f) w.set(f * length + k, m.at(k * bins * 2 + f));
  }
  const ValueId y = x.call("Conv", {x.reshape(x.in(0), {s[0], 1, s[1]}), x.constant_tensor(w)}, {{"strides", std::vector<int64_t>{step}}});  // [B, 2 bins, frames]
  x.result(0, x.reshape(x.transpose(y, {0, 2, 1}), {s[0], frames, bins, 2}));
  return true;
}

constexpr Operator kOperators[] = {
    {"", "CumSum", nullptr, "expands", 2, expand_cumsum},
    {"", "CumProd", nullptr, "expands", 2, expand_cumprod},
    {"", "CenterCropPad", nullptr, "expands", 2, expand_center_crop_pad},
    {"", "AffineGrid", nullptr, "expands", 2, expand_affine_grid},
    {"", "GridSample", nullptr, "expands", 2, expand_grid_sample},
    {"", "DFT", nullptr, "expands", 1, expand_dft},
    {"", "STFT", nullptr, "expands", 2, expand_stft},
};

}  // namespace

std::span<const Operator> matrix_operators() { return kOperators; }

}  // namespace systole
