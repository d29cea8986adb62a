// Shapes and layout: Reshape, Transpose, Concat, Split, Slice, Pad, Expand, Tile and their kin, on tensors of any type.
#include <algorithm>
#include <numeric>
#include <string>

#include "host/host.h"

namespace systole {
namespace {

void give_reshaped(HostCall& c, Shape shape) {
  if (element_count(shape) != c.in(0).count()) malformed(c.node, "shape " + to_string(shape), std::to_string(c.in(0).count()) + " elements");
  Tensor t = c.in(0);
  t.shape = std::move(shape);
  c.give(0, std::move(t));
}

void run_reshape(HostCall& c) {
  const Tensor& x = c.in(0);
  Shape shape = c.has(1) ? c.ints(1) : c.op().integers("shape");
  int64_t known = 1;
  size_t free = shape.size();
  for (size_t d = 0; d < shape.size(); ++d) {
    if (shape[d] == 0 && !c.op().integer("allowzero", 0)) {
      if (d >= x.shape.size()) malformed(c.node, "extent 0 at " + std::to_string(d), "an axis that the input has");
      shape[d] = x.shape[d];
    }
    if (shape[d] == -1) free = d;
    else known *= shape[d];
  }
  if (free < shape.size()) shape[free] = known ? x.count() / known : 0;
  give_reshaped(c, shape);
}

void run_flatten(HostCall& c) {
  const Shape& s = c.in(0).shape;
  int64_t axis = c.op().integer("axis", 1);
  if (axis < 0) axis += static_cast<int64_t>(s.size());
  if (axis < 0 || axis > static_cast<int64_t>(s.size())) malformed(c.node, "axis " + std::to_string(axis), "0 to the rank");
  Shape out = {1, 1};
  for (size_t d = 0; d < s.size(); ++d) out[static_cast<int64_t>(d) < axis ? 0 : 1] *= s[d];
  give_reshaped(c, out);
}

void run_squeeze(HostCall& c) {
  const Shape& s = c.in(0).shape;
  const auto axes = c.has(1) ? c.ints(1) : c.op().integers("axes");
  std::vector<bool> drop(s.size(), false);
  for (size_t d = 0; d < s.size(); ++d) drop[d] = axes.empty() && s[d] == 1;
  for (int64_t a : axes) drop[static_cast<size_t>(normalise_axis(c.node, a, s.size()))] = true;
  Shape out;
  for (size_t d = 0; d < s.size(); ++d) {
    if (!drop[d]) out.push_back(s[d]);
  }
  give_reshaped(c, out);
}

void run_unsqueeze(HostCall& c) {
  Shape s = c.in(0).shape;
  auto axes = c.has(1) ? c.ints(1) : c.op().integers("axes");
  for (int64_t& a : axes) a = normalise_axis(c.node, a, s.size() + axes.size());
  std::sort(axes.begin(), axes.end());
  for (int64_t a : axes) s.insert(s.begin() + std::min<int64_t>(a, static_cast<int64_t>(s.size())), 1);
  give_reshaped(c, s);
}

void run_identity(HostCall& c) { c.give(0, c.inputs.empty() ? HostValue() : c.inputs[0]); }

void run_transpose(HostCall& c) {
  const Tensor& x = c.in(0);
  auto perm = c.op().integers("perm");
  if (perm.empty()) {
    perm.resize(x.shape.size());
    std::iota(perm.rbegin(), perm.rend(), 0);
  }
  auto sorted = perm;
  std::sort(sorted.begin(), sorted.end());
  for (size_t d = 0; d < sorted.size(); ++d) {
    if (sorted[d] != static_cast<int64_t>(d) || sorted.size() != x.shape.size()) malformed(c.node, "perm " + to_string(perm), "a permutation of the axes");
  }
  if (x.type != DType::kString) return c.give(0, transpose(x, std::vector<int>(perm.begin(), perm.end())));
  Shape shape;
  std::vector<int64_t> strides;
  const auto own = row_major_strides(x.shape);
  for (int64_t p : perm) shape.push_back(x.shape[static_cast<size_t>(p)]), strides.push_back(own[static_cast<size_t>(p)]);
  Tensor& y = c.make(0, x.type, shape);
  Odometer at(shape);
  for (int64_t i = 0, n = y.count(); i < n; ++i, at.next()) copy_element(y, i, x, offset_of(at.index, strides));
}

/// Writes `from` into `to` at `start` along the axis.
void insert(Tensor& to, const Tensor& from, size_t axis, int64_t start) {
  Odometer at(from.shape);
  const auto strides = row_major_strides(to.shape);
  for (int64_t i = 0, n = from.count(); i < n; ++i, at.next()) copy_element(to, offset_of(at.index, strides) + start * strides[axis], from, i);
}

Tensor concat(const Node& node, const std::vector<TensorPtr>& parts, int64_t axis_attribute) {
  if (parts.empty()) malformed(node, "no tensors", "one or more");
  const size_t axis = static_cast<size_t>(normalise_axis(node, axis_attribute, parts[0]->shape.size()));
  Shape shape = parts[0]->shape;
  shape[axis] = 0;
  for (const auto& p : parts) {
    Shape s = p->shape;
    if (s.size() != shape.size() || p->type != parts[0]->type) malformed(node, to_string(parts[0]->shape) + " and " + to_string(s), "equal ranks and types");
    shape[axis] += s[axis];
    s[axis] = parts[0]->shape[axis];
    if (s != parts[0]->shape) malformed(node, to_string(parts[0]->shape) + " and " + to_string(p->shape), "equal extents outside the axis");
  }
  Tensor y = blank(parts[0]->type, shape);
  int64_t start = 0;
  for (const auto& p : parts) insert(y, *p, axis, start), start += p->shape[axis];
  return y;
}

void run_concat(HostCall& c) {
  std::vector<TensorPtr> parts;
  size_t rank = 0;
  for (size_t k = 0; k < c.inputs.size(); ++k) parts.push_back(c.ptr(k)), rank = std::max(rank, parts.back()->shape.size());
  if (rank > 1) std::erase_if(parts, [](const TensorPtr& t) { return t->shape == Shape{0}; });  // nothing, as in lower_concat
  c.give(0, concat(c.node, parts, c.op().integer("axis", 1)));
}

/// Sequence of tensors to one, joined along an axis or stacked along a new one.
void run_concat_from_sequence(HostCall& c) {
  const int64_t axis = c.op().integer("axis", 0);
  const bool stack = c.op().integer("new_axis", 0) != 0;
  std::vector<TensorPtr> parts;
  for (const HostValue& v : c.list(0)) {
    if (!v.tensor) malformed(c.node, "a sequence of sequences", "a sequence of tensors");
    auto t = std::make_shared<Tensor>(*v.tensor);
    if (stack) t->shape.insert(t->shape.begin() + normalise_axis(c.node, axis, t->shape.size() + 1), 1);
    parts.push_back(t);
  }
  c.give(0, concat(c.node, parts, axis));
}

Tensor box(const Tensor& x, const std::vector<int64_t>& starts, const std::vector<int64_t>& steps, const Shape& shape) {
  Tensor y = blank(x.type, shape);
  auto strides = row_major_strides(x.shape);
  int64_t base = 0;
  for (size_t d = 0; d < shape.size(); ++d) base += starts[d] * strides[d], strides[d] *= steps[d];
  Odometer at(shape);
  for (int64_t i = 0, n = y.count(); i < n; ++i, at.next()) copy_element(y, i, x, base + offset_of(at.index, strides));
  return y;
}

/// Sizes of a split of `extent`: given, or equal parts with a smaller last one.
std::vector<int64_t> split_sizes(const HostCall& c, int64_t extent, std::vector<int64_t> sizes, int64_t parts) {
  if (sizes.empty()) {
    const int64_t each = (extent + parts - 1) / std::max<int64_t>(parts, 1);
    for (int64_t i = 0; i < parts; ++i) sizes.push_back(std::clamp<int64_t>(extent - i * each, 0, each));
  }
  if (std::accumulate(sizes.begin(), sizes.end(), int64_t{0}) != extent || std::any_of(sizes.begin(), sizes.end(), [](int64_t s) { return s < 0; })) malformed(c.node, "split sizes " + to_string(sizes), "sizes adding up to " + std::to_string(extent));
  return sizes;
}

std::vector<Tensor> split(const Tensor& x, size_t axis, const std::vector<int64_t>& sizes) {
  std::vector<Tensor> parts;
  std::vector<int64_t> starts(x.shape.size(), 0), steps(x.shape.size(), 1);
  for (int64_t size : sizes) {
    Shape shape = x.shape;
    shape[axis] = size;
    parts.push_back(box(x, starts, steps, shape));
    starts[axis] += size;
  }
  return parts;
}

void run_split(HostCall& c) {
  const Tensor& x = c.in(0);
  const size_t axis = static_cast<size_t>(normalise_axis(c.node, c.op().integer("axis", 0), x.shape.size()));
  const int64_t n = static_cast<int64_t>(c.node.outputs.size());
  const auto sizes = split_sizes(c, x.shape[axis], c.has(1) ? c.ints(1) : c.op().integers("split"), n);
  if (static_cast<int64_t>(sizes.size()) != n) malformed(c.node, std::to_string(sizes.size()) + " sizes", "one per output");
  auto parts = split(x, axis, sizes);
  for (size_t k = 0; k < parts.size(); ++k) c.give(k, std::move(parts[k]));
}

void run_split_to_sequence(HostCall& c) {
  const Tensor& x = c.in(0);
  const size_t axis = static_cast<size_t>(normalise_axis(c.node, c.op().integer("axis", 0), x.shape.size()));
  std::vector<int64_t> sizes;
  bool squeeze = false;
  if (!c.has(1)) {
    sizes.assign(static_cast<size_t>(x.shape[axis]), 1);
    squeeze = c.op().integer("keepdims", 1) == 0;
  } else if (c.in(1).shape.empty()) {
    const int64_t each = c.in(1).int_at(0);
    if (each < 1) malformed(c.node, "parts of " + std::to_string(each), "1 or more");
    for (int64_t left = x.shape[axis]; left > 0; left -= each) sizes.push_back(std::min(left, each));
  } else {
    sizes = c.ints(1);
  }
  std::vector<HostValue> list;
  for (Tensor& t : split(x, axis, split_sizes(c, x.shape[axis], sizes, 0))) {
    if (squeeze) t.shape.erase(t.shape.begin() + static_cast<long>(axis));
    list.emplace_back(std::move(t));
  }
  c.give(0, HostValue::list(std::move(list)));
}

void run_slice(HostCall& c) {
  const Tensor& x = c.in(0);
  const bool attributes = c.op().has("starts");
  const auto from = attributes ? c.op().integers("starts") : c.ints(1), to = attributes ? c.op().integers("ends") : c.ints(2);
  std::vector<int64_t> axes = attributes ? c.op().integers("axes") : c.has(3) ? c.ints(3) : std::vector<int64_t>{};
  const std::vector<int64_t> by = c.has(4) ? c.ints(4) : std::vector<int64_t>(from.size(), 1);
  if (axes.empty()) {
    for (size_t d = 0; d < from.size(); ++d) axes.push_back(static_cast<int64_t>(d));
  }
  if (to.size() != from.size() || axes.size() != from.size() || by.size() != from.size()) malformed(c.node, "starts, ends, axes and steps of different lengths", "equal lengths");
  std::vector<int64_t> starts(x.shape.size(), 0), steps(x.shape.size(), 1);
  Shape shape = x.shape;
  for (size_t i = 0; i < axes.size(); ++i) {
    const size_t a = static_cast<size_t>(normalise_axis(c.node, axes[i], x.shape.size()));
    const int64_t n = x.shape[a], step = by[i];
    if (step == 0) malformed(c.node, "a step of 0", "another step");
    auto bound = [&](int64_t v, int64_t lo, int64_t hi) { return std::clamp(v < 0 && v >= -n ? v + n : v < -n ? lo : v, lo, std::max(lo, hi)); };
    const int64_t s = step > 0 ? bound(from[i], 0, n) : bound(from[i], 0, n - 1), e = step > 0 ? bound(to[i], 0, n) : bound(to[i], -1, n - 1);
    starts[a] = s, steps[a] = step;
    const int64_t span = step > 0 ? e - s : s - e, pace = step > 0 ? step : -std::max(step, -INT64_MAX);
    shape[a] = span <= 0 || n == 0 ? 0 : (span - 1) / pace + 1;
  }
  c.give(0, box(x, starts, steps, shape));
}

void run_expand(HostCall& c) {
  const Tensor& x = c.in(0);
  const Shape shape = broadcast_shapes(c.node, x.shape, c.ints(1));
  const auto strides = broadcast_strides(x.shape, shape);
  Tensor& y = c.make(0, x.type, shape);
  Odometer at(shape);
  for (int64_t i = 0, n = y.count(); i < n; ++i, at.next()) copy_element(y, i, x, offset_of(at.index, strides));
}

void run_tile(HostCall& c) {
  const Tensor& x = c.in(0);
  const auto repeats = c.ints(1);
  if (repeats.size() != x.shape.size()) malformed(c.node, std::to_string(repeats.size()) + " repeats", std::to_string(x.shape.size()));
  Shape shape = x.shape;
  for (size_t d = 0; d < shape.size(); ++d) shape[d] *= repeats[d];
  Tensor& y = c.make(0, x.type, shape);
  const auto strides = row_major_strides(x.shape);
  Odometer at(shape);
  for (int64_t i = 0, n = y.count(); i < n; ++i, at.next()) {
    int64_t from = 0;
    for (size_t d = 0; d < shape.size(); ++d) from += at.index[d] % x.shape[d] * strides[d];
    copy_element(y, i, x, from);
  }
}

/// Index that padding reads on an axis of n elements; -1: the constant.
int64_t padded_index(int64_t i, int64_t n, const std::string& mode) {
  if (i >= 0 && i < n) return i;
  if (mode == "constant" || n == 0) return -1;
  if (mode == "edge") return std::clamp<int64_t>(i, 0, n - 1);
  if (mode == "wrap") return (i % n + n) % n;
  if (n == 1) return 0;
  const int64_t period = 2 * n - 2, k = (i % period + period) % period;  // reflect
  return k < n ? k : period - k;
}

void run_pad(HostCall& c) {
  const Tensor& x = c.in(0);
  const size_t rank = x.shape.size();
  const auto pads = c.has(1) ? c.ints(1) : c.op().integers("pads");
  std::vector<int64_t> axes = c.has(3) ? c.ints(3) : std::vector<int64_t>{};
  if (axes.empty()) {
    for (size_t d = 0; d < rank; ++d) axes.push_back(static_cast<int64_t>(d));
  }
  if (pads.size() != 2 * axes.size()) malformed(c.node, std::to_string(pads.size()) + " pads", std::to_string(2 * axes.size()));
  std::vector<int64_t> before(rank, 0);
  Shape shape = x.shape;
  for (size_t i = 0; i < axes.size(); ++i) {
    const size_t a = static_cast<size_t>(normalise_axis(c.node, axes[i], rank));
    before[a] = pads[i], shape[a] = std::max<int64_t>(0, shape[a] + pads[i] + pads[axes.size() + i]);
  }
  const std::string mode = c.op().text("mode", "constant");
  const auto strides = row_major_strides(x.shape);
  Tensor fill = blank(x.type, {1});
  if (c.has(2) && c.in(2).count() == 1 && c.in(2).type == x.type) copy_element(fill, 0, c.in(2), 0);
  else if (c.op().has("value")) fill.set(0, static_cast<double>(c.op().real("value", 0)));
  Tensor& y = c.make(0, x.type, shape);
  Odometer at(shape);
  for (int64_t i = 0, n = y.count(); i < n; ++i, at.next()) {
    int64_t from = 0;
    for (size_t d = 0; d < rank && from >= 0; ++d) {
      const int64_t k = padded_index(at.index[d] - before[d], x.shape[d], mode);
      from = k < 0 ? -1 : from + k * strides[d];
    }
    from < 0 ? copy_element(y, i, fill, 0) : copy_element(y, i, x, from);
  }
}

void run_trilu(HostCall& c) {
  const Tensor& x = c.in(0);
  if (x.shape.size() < 2) malformed(c.node, "shape " + to_string(x.shape), "a matrix");
  const int64_t k = static_cast<int64_t>(c.number(1, 0)), rows = x.shape[x.shape.size() - 2], columns = x.shape.back();
  const bool upper = c.op().integer("upper", 1) != 0;
  Tensor& y = c.make(0, x.type, x.shape);
  for (int64_t i = 0, n = x.count(); i < n; ++i) {
    const int64_t row = i / columns % rows, column = i % columns;
    if (upper ? column - k >= row : column - k <= row) copy_element(y, i, x, i);
  }
}

/// The first `lengths[b]` elements of each batch along time, reversed.
void run_reverse_sequence(HostCall& c) {
  const Tensor &x = c.in(0), &lengths = c.in(1);
  const size_t batch = static_cast<size_t>(normalise_axis(c.node, c.op().integer("batch_axis", 1), x.shape.size())), time = static_cast<size_t>(normalise_axis(c.node, c.op().integer("time_axis", 0), x.shape.size()));
  if (lengths.count() != x.shape[batch]) malformed(c.node, std::to_string(lengths.count()) + " lengths", std::to_string(x.shape[batch]));
  const auto strides = row_major_strides(x.shape);
  Tensor& y = c.make(0, x.type, x.shape);
  Odometer at(x.shape);
  for (int64_t i = 0, n = x.count(); i < n; ++i, at.next()) {
    const int64_t length = std::clamp<int64_t>(lengths.int_at(at.index[batch]), 0, x.shape[time]), t = at.index[time];
    copy_element(y, i, x, i + (t < length ? length - 1 - 2 * t : 0) * strides[time]);
  }
}

constexpr HostOperator kOperators[] = {
    {"", "Reshape", run_reshape, 2, true, true}, {"", "Flatten", run_flatten}, {"", "Squeeze", run_squeeze, 2}, {"", "Unsqueeze", run_unsqueeze, 2}, {"", "Identity", run_identity}, {"", "Transpose", run_transpose},
    {"", "Concat", run_concat}, {"", "ConcatFromSequence", run_concat_from_sequence, kAllInputs}, {"", "Split", run_split, 2, true, true}, {"", "SplitToSequence", run_split_to_sequence, kAllInputs, false}, {"", "Slice", run_slice, 0x1E},
    {"", "Expand", run_expand, 2}, {"", "Tile", run_tile, 2}, {"", "Pad", run_pad, 0xA}, {"", "Trilu", run_trilu, 2, true, true}, {"", "ReverseSequence", run_reverse_sequence},
};

}  // namespace

std::span<const HostOperator> host_layouts() { return kOperators; }

}  // namespace systole
