#include "ops/window.h"

#include "base/error.h"

namespace systole {

Window read_window(const Node& node, const OnnxOp& op, const Shape& input, const std::vector<int64_t>& kernel, bool ceil_mode) {
  const size_t dims = kernel.size();
  if (input.size() != dims + 2 || dims < 1 || dims > 2) Lowering::unsupported(node, std::to_string(dims) + " spatial dimensions on an input of shape " + to_string(input) + "; one and two are supported");
  auto list = [&](const char* name, size_t count, int64_t otherwise) {
    auto v = op.integers(name);
    if (v.empty()) v.assign(count, otherwise);
    if (v.size() != count) Lowering::malformed(node, std::string(name) + " has " + std::to_string(v.size()) + " values", std::to_string(count));
    for (int64_t x : v) {
      if (x < (otherwise == 0 ? -65535 : 1) || x > 65535) Lowering::malformed(node, std::string(name) + " holds " + std::to_string(x), "values from " + std::to_string(otherwise) + " to 65535");
    }
    return v;
  };
  const auto strides = list("strides", dims, 1), dilations = list("dilations", dims, 1), pads = list("pads", 2 * dims, 0);
  const std::string auto_pad = op.text("auto_pad", "NOTSET");
  Window w;
  for (size_t d = 0; d < dims; ++d) {
    const size_t to = 2 - dims + d;
    w.kernel[to] = kernel[d], w.stride[to] = strides[d], w.dilation[to] = dilations[d], w.in[to] = input[d + 2];
    if (kernel[d] < 1 || kernel[d] > 65535) Lowering::malformed(node, "kernel extent " + std::to_string(kernel[d]), "1 to 65535");
    const int64_t extent = (kernel[d] - 1) * dilations[d] + 1;
    if (auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER") {
      w.out[to] = (w.in[to] + strides[d] - 1) / strides[d];
      const int64_t total = std::max<int64_t>(0, (w.out[to] - 1) * strides[d] + extent - w.in[to]);
      w.pad_begin[to] = auto_pad == "SAME_LOWER" ? (total + 1) / 2 : total / 2;
      w.pad_end[to] = total - w.pad_begin[to];
      continue;
    }
    if (auto_pad == "NOTSET") w.pad_begin[to] = pads[d], w.pad_end[to] = pads[d + dims];
    const int64_t span = w.in[to] + w.pad_begin[to] + w.pad_end[to] - extent;
    if (span < 0) Lowering::malformed(node, "a kernel of extent " + std::to_string(extent) + " on " + std::to_string(span + extent) + " padded elements", "a kernel that fits");
    w.out[to] = (ceil_mode ? (span + strides[d] - 1) / strides[d] : span / strides[d]) + 1;
    // ceil_mode: the last window must start inside the input or its leading pad
    if (ceil_mode && (w.out[to] - 1) * strides[d] >= w.in[to] + w.pad_begin[to]) --w.out[to];
  }
  return w;
}

Tensor reciprocal_counts(const Window& w, bool count_padding) {
  Tensor t(DType::kF32, {w.out[0], w.out[1]});
  auto inside = [&](size_t d, int64_t o) {
    int64_t n = 0;
    for (int64_t k = 0; k < w.kernel[d]; ++k) {
      const int64_t i = o * w.stride[d] + k * w.dilation[d] - w.pad_begin[d];
      n += count_padding ? i < w.in[d] + w.pad_end[d] : i >= 0 && i < w.in[d];
    }
    return n;
  };
  for (int64_t h = 0; h < w.out[0]; ++h)
    for (int64_t v = 0; v < w.out[1]; ++v) t.data<float>()[h * w.out[1] + v] = 1.0f / static_cast<float>(std::max<int64_t>(1, inside(0, h) * inside(1, v)));
  return t;
}

ValueId image_form_as(Lowering& l, ValueId v, DType type) {
  const Shape s = l.shape(v);
  if (s.size() < 3 || s.size() > 4) {
    fail(ErrorCode::kUnsupported, "value '" + l.source.value(v).name + "'", "shape " + to_string(s) + " where an image is needed", "[N, C, W] or [N, C, H, W]");
  }
  const ValueId id = l.form_as(v, channel_last_perm(s.size()), type);
  return s.size() == 3 ? l.emit_view(l.out.value(id).name, id, {s[0], 1, s[2], s[1]}) : id;
}

ValueId image_form(Lowering& l, ValueId v) {
  const DType type = l.out.value(l.best(v).id).type;
  return image_form_as(l, v, type);
}

void define_image(Lowering& l, const Node& node, ValueId v, ValueId image, size_t rank) {
  const Shape s = l.out.value(image).shape;
  if (rank == 4) return l.define(v, {s[0], s[3], s[1], s[2]}, channel_last_perm(4), image);
  l.define(v, {s[0], s[3], s[2]}, channel_last_perm(3), l.emit_view(node.name, image, {s[0], s[2], s[3]}));
}

}  // namespace systole
