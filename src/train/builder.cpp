#include "train/builder.h"

#include <algorithm>

#include "graph/checks.h"

namespace systole {

std::string Builder::name() { return prefix_ + std::to_string(next_++); }

ValueId Builder::node(const char* type, std::vector<ValueId> inputs, Shape out, Attributes attributes, DType dtype) {
  OnnxOp op;
  op.type = type, op.opset = 18;
  for (auto& [key, value] : attributes) op.attributes[key] = std::move(value);
  const std::string n = name();
  const ValueId y = graph_.add_value(n, dtype, std::move(out));
  graph_.value(y).shape_known = true;
  graph_.nodes.push_back({n, std::move(op), std::move(inputs), {y}});
  return y;
}

ValueId Builder::tensor(Tensor t) {
  const ValueId v = graph_.add_constant(name(), std::make_shared<const Tensor>(std::move(t)));
  graph_.value(v).shape_known = true;
  return v;
}
ValueId Builder::scalar(double v) { return tensor(Tensor::scalar_f32(static_cast<float>(v))); }
ValueId Builder::ints(const std::vector<int64_t>& v) { return tensor(Tensor::from_ints(v, {static_cast<int64_t>(v.size())})); }

ValueId Builder::input(const std::string& input_name, DType type, const Shape& s) {
  const ValueId v = graph_.add_value(input_name, type, s);
  graph_.value(v).shape_known = true;
  graph_.inputs.push_back(v);
  return v;
}

ValueId Builder::binary(const char* type, ValueId a, ValueId b) {
  static const Node kNode{"gradient", OnnxOp{}, {}, {}};
  return node(type, {a, b}, broadcast_shapes(kNode, shape(a), shape(b)));
}

static ValueId as_float(Builder& b, ValueId mask) { return b.node("Cast", {mask}, b.shape(mask), {{"systole_to", static_cast<int64_t>(DType::kF32)}}); }
ValueId Builder::greater(ValueId a, ValueId b) {
  const ValueId mask = binary("Greater", a, b);
  graph_.value(mask).type = DType::kBool;
  return as_float(*this, mask);
}
ValueId Builder::equal(ValueId a, ValueId b) {
  const ValueId mask = binary("Equal", a, b);
  graph_.value(mask).type = DType::kBool;
  return as_float(*this, mask);
}

ValueId Builder::reshape(ValueId a, const Shape& to) { return shape(a) == to ? a : node("Reshape", {a, ints(to)}, to, {{"allowzero", int64_t{1}}, {"systole_turns", int64_t{1}}}); }

ValueId Builder::transpose(ValueId a, const std::vector<int64_t>& perm) {
  Shape s;
  for (int64_t d : perm) s.push_back(shape(a)[static_cast<size_t>(d)]);
  return node("Transpose", {a}, s, {{"perm", perm}});
}

ValueId Builder::slice(ValueId a, const std::vector<int64_t>& axes, const std::vector<int64_t>& starts, const std::vector<int64_t>& ends, const std::vector<int64_t>& steps) {
  Shape s = shape(a);
  bool whole = true;
  for (size_t i = 0; i < axes.size(); ++i) {
    int64_t& extent = s[static_cast<size_t>(axes[i])];
    whole &= starts[i] == 0 && ends[i] == extent && steps[i] == 1;
    extent = steps[i] > 0 ? (ends[i] - starts[i] + steps[i] - 1) / steps[i] : (ends[i] - starts[i] + steps[i] + 1) / steps[i];
  }
  if (whole) return a;
  std::vector<int64_t> stops = ends;
  for (size_t i = 0; i < axes.size(); ++i) {
    if (steps[i] < 0 && stops[i] < 0) stops[i] = INT64_MIN;  // past the front
  }
  return node("Slice", {a, ints(starts), ints(stops), ints(axes), ints(steps)}, s);
}

ValueId Builder::slice_to(ValueId a, const std::vector<int64_t>& axes, const std::vector<int64_t>& lengths) {
  return slice(a, axes, std::vector<int64_t>(axes.size(), 0), lengths, std::vector<int64_t>(axes.size(), 1));
}

ValueId Builder::pad(ValueId a, const std::vector<int64_t>& begin, const std::vector<int64_t>& end, double value) {
  Shape s = shape(a);
  std::vector<int64_t> pads = begin;
  pads.insert(pads.end(), end.begin(), end.end());
  if (std::all_of(pads.begin(), pads.end(), [](int64_t p) { return p == 0; })) return a;
  for (size_t d = 0; d < s.size(); ++d) s[d] += begin[d] + end[d];
  return node("Pad", {a, ints(pads), scalar(value)}, s);
}

ValueId Builder::concat(const std::vector<ValueId>& parts, int64_t axis) {
  if (parts.size() == 1) return parts[0];
  Shape s = shape(parts[0]);
  s[static_cast<size_t>(axis)] = 0;
  for (ValueId p : parts) s[static_cast<size_t>(axis)] += shape(p)[static_cast<size_t>(axis)];
  return node("Concat", parts, s, {{"axis", axis}});
}

ValueId Builder::expand(ValueId a, const Shape& to) { return shape(a) == to ? a : node("Expand", {a, ints(to)}, to); }

ValueId Builder::reduce(const char* type, ValueId a, std::vector<int64_t> axes, bool keep) {
  std::sort(axes.begin(), axes.end());
  for (size_t i = axes.size(); i-- > 0;) {
    Shape s = shape(a);
    s[static_cast<size_t>(axes[i])] = 1;
    if (shape(a)[static_cast<size_t>(axes[i])] != 1) a = node(type, {a, ints({axes[i]})}, s, {{"keepdims", int64_t{1}}, {"systole_exact", int64_t{1}}});
  }
  if (keep) return a;
  Shape s;
  for (int64_t d = 0; d < rank(a); ++d) {
    if (!std::count(axes.begin(), axes.end(), d)) s.push_back(shape(a)[static_cast<size_t>(d)]);
  }
  return reshape(a, s);
}

ValueId Builder::mean(ValueId a, const std::vector<int64_t>& axes, bool keep) {
  double n = 1;
  for (int64_t d : axes) n *= static_cast<double>(shape(a)[static_cast<size_t>(d)]);
  return scale(sum(a, axes, keep), 1 / n);
}

ValueId Builder::sum_to(ValueId a, const Shape& to) {
  const int64_t extra = rank(a) - static_cast<int64_t>(to.size());
  std::vector<int64_t> axes;
  for (int64_t d = 0; d < rank(a); ++d) {
    if (d < extra || (to[static_cast<size_t>(d - extra)] == 1 && shape(a)[static_cast<size_t>(d)] != 1)) axes.push_back(d);
  }
  return reshape(sum(a, axes, true), to);
}

ValueId Builder::matmul(ValueId a, ValueId b) {
  static const Node kNode{"gradient", OnnxOp{}, {}, {}};
  const Shape &x = shape(a), &y = shape(b);
  Shape s = broadcast_shapes(kNode, Shape(x.begin(), x.end() - 2), Shape(y.begin(), y.end() - 2));
  s.push_back(x[x.size() - 2]), s.push_back(y.back());
  return node("MatMul", {a, b}, s);
}

ValueId Builder::add_product(ValueId to, ValueId a, ValueId b) {
  const int64_t k = shape(a)[1], m = shape(a)[0], n = shape(b)[1];
  const Attributes exact = {{"systole_exact", int64_t{1}}};
  for (int64_t from = 0; from < k; from += kLongestProduct) {
    const int64_t end = std::min(k, from + kLongestProduct);
    const ValueId part = node("MatMul", {slice(a, {0, 1}, {0, from}, {m, end}, {1, 1}), slice(b, {0, 1}, {from, 0}, {end, n}, {1, 1})}, {m, n}, exact);
    to = to == kNoValue ? part : node("Add", {to, part}, {m, n}, exact);
  }
  return to;
}

}  // namespace systole
