#include "architectures/cnn_writer.h"

#include <cmath>

namespace systole {

CnnWriter::CnnWriter(const std::string& name, uint64_t seed, int64_t channels, int64_t height, int64_t width)
    : writer_(name, "Written by systole model: the real architecture with random weights of seed " + std::to_string(seed) + "; outputs mean nothing."), rng_(seed), channels_(channels), height_(height) {
  writer_.input("x", DType::kF32, {1, channels, height, width});
}

std::string CnnWriter::weights(const Shape& shape, float deviation) {
  Tensor t(DType::kF32, shape);
  for (int64_t i = 0; i < t.count(); ++i) {
    double sum = -6;
    for (int k = 0; k < 12; ++k) sum += static_cast<double>(rng_() >> 11) * 0x1p-53;
    t.data<float>()[i] = static_cast<float>(sum) * deviation;
  }
  return writer_.constant("w" + std::to_string(next_++), t);
}

Feature CnnWriter::activate(std::string y, int64_t channels, int64_t size, Activation activation) {
  if (activation == Activation::kRelu) y = writer_.node("Relu", {y});
  if (activation == Activation::kRelu6) {
    const std::string id = std::to_string(next_++);
    y = writer_.node("Clip", {y, writer_.constant("zero" + id, Tensor::scalar_f32(0)), writer_.constant("six" + id, Tensor::scalar_f32(6))});
  }
  return {y, channels, size};
}

Feature CnnWriter::conv(const Feature& x, int64_t out, int64_t kernel, int64_t stride, Activation activation, int64_t groups, float gain) {
  const int64_t pad = kernel / 2, fan_in = x.channels / groups * kernel * kernel;
  const std::string w = weights({out, x.channels / groups, kernel, kernel}, std::sqrt(2.0f / static_cast<float>(fan_in)) * gain), b = weights({out}, 0.05f);
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
  return {y, x.channels, (x.size + 2 * pad - kernel) / stride + 1};
}

Feature CnnWriter::concat(const Feature& a, const Feature& b) { return {writer_.node("Concat", {a.name, b.name}, {{"axis", int64_t{1}}}), a.channels + b.channels, a.size}; }

void CnnWriter::classifier(const Feature& x, int64_t classes) {
  const std::string pooled = writer_.node("Flatten", {writer_.node("GlobalAveragePool", {x.name})}, {{"axis", int64_t{1}}});
  writer_.node("Gemm", {pooled, weights({classes, x.channels}, 0.02f), weights({classes}, 0.01f)}, {{"transB", int64_t{1}}}, "logits");
  writer_.output("logits", DType::kF32, {1, classes});
}

void CnnWriter::finish(const Feature& x, const std::string& path, const std::string& op) {
  writer_.node(op, {x.name}, {}, "output");
  writer_.output("output", DType::kF32, {1, x.channels, x.size, x.size});
  writer_.save(path);
}

}  // namespace systole
