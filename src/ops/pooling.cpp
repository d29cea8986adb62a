// MaxPool (1, 8, 10, 11, 12), AveragePool (1, 7, 10, 11, 19), Global*Pool (1), com.microsoft.QLinear*AveragePool: maps
// that reduce over a window.
#include <cmath>

#include "ops/operator.h"
#include "ops/volume.h"
#include "ops/quantized.h"
#include "ops/window.h"

namespace systole {
namespace {

/// Loops [N, OH, OW, C, KH, KW]; the access is guarded where the window may leave the image.
Access window_access(const Window& w) {
  Access a;
  a.index = {{0, {{0, 1}}}, {-w.pad_begin[0], {{1, w.stride[0]}, {4, w.dilation[0]}}}, {-w.pad_begin[1], {{2, w.stride[1]}, {5, w.dilation[1]}}}, {0, {{3, 1}}}};
  for (size_t d = 0; d < 2; ++d) {
    const int64_t last = (w.out[d] - 1) * w.stride[d] + (w.kernel[d] - 1) * w.dilation[d] - w.pad_begin[d];
    a.guarded |= w.pad_begin[d] > 0 || last >= w.in[d];
  }
  return a;
}

void lower_max_pool(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const Shape x = l.shape(node.inputs[0]);
  if (node.outputs.size() > 1 && node.outputs[1] != kNoValue) Lowering::unsupported(node, "the Indices output");
  const Window w = read_window(node, op, x, op.integers("kernel_shape"), op.integer("ceil_mode", 0) != 0);
  const ValueId image = image_form(l, node.inputs[0]);
  const Shape s = l.out.value(image).shape;
  const DType type = l.out.value(image).type;
  MapBuilder m(l, node.name, {s[0], w.out[0], w.out[1], s[3], w.kernel[0], w.kernel[1]});
  m.map.fill = -INFINITY;
  m.op(isa::Micro::kMove, {m.input(image, window_access(w))});
  m.reduce(isa::Reduce::kMax, 2);
  define_image(l, node, node.outputs[0], m.finish(type), x.size());
}

ValueId average(Lowering& l, const Node& node, const Window& w, ValueId image, bool count_padding) {
  const Shape s = l.out.value(image).shape;
  MapBuilder m(l, node.name, {s[0], w.out[0], w.out[1], s[3], w.kernel[0], w.kernel[1]});
  m.op(isa::Micro::kMove, {m.input(image, window_access(w))});
  const Operand sum = m.reduce(isa::Reduce::kSum, 2);
  const Tensor counts = reciprocal_counts(w, count_padding);
  bool uniform = true;
  for (int64_t i = 1; i < counts.count(); ++i) uniform &= counts.at(i) == counts.at(0);
  const Operand scale = uniform ? Operand::value(static_cast<float>(counts.at(0))) : m.input(l.add_constant(node.name + ".count", counts), Access{{{0, {{1, 1}}}, {0, {{2, 1}}}}, false, 0});
  m.op(isa::Micro::kMul, {sum, scale});
  return m.finish(l.store_type(DType::kF32));
}

void lower_average_pool(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const Shape x = l.shape(node.inputs[0]);
  const Window w = read_window(node, op, x, op.integers("kernel_shape"), op.integer("ceil_mode", 0) != 0);
  define_image(l, node, node.outputs[0], average(l, node, w, image_form(l, node.inputs[0]), op.integer("count_include_pad", 0) != 0), x.size());
}

Window global_window(const Node& node, const Shape& x) {
  if (x.size() < 3 || x.size() > 4) Lowering::unsupported(node, "an input of shape " + to_string(x) + "; ranks 3 and 4 are supported");
  Window w;
  for (size_t d = 2; d < x.size(); ++d) w.kernel[d + 2 - x.size() + 0] = 1;
  for (size_t d = 0; d < x.size() - 2; ++d) w.kernel[2 - (x.size() - 2) + d] = w.in[2 - (x.size() - 2) + d] = x[2 + d];
  return w;
}

void lower_global_average_pool(Lowering& l, const Node& node) {
  const Shape x = l.shape(node.inputs[0]);
  define_image(l, node, node.outputs[0], average(l, node, global_window(node, x), image_form(l, node.inputs[0]), false), x.size());
}

void lower_global_max_pool(Lowering& l, const Node& node) {
  const Shape x = l.shape(node.inputs[0]);
  const Window w = global_window(node, x);
  const ValueId image = image_form(l, node.inputs[0]);
  const Shape s = l.out.value(image).shape;
  MapBuilder m(l, node.name, {s[0], 1, 1, s[3], w.kernel[0], w.kernel[1]});
  m.op(isa::Micro::kMove, {m.input(image, window_access(w))});
  m.reduce(isa::Reduce::kMax, 2);
  define_image(l, node, node.outputs[0], m.finish(l.out.value(image).type), x.size());
}

/// x, x_scale, x_zero, y_scale, y_zero: exact integer sum, then one multiplication by fl(sx / (n sy)).
void lower_qlinear_global_average_pool(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  if (op.integer("channels_last", 0)) Lowering::unsupported(node, "channels_last = 1");
  const Shape x = l.shape(node.inputs[0]);
  const Quantization qx = read_quantization(l, node, 1), qy = read_quantization(l, node, 3);
  const Window w = global_window(node, x);
  const ValueId image = image_form(l, node.inputs[0]);
  const Shape s = l.out.value(image).shape;
  MapBuilder m(l, node.name, {s[0], 1, 1, s[3], w.kernel[0], w.kernel[1]});
  Access a = window_access(w);
  a.zero_point = qx.zero_point;
  m.op(isa::Micro::kMove, {m.input(image, a)});
  const Operand sum = m.reduce(isa::Reduce::kSum, 2);
  const float n = static_cast<float>(w.kernel[0] * w.kernel[1]);
  m.op(isa::Micro::kMul, {sum, Operand::value(qx.scales[0] / (n * qy.scales[0]))});
  const auto [lo, hi] = clamp_range(node, qy.type);
  define_image(l, node, node.outputs[0], m.finish_quantized(qy.type, qy.zero_point, lo, hi), x.size());
}

constexpr Operator kOperators[] = {
    {"", "MaxPool", lower_max_pool, "VX", 1, expand_pool_3d},
    {"", "AveragePool", lower_average_pool, "VX", 1, expand_pool_3d},
    {"", "GlobalAveragePool", lower_global_average_pool, "VX", 1, expand_global_pool_3d},
    {"", "GlobalMaxPool", lower_global_max_pool, "VX", 1, expand_global_pool_3d},
    {"com.microsoft", "QLinearGlobalAveragePool", lower_qlinear_global_average_pool, "VX", 5},
};

}  // namespace

std::span<const Operator> pooling_operators() { return kOperators; }

}  // namespace systole
