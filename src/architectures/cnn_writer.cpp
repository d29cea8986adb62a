#include "architectures/cnn_writer.h"

#include <algorithm>
#include <cmath>

namespace systole {

CnnWriter::CnnWriter(const std::string& name, uint64_t seed, int64_t channels, int64_t height, int64_t width, bool quantised)
    : writer_(name, "Written by systole model: the real architecture with random weights of seed " + std::to_string(seed) + "; outputs mean nothing."), rng_(seed), channels_(channels), height_(height), quantised_(quantised) {
  writer_.input("x", DType::kF32, {1, channels, height, width});
}

Feature CnnWriter::input() { return requantised({"x", channels_, height_}, false); }

Tensor CnnWriter::random_tensor(const Shape& shape, float deviation) {
  Tensor t(DType::kF32, shape);
  for (int64_t i = 0; i < t.count(); ++i) {
    double sum = -6;
    for (int k = 0; k < 12; ++k) sum += static_cast<double>(rng_() >> 11) * 0x1p-53;
    t.data<float>()[i] = static_cast<float>(sum) * deviation;
  }
  return t;
}

std::string CnnWriter::weights(const Shape& shape, float deviation) { return writer_.constant("w" + std::to_string(next_++), random_tensor(shape, deviation)); }

std::pair<std::string, std::string> CnnWriter::parameters(const Shape& shape, float deviation, float bias_deviation, float input_scale) {
  if (!quantised_) {
    const std::string w = weights(shape, deviation);
    return {w, weights({shape[0]}, bias_deviation)};
  }
  const Tensor w = random_tensor(shape, deviation), b = random_tensor({shape[0]}, bias_deviation);
  const std::string id = std::to_string(next_++);
  const int64_t channels = shape[0], each = w.count() / channels;
  Tensor w8(DType::kI8, shape), b32(DType::kI32, {channels}), scale(DType::kF32, {channels}), bias_scale(DType::kF32, {channels});
  for (int64_t c = 0; c < channels; ++c) {
    float most = 1e-8f;
    for (int64_t i = 0; i < each; ++i) most = std::max(most, std::fabs(w.load<float>(c * each + i)));
    const float step = most / 127;
    scale.data<float>()[c] = step, bias_scale.data<float>()[c] = step * input_scale;
    for (int64_t i = 0; i < each; ++i) w8.set_int(c * each + i, std::lround(w.load<float>(c * each + i) / step));
    b32.set_int(c, std::lround(b.load<float>(c) / (step * input_scale)));
  }
  const auto axis = std::vector<ModelWriter::NamedAttribute>{{"axis", int64_t{0}}};
  const std::string weight = writer_.node("DequantizeLinear", {writer_.constant("w" + id, w8), writer_.constant("ws" + id, scale), writer_.constant("wz" + id, Tensor(DType::kI8, {channels}))}, axis);
  const std::string bias = writer_.node("DequantizeLinear", {writer_.constant("b" + id, b32), writer_.constant("bs" + id, bias_scale), writer_.constant("bz" + id, Tensor(DType::kI32, {channels}))}, axis);
  return {weight, bias};
}

Feature CnnWriter::requantised(Feature x, bool non_negative) {
  if (!quantised_) return x;
  const std::string id = std::to_string(next_++);
  x.scale = (non_negative ? 6.0f : 8.0f) / 255;
  Tensor zero(DType::kU8, {});
  zero.set_int(0, non_negative ? 0 : 128);
  const std::string s = writer_.constant("s" + id, Tensor::scalar_f32(x.scale)), z = writer_.constant("z" + id, zero);
  x.name = writer_.node("DequantizeLinear", {writer_.node("QuantizeLinear", {x.name, s, z}), s, z});
  return x;
}

Feature CnnWriter::activate(std::string y, int64_t channels, int64_t size, Activation activation) {
  if (activation == Activation::kRelu) y = writer_.node("Relu", {y});
  if (activation == Activation::kRelu6) {
    const std::string id = std::to_string(next_++);
    y = writer_.node("Clip", {y, writer_.constant("zero" + id, Tensor::scalar_f32(0)), writer_.constant("six" + id, Tensor::scalar_f32(6))});
  }
  return requantised({y, channels, size}, activation != Activation::kNone);
}

Feature CnnWriter::conv(const Feature& x, int64_t out, int64_t kernel, int64_t stride, Activation activation, int64_t groups, float gain) {
  const int64_t pad = kernel / 2, fan_in = x.channels / groups * kernel * kernel;
  const auto [w, b] = parameters({out, x.channels / groups, kernel, kernel}, std::sqrt(2.0f / static_cast<float>(fan_in)) * gain, 0.05f, x.scale);
  const std::string y = writer_.node("Conv", {x.name, w, b},
                                     {{"kernel_shape", std::vector<int64_t>{kernel, kernel}}, {"strides", std::vector<int64_t>{stride, stride}}, {"pads", std::vector<int64_t>(4, pad)}, {"group", groups}});
  return activate(y, out, (x.size + 2 * pad - kernel) / stride + 1, activation);
}

Feature CnnWriter::conv_rect(const Feature& x, int64_t out, int64_t kh, int64_t kw, int64_t stride, const std::vector<int64_t>& pads, int64_t out_size) {
  const std::string w = weights({out, x.channels, kh, kw}, std::sqrt(2.0f / static_cast<float>(x.channels * kh * kw))), b = weights({out}, 0.05f);
  return activate(writer_.node("Conv", {x.name, w, b}, {{"kernel_shape", std::vector<int64_t>{kh, kw}}, {"strides", std::vector<int64_t>{stride, stride}}, {"pads", pads}}), out, out_size, Activation::kRelu);
}

Feature CnnWriter::up_conv(const Feature& x, int64_t out) {
  const std::string w = weights({x.channels, out, 2, 2}, std::sqrt(2.0f / static_cast<float>(x.channels))), b = weights({out}, 0.05f);
  return {writer_.node("ConvTranspose", {x.name, w, b}, {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}}), out, x.size * 2};
}

Feature CnnWriter::add_relu(const Feature& a, const Feature& b, bool relu) {
  return activate(writer_.node("Add", {a.name, b.name}), a.channels, a.size, relu ? Activation::kRelu : Activation::kNone);
}

Feature CnnWriter::max_pool(const Feature& x, int64_t kernel, int64_t stride, int64_t pad) {
  const std::string y = writer_.node("MaxPool", {x.name}, {{"kernel_shape", std::vector<int64_t>{kernel, kernel}}, {"strides", std::vector<int64_t>{stride, stride}}, {"pads", std::vector<int64_t>(4, pad)}});
  Feature pooled = x;
  pooled.name = y, pooled.size = (x.size + 2 * pad - kernel) / stride + 1;
  return requantised(pooled, true);
}

Feature CnnWriter::concat(const Feature& a, const Feature& b) { return {writer_.node("Concat", {a.name, b.name}, {{"axis", int64_t{1}}}), a.channels + b.channels, a.size}; }

void CnnWriter::classifier(const Feature& x, int64_t classes) {
  const Feature mean = requantised({writer_.node("GlobalAveragePool", {x.name}), x.channels, 1}, true);
  const std::string flat = writer_.node("Flatten", {mean.name}, {{"axis", int64_t{1}}});
  const auto [w, b] = parameters({classes, x.channels}, 0.02f, 0.01f, mean.scale);
  writer_.node("Gemm", {flat, w, b}, {{"transB", int64_t{1}}}, quantised_ ? "float_logits" : "logits");
  if (quantised_) writer_.node("Identity", {requantised({"float_logits", classes, 1}, false).name}, {}, "logits");
  writer_.output("logits", DType::kF32, {1, classes});
}

void CnnWriter::dense_classifier(const Feature& x, const std::vector<int64_t>& widths) {
  std::string y = writer_.node("Flatten", {x.name}, {{"axis", int64_t{1}}});
  int64_t in = x.channels * x.size * x.size;
  for (size_t i = 0; i < widths.size(); ++i) {
    const bool last = i + 1 == widths.size();
    const auto [w, b] = parameters({widths[i], in}, static_cast<float>(std::sqrt(2.0 / static_cast<double>(in))), 0.01f, x.scale);
    y = writer_.node("Gemm", {y, w, b}, {{"transB", int64_t{1}}}, last ? "logits" : "");
    if (!last) y = writer_.node("Relu", {y});
    in = widths[i];
  }
  writer_.output("logits", DType::kF32, {1, in});
}

void CnnWriter::finish(const Feature& x, const std::string& path, const std::string& op) {
  writer_.node(op, {x.name}, {}, "output");
  writer_.output("output", DType::kF32, {1, x.channels, x.size, x.size});
  writer_.save(path);
}

}  // namespace systole
