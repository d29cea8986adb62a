// ReduceProd, Hardmax, TopK of a few, Col2Im (18), EyeLike, and Dropout whose result is known: written as other
// operators.
#include <algorithm>
#include <cmath>
#include <string>

#include "host/host.h"
#include "ops/normalization.h"
#include "ops/operator.h"

namespace systole {
namespace {

/// Pairs are multiplied until one slice is left.
bool expand_reduce_prod(Expander& x) {
  std::vector<int64_t> axes = x.op().integers("axes");
  if (x.has(1)) {
    if (!x.constant(1)) return false;
    axes = x.constant(1)->to_ints();
  }
  const Shape s = x.shape(0);
  if (!is_float(x.type(0)) || (axes.empty() && x.op().integer("noop_with_empty_axes", 0))) return false;
  if (axes.empty()) {
    for (size_t d = 0; d < s.size(); ++d) axes.push_back(static_cast<int64_t>(d));
  }
  Shape kept = s;
  ValueId v = x.in(0);
  for (int64_t& a : axes) {
    a = normalise_axis(x.node, a, s.size());
    int64_t n = s[static_cast<size_t>(a)];
    if (n < 1 || n > 4096) return false;
    for (; n > 1; n = (n + 1) / 2) {
      const int64_t half = n / 2;
      const ValueId pairs = x.mul(x.slice(v, a, 0, half), x.slice(v, a, half, 2 * half));
      v = n % 2 ? x.call("Concat", {pairs, x.slice(v, a, n - 1, n)}, {{"axis", a}}) : pairs;
    }
    kept[static_cast<size_t>(a)] = 1;
  }
  Shape out;
  for (size_t d = 0; d < s.size(); ++d) {
    if (!std::count(axes.begin(), axes.end(), static_cast<int64_t>(d))) out.push_back(s[d]);
  }
  x.result(0, x.op().integer("keepdims", 1) ? x.reshape(v, kept) : x.reshape(v, out));
  return true;
}

/// Numbers 0 to n - 1 along an axis, for comparison with an index that was cast to float.
ValueId iota(Expander& x, int64_t n, size_t axis, size_t rank) {
  std::vector<float> v;
  for (int64_t i = 0; i < n; ++i) v.push_back(static_cast<float>(i));
  Shape shape(rank, 1);
  shape[axis] = n;
  return x.constant_tensor(Tensor::from_floats(v, shape));
}
ValueId here(Expander& x, ValueId index, int64_t n, size_t axis, size_t rank) { return x.call("Equal", {iota(x, n, axis, rank), x.cast(index, DType::kF32)}); }

bool expand_hardmax(Expander& x) {
  const Shape s = x.shape(0);
  const bool flatten = x.op().opset < 13;
  const int64_t axis = normalise_axis(x.node, x.op().integer("axis", flatten ? 1 : -1), s.size());
  if (!is_float(x.type(0)) || (flatten && axis != static_cast<int64_t>(s.size()) - 1)) return false;
  const ValueId index = x.call("ArgMax", {x.in(0)}, {{"axis", axis}});
  x.result(0, x.cast(here(x, index, s[static_cast<size_t>(axis)], static_cast<size_t>(axis), s.size()), DType::kF32));
  return true;
}

/// The extreme, k times over, each taken out before the next is sought. Before opset 10 k was an attribute.
bool expand_top_k(Expander& x) {
  const TensorPtr count = x.constant(1);
  const Shape s = x.shape(0);
  const bool known = count ? count->count() == 1 : x.op().has("k");
  if (!is_float(x.type(0)) || !known || s.empty()) return false;
  const int64_t axis = normalise_axis(x.node, x.op().integer("axis", -1), s.size()), k = count ? count->int_at(0) : x.op().integer("k", 0);
  const bool largest = x.op().integer("largest", 1) != 0;
  if (k < 1 || k > 16 || k > s[static_cast<size_t>(axis)]) return false;
  ValueId v = x.in(0);
  std::vector<ValueId> values, indices;
  for (int64_t i = 0; i < k; ++i) {
    const ValueId index = x.call(largest ? "ArgMax" : "ArgMin", {v}, {{"axis", axis}});
    values.push_back(x.call(largest ? "ReduceMax" : "ReduceMin", {v, x.ints({axis})}));
    indices.push_back(index);
    if (i + 1 < k) v = x.call("Where", {here(x, index, s[static_cast<size_t>(axis)], static_cast<size_t>(axis), s.size()), x.scalar(largest ? -INFINITY : INFINITY), v});
  }
  x.result(0, k == 1 ? values[0] : x.call("Concat", values, {{"axis", axis}}));
  x.result(1, k == 1 ? indices[0] : x.call("Concat", indices, {{"axis", axis}}));
  return true;
}

/// Sums columns into an image: a transposed convolution whose kernels each hold a single one.
bool expand_col2im(Expander& x) {
  const TensorPtr image = x.constant(1), block = x.constant(2);
  const Shape s = x.shape(0);
  if (!image || !block || image->count() != 2 || block->count() != 2 || s.size() != 3 || !is_float(x.type(0))) return false;
  const OnnxOp& op = x.op();
  auto list = [&](const char* name, size_t n, int64_t otherwise) {
    auto v = op.integers(name);
    if (v.empty()) v.assign(n, otherwise);
    return v;
  };
  const auto stride = list("strides", 2, 1), dilation = list("dilations", 2, 1), pads = list("pads", 4, 0);
  const int64_t kh = block->int_at(0), kw = block->int_at(1), taps = kh * kw, channels = taps ? s[1] / taps : 0;
  if (kh < 1 || kw < 1 || s[1] % taps || stride.size() != 2 || pads.size() != 4 || dilation.size() != 2 || stride[0] < 1 || stride[1] < 1) return false;
  const int64_t rows = (image->int_at(0) + pads[0] + pads[2] - dilation[0] * (kh - 1) - 1) / stride[0] + 1, columns = (image->int_at(1) + pads[1] + pads[3] - dilation[1] * (kw - 1) - 1) / stride[1] + 1;
  if (rows * columns != s[2]) return false;
  Tensor w(DType::kF32, {s[1], 1, kh, kw});
  for (int64_t i = 0; i < s[1]; ++i) w.set(i * taps + i % taps, 1);
  const int64_t left[2] = {(rows - 1) * stride[0] + (kh - 1) * dilation[0] + 1 - pads[0] - pads[2], (columns - 1) * stride[1] + (kw - 1) * dilation[1] + 1 - pads[1] - pads[3]};
  x.result(0, x.call("ConvTranspose", {x.reshape(x.in(0), {s[0], s[1], rows, columns}), x.constant_tensor(w)},
                     {{"group", channels}, {"strides", stride}, {"dilations", dilation}, {"pads", pads}, {"output_padding", std::vector<int64_t>{image->int_at(0) - left[0], image->int_at(1) - left[1]}}}));
  return true;
}

/// Known from the shape.
bool expand_eye_like(Expander& x) {
  const auto eye = run_host(x.node, {HostValue(Tensor(x.type(0), x.shape(0)))}, {});
  x.result(0, x.constant_tensor(*eye.at(0).tensor));
  return true;
}

constexpr Operator kOperators[] = {
    {"", "ReduceProd", nullptr, "expands", 1, expand_reduce_prod}, {"", "Hardmax", nullptr, "expands", 1, expand_hardmax},
    {"", "TopK", nullptr, "expands", 1, expand_top_k},    {"", "Col2Im", nullptr, "expands", 3, expand_col2im},           {"", "EyeLike", nullptr, "expands", 1, expand_eye_like},
};

}  // namespace

/// Nothing is dropped in inference, or with a ratio of 0.
bool expand_dropout(Expander& x) {
  const TensorPtr ratio = x.constant(1), training = x.constant(2);
  if (x.has(2) && (!training || training->count() != 1)) return false;
  const bool trains = training && training->int_at(0);
  if (trains && (!ratio || ratio->count() != 1 || ratio->at(0) != 0)) return false;
  if (!trains && !x.wants(1)) return false;  // which is a view
  x.result(0, x.in(0));
  if (!x.wants(1)) return true;
  Tensor all(DType::kBool, x.shape(0));
  std::fill(all.bytes.begin(), all.bytes.end(), uint8_t{1});
  x.result(1, x.constant_tensor(all));
  return true;
}

std::span<const Operator> product_operators() { return kOperators; }

}  // namespace systole
