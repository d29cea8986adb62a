// Every gradient rule against finite differences in fp32: directional derivatives of random projections.
#include "train/gradients.h"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <random>
#include <set>

#include "base/error.h"
#include "train/expand.h"
#include "train/finite_differences.h"

namespace systole {
namespace {

/// Several random projections of outputs, differentiated with respect to all inputs.
void check(const std::string& name, const std::vector<Shape>& shapes, const std::function<ValueId(Builder&, const std::vector<ValueId>&)>& build, float lo, float hi) {
  std::mt19937 rng(static_cast<unsigned>(std::hash<std::string>()(name)));
  Graph forward;
  forward.name = name;
  Builder b(forward, "f.");
  std::vector<ValueId> in;
  std::vector<Tensor> x;
  for (size_t k = 0; k < shapes.size(); ++k) in.push_back(b.input("x" + std::to_string(k), DType::kF32, shapes[k])), x.push_back(random_tensor(rng, shapes[k], lo, hi));
  const ValueId y = build(b, in);
  Graph both = forward;
  forward.outputs = {y};
  const ValueId seed = Builder(both, "s.").input("dy", DType::kF32, both.value(y).shape);
  const auto gradients = backward(both, {{y, seed}}, in);
  for (ValueId g : gradients) ASSERT_NE(g, kNoValue) << name;
  both.outputs = gradients;
  prune_and_sort(both);
  const Tensor r = random_tensor(rng, forward.value(y).shape, -1, 1);
  auto all = x;
  all.push_back(r);
  const auto g = run(both, all);
  for (size_t k = 0; k < in.size(); ++k) {
    ASSERT_EQ(g[k].shape, shapes[k]) << name;
    const Tensor v = random_tensor(rng, shapes[k], -1, 1);
    const float h = 2e-3f;
    auto moved = [&](float by) {
      auto at = x;
      for (int64_t i = 0; i < v.count(); ++i) at[k].data<float>()[i] += by * v.load<float>(i);
      return dot(run(forward, at)[0], r);
    };
    const double numeric = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * static_cast<double>(h));
    const double scale = std::sqrt(dot(g[k], g[k]) * dot(v, v)) + 1e-6;
    EXPECT_LE(std::fabs(dot(g[k], v) - numeric) / scale, 1e-3) << name << ", input " << k << ": " << dot(g[k], v) << " against " << numeric;
  }
}

struct Case {
  const char* name;
  std::vector<Shape> shapes;
  std::function<ValueId(Builder&, const std::vector<ValueId>&)> build;
  float lo = -1, hi = 1;
};

using In = const std::vector<ValueId>&;
ValueId conv(Builder& b, In in, Shape out, std::vector<int64_t> pads, std::vector<int64_t> strides, std::vector<int64_t> dilations, int64_t group = 1) {
  const Shape w = b.shape(in[1]);
  return b.node("Conv", in, std::move(out), {{"pads", pads}, {"strides", strides}, {"dilations", dilations}, {"group", group}, {"kernel_shape", std::vector<int64_t>{w[2], w[3]}}});
}

ValueId layer_normalization(Builder& b, In in, int64_t axis) {
  const Node node{"norm", OnnxOp{"", "LayerNormalization", 17, {{"axis", axis}, {"epsilon", 1e-3f}}}, {}, {}};
  return expand_layer_normalization(b, node, in[0], in[1], in.size() > 2 ? in[2] : kNoValue);
}

ValueId conv_transpose(Builder& b, In in, Shape out, std::vector<int64_t> pads, std::vector<int64_t> strides, std::vector<int64_t> output_padding) {
  const Shape w = b.shape(in[1]);
  return b.node("ConvTranspose", in, std::move(out), {{"pads", pads}, {"strides", strides}, {"output_padding", output_padding}, {"kernel_shape", std::vector<int64_t>{w[2], w[3]}}});
}

/// int8: -11, -6, -1 ...
ValueId codes(Builder& b, const Shape& shape) {
  Tensor t(DType::kI8, shape);
  for (int64_t i = 0; i < t.count(); ++i) t.set_int(i, 5 * i % 23 - 11);
  return b.tensor(t);
}
ValueId ids(Builder& b, const Shape& shape, const std::vector<int64_t>& values) {
  Tensor t(DType::kI64, shape);
  for (size_t i = 0; i < values.size(); ++i) t.set_int(static_cast<int64_t>(i), values[i]);
  return b.tensor(t);
}

/// Columns around -5, -1, 1 or 5: on either side of every kink that activations have, never on it.
ValueId apart(Builder& b, ValueId v) { return b.add(v, b.tensor(Tensor::from_floats({-5, 1, 5, -1, 5, -5, 1}, {7}))); }

/// Convolutions again with so many channels that each tap is a product of its own.
std::vector<Case> with_more_channels(std::vector<Case> list) {
  static std::deque<std::string> names;
  for (size_t i = 0, n = list.size(); i < n; ++i) {
    Case c = list[i];
    if (!std::string(c.name).starts_with("Conv,") && std::string(c.name) != "Conv") continue;
    if (std::string(c.name).find("depthwise") != std::string::npos || c.shapes[0][2] > 100) continue;
    c.shapes[0][1] = c.shapes[1][1] = 17;
    c.name = names.emplace_back(std::string(c.name) + ", 17 channels").c_str();
    list.push_back(std::move(c));
  }
  return list;
}

const std::vector<Case>& cases() {
  static const std::vector<Case> list = with_more_channels({
      {"Add", {{2, 3, 4}, {3, 1}}, [](Builder& b, In in) { return b.add(in[0], in[1]); }},
      {"Sub", {{3, 4}, {2, 3, 4}}, [](Builder& b, In in) { return b.sub(in[0], in[1]); }},
      {"Mul", {{2, 3, 4}, {4}}, [](Builder& b, In in) { return b.mul(in[0], in[1]); }},
      {"Div", {{2, 3, 4}, {3, 1}}, [](Builder& b, In in) { return b.div(in[0], in[1]); }, 0.5f, 2},
      {"Sum", {{3, 4}, {4}}, [](Builder& b, In in) { return b.node("Sum", in, {3, 4}); }},
      {"Identity", {{3, 4}}, [](Builder& b, In in) { return b.unary("Identity", in[0]); }},
      {"Cast", {{3, 4}}, [](Builder& b, In in) { return b.node("Cast", in, {3, 4}, {{"systole_to", static_cast<int64_t>(DType::kF32)}}); }},
      {"Neg", {{3, 4}}, [](Builder& b, In in) { return b.neg(in[0]); }},
      {"Exp", {{3, 4}}, [](Builder& b, In in) { return b.unary("Exp", in[0]); }},
      {"Log", {{3, 4}}, [](Builder& b, In in) { return b.unary("Log", in[0]); }, 0.5f, 2},
      {"Sqrt", {{3, 4}}, [](Builder& b, In in) { return b.unary("Sqrt", in[0]); }, 0.5f, 2},
      {"Reciprocal", {{3, 4}}, [](Builder& b, In in) { return b.unary("Reciprocal", in[0]); }, 0.5f, 2},
      {"Abs", {{3, 4}}, [](Builder& b, In in) { return b.unary("Abs", in[0]); }, 0.1f, 2},
      {"Relu", {{6, 7}}, [](Builder& b, In in) { return b.unary("Relu", b.add(in[0], b.tensor(Tensor::from_floats({-1, 1, -1, 1, -1, 1, -1}, {7})))); }, -0.9f, 0.9f},
      {"Gelu", {{6, 7}}, [](Builder& b, In in) { return b.node("Gelu", {apart(b, in[0])}, {6, 7}, {}); }, -0.9f, 0.9f},
      {"Gelu, tanh", {{6, 7}}, [](Builder& b, In in) { return b.node("Gelu", {apart(b, in[0])}, {6, 7}, {{"approximate", std::string("tanh")}}); }, -0.9f, 0.9f},
      {"HardSigmoid", {{6, 7}}, [](Builder& b, In in) { return b.node("HardSigmoid", {apart(b, in[0])}, {6, 7}, {}); }, -0.9f, 0.9f},
      {"HardSwish", {{6, 7}}, [](Builder& b, In in) { return b.node("HardSwish", {apart(b, in[0])}, {6, 7}, {}); }, -0.9f, 0.9f},
      {"Elu", {{6, 7}}, [](Builder& b, In in) { return b.node("Elu", {apart(b, in[0])}, {6, 7}, {{"alpha", 0.7f}}); }, -0.9f, 0.9f},
      {"Selu", {{6, 7}}, [](Builder& b, In in) { return b.node("Selu", {apart(b, in[0])}, {6, 7}, {}); }, -0.9f, 0.9f},
      {"Celu", {{6, 7}}, [](Builder& b, In in) { return b.node("Celu", {apart(b, in[0])}, {6, 7}, {{"alpha", 1.3f}}); }, -0.9f, 0.9f},
      {"ThresholdedRelu", {{6, 7}}, [](Builder& b, In in) { return b.node("ThresholdedRelu", {apart(b, in[0])}, {6, 7}, {{"alpha", 0.0f}}); }, -0.9f, 0.9f},
      {"Shrink", {{6, 7}}, [](Builder& b, In in) { return b.node("Shrink", {apart(b, in[0])}, {6, 7}, {{"lambd", 2.5f}, {"bias", 0.3f}}); }, -0.9f, 0.9f},
      {"Softsign", {{6, 7}}, [](Builder& b, In in) { return b.node("Softsign", {apart(b, in[0])}, {6, 7}, {}); }, -0.9f, 0.9f},
      {"Mish", {{6, 7}}, [](Builder& b, In in) { return b.node("Mish", {apart(b, in[0])}, {6, 7}, {}); }, -0.9f, 0.9f},
      {"Swish", {{6, 7}}, [](Builder& b, In in) { return b.node("Swish", {apart(b, in[0])}, {6, 7}, {{"alpha", 1.2f}}); }, -0.9f, 0.9f},
      {"Sin", {{6, 7}}, [](Builder& b, In in) { return b.node("Sin", {apart(b, in[0])}, {6, 7}, {}); }, -0.9f, 0.9f},
      {"Cos", {{6, 7}}, [](Builder& b, In in) { return b.node("Cos", {apart(b, in[0])}, {6, 7}, {}); }, -0.9f, 0.9f},
      {"PRelu", {{6, 7}, {6, 1}}, [](Builder& b, In in) { return b.node("PRelu", {apart(b, in[0]), in[1]}, {6, 7}); }, -0.9f, 0.9f},
      {"Max", {{6, 7}, {1, 7}}, [](Builder& b, In in) { return b.node("Max", {apart(b, in[0]), in[1]}, {6, 7}); }, -0.9f, 0.9f},
      {"Min", {{6, 7}, {6, 7}, {7}}, [](Builder& b, In in) { return b.node("Min", {apart(b, in[0]), b.add(in[1], b.scalar(20)), b.add(in[2], b.scalar(2.5))}, {6, 7}); }, -0.5f, 0.5f},
      {"LeakyRelu", {{6, 7}}, [](Builder& b, In in) { return b.node("LeakyRelu", {b.add(in[0], b.tensor(Tensor::from_floats({-1, 1, -1, 1, -1, 1, -1}, {7})))}, {6, 7}, {{"alpha", 0.2f}}); }, -0.9f, 0.9f},
      {"Sigmoid", {{3, 4}}, [](Builder& b, In in) { return b.unary("Sigmoid", in[0]); }},
      {"Tanh", {{3, 4}}, [](Builder& b, In in) { return b.unary("Tanh", in[0]); }},
      {"Erf", {{3, 4}}, [](Builder& b, In in) { return b.unary("Erf", in[0]); }},
      {"Softplus", {{3, 4}}, [](Builder& b, In in) { return b.unary("Softplus", in[0]); }},
      {"Pow", {{3, 4}}, [](Builder& b, In in) { return b.add(b.binary("Pow", in[0], b.scalar(2)), b.binary("Pow", in[0], b.scalar(3))); }, 0.5f, 2},
      {"Clip", {{4, 5}}, [](Builder& b, In in) { return b.node("Clip", {in[0], b.scalar(-3), b.scalar(3)}, {4, 5}); }},
      {"Softmax", {{2, 3, 5}}, [](Builder& b, In in) { return b.add(b.node("Softmax", in, {2, 3, 5}, {{"axis", int64_t{-1}}}), b.node("Softmax", in, {2, 3, 5}, {{"axis", int64_t{1}}})); }},
      {"LogSoftmax", {{4, 6}}, [](Builder& b, In in) { return b.node("LogSoftmax", in, {4, 6}, {{"axis", int64_t{1}}}); }},
      {"MatMul", {{2, 3, 4}, {4, 5}}, [](Builder& b, In in) { return b.matmul(in[0], in[1]); }},
      {"MatMul of batches", {{2, 3, 4}, {2, 4, 5}}, [](Builder& b, In in) { return b.matmul(in[0], in[1]); }},
      {"Gemm", {{4, 3}, {5, 4}, {5}}, [](Builder& b, In in) { return b.node("Gemm", in, {3, 5}, {{"transA", int64_t{1}}, {"transB", int64_t{1}}, {"alpha", 0.5f}, {"beta", 2.0f}}); }},
      {"Gemm plain", {{3, 4}, {4, 5}, {3, 5}}, [](Builder& b, In in) { return b.node("Gemm", in, {3, 5}); }},
      {"Conv", {{2, 3, 6, 7}, {4, 3, 3, 3}, {4}}, [](Builder& b, In in) { return conv(b, in, {2, 4, 6, 7}, {1, 1, 1, 1}, {1, 1}, {1, 1}); }},
      {"Conv, one tap with pads", {{2, 3, 4, 5}, {4, 3, 1, 1}, {4}}, [](Builder& b, In in) { return conv(b, in, {2, 4, 6, 7}, {1, 1, 1, 1}, {1, 1}, {1, 1}); }},
      {"Conv, one tap of few columns with pads", {{2, 3, 4, 5}, {2, 3, 1, 1}, {2}}, [](Builder& b, In in) { return conv(b, in, {2, 2, 7, 8}, {2, 1, 1, 2}, {1, 1}, {1, 1}); }},
      {"Conv, pads beyond the kernel", {{2, 3, 4, 5}, {4, 3, 2, 2}, {4}}, [](Builder& b, In in) { return conv(b, in, {2, 4, 4, 5}, {3, 2, 2, 3}, {2, 2}, {1, 1}); }},
      {"Conv 1 x 1", {{2, 3, 4, 4}, {5, 3, 1, 1}, {5}}, [](Builder& b, In in) { return conv(b, in, {2, 5, 4, 4}, {0, 0, 0, 0}, {1, 1}, {1, 1}); }},
      {"Conv, stride 2", {{2, 3, 7, 8}, {4, 3, 3, 3}}, [](Builder& b, In in) { return conv(b, in, {2, 4, 4, 4}, {1, 1, 1, 1}, {2, 2}, {1, 1}); }},
      {"Conv, stride 2, even kernel", {{1, 2, 8, 8}, {3, 2, 2, 4}}, [](Builder& b, In in) { return conv(b, in, {1, 3, 4, 3}, {0, 0, 0, 0}, {2, 2}, {1, 1}); }},
      {"Conv, more pixels than one product takes", {{1, 1, 130, 130}, {2, 1, 1, 1}}, [](Builder& b, In in) { return conv(b, in, {1, 2, 130, 130}, {0, 0, 0, 0}, {1, 1}, {1, 1}); }},
      {"Conv 1 x 1, stride 2", {{2, 3, 5, 6}, {4, 3, 1, 1}}, [](Builder& b, In in) { return conv(b, in, {2, 4, 3, 3}, {0, 0, 0, 0}, {2, 2}, {1, 1}); }},
      {"Conv, dilation 2", {{1, 2, 9, 9}, {3, 2, 3, 3}}, [](Builder& b, In in) { return conv(b, in, {1, 3, 9, 9}, {2, 2, 2, 2}, {1, 1}, {2, 2}); }},
      {"Conv, uneven pads", {{1, 2, 6, 6}, {3, 2, 4, 3}}, [](Builder& b, In in) { return conv(b, in, {1, 3, 6, 6}, {1, 0, 2, 2}, {1, 1}, {1, 1}); }},
      {"Conv, strides 2 and 3, the second longer than the kernel", {{1, 2, 7, 8}, {3, 2, 3, 2}}, [](Builder& b, In in) { return conv(b, in, {1, 3, 4, 3}, {1, 0, 1, 0}, {2, 3}, {1, 1}); }},
      {"Conv, stride 2, kernel 1 x 3", {{1, 2, 5, 7}, {3, 2, 1, 3}}, [](Builder& b, In in) { return conv(b, in, {1, 3, 3, 4}, {0, 1, 0, 1}, {2, 2}, {1, 1}); }},
      {"Conv, stride 2, wide pads", {{1, 1, 5, 5}, {2, 1, 3, 3}}, [](Builder& b, In in) { return conv(b, in, {1, 2, 4, 4}, {2, 2, 2, 2}, {2, 2}, {1, 1}); }},
      {"Conv, stride 2, dilation 2", {{1, 2, 9, 9}, {2, 2, 3, 3}}, [](Builder& b, In in) { return conv(b, in, {1, 2, 5, 5}, {2, 2, 2, 2}, {2, 2}, {2, 2}); }},
      {"Conv, taps in two products", {{1, 1, 124, 124}, {1, 1, 3, 3}}, [](Builder& b, In in) { return conv(b, in, {1, 1, 124, 124}, {1, 1, 1, 1}, {1, 1}, {1, 1}); }},
      {"Conv, depthwise", {{2, 4, 6, 6}, {4, 1, 3, 3}, {4}}, [](Builder& b, In in) { return conv(b, in, {2, 4, 6, 6}, {1, 1, 1, 1}, {1, 1}, {1, 1}, 4); }},
      {"Conv, depthwise, stride 2", {{1, 4, 6, 6}, {4, 1, 3, 3}}, [](Builder& b, In in) { return conv(b, in, {1, 4, 3, 3}, {1, 1, 1, 1}, {2, 2}, {1, 1}, 4); }},
      {"Conv over one dimension", {{2, 3, 9}, {4, 3, 3}, {4}}, [](Builder& b, In in) {
         return b.node("Conv", in, {2, 4, 5}, {{"pads", std::vector<int64_t>{2, 1}}, {"strides", std::vector<int64_t>{2}}, {"kernel_shape", std::vector<int64_t>{3}}});
       }},
      {"Conv over one dimension, depthwise", {{1, 4, 10}, {4, 1, 3}}, [](Builder& b, In in) {
         return b.node("Conv", in, {1, 4, 8}, {{"dilations", std::vector<int64_t>{2}}, {"pads", std::vector<int64_t>{1, 1}}, {"group", int64_t{4}}, {"kernel_shape", std::vector<int64_t>{3}}});
       }},
      {"Conv in two groups", {{2, 4, 5, 6}, {6, 2, 3, 3}, {6}}, [](Builder& b, In in) { return conv(b, in, {2, 6, 5, 6}, {1, 1, 1, 1}, {1, 1}, {1, 1}, 2); }},
      {"Conv of three outputs a channel, stride 2", {{1, 2, 6, 6}, {6, 1, 3, 3}}, [](Builder& b, In in) { return conv(b, in, {1, 6, 3, 3}, {1, 1, 1, 1}, {2, 2}, {1, 1}, 2); }},
      {"ConvTranspose, two groups", {{1, 4, 3, 4}, {4, 3, 2, 2}, {6}}, [](Builder& b, In in) {
         return b.node("ConvTranspose", in, {1, 6, 6, 8}, {{"strides", std::vector<int64_t>{2, 2}}, {"group", int64_t{2}}, {"kernel_shape", std::vector<int64_t>{2, 2}}});
       }},
      {"ConvTranspose, automatic pads", {{1, 2, 4, 3}, {2, 3, 3, 3}}, [](Builder& b, In in) {
         return b.node("ConvTranspose", in, {1, 3, 8, 6}, {{"strides", std::vector<int64_t>{2, 2}}, {"auto_pad", std::string("SAME_UPPER")}, {"kernel_shape", std::vector<int64_t>{3, 3}}});
       }},
      {"ConvTranspose, to a shape", {{1, 2, 4, 3}, {2, 3, 4, 3}}, [](Builder& b, In in) {
         return b.node("ConvTranspose", in, {1, 3, 7, 6}, {{"strides", std::vector<int64_t>{2, 2}}, {"output_shape", std::vector<int64_t>{7, 6}}, {"kernel_shape", std::vector<int64_t>{4, 3}}});
       }},
      {"ConvTranspose", {{2, 3, 4, 5}, {3, 2, 3, 3}, {2}}, [](Builder& b, In in) { return conv_transpose(b, in, {2, 2, 6, 7}, {0, 0, 0, 0}, {1, 1}, {0, 0}); }},
      {"ConvTranspose, stride 2, kernel 2", {{2, 3, 4, 3}, {3, 4, 2, 2}, {4}}, [](Builder& b, In in) { return conv_transpose(b, in, {2, 4, 8, 6}, {0, 0, 0, 0}, {2, 2}, {0, 0}); }},
      {"ConvTranspose, stride 2, pads, output padding", {{1, 2, 4, 4}, {2, 3, 3, 3}}, [](Builder& b, In in) { return conv_transpose(b, in, {1, 3, 8, 8}, {1, 1, 1, 1}, {2, 2}, {1, 1}); }},
      {"Reshape", {{3, 4}}, [](Builder& b, In in) { return b.reshape(in[0], {2, 6}); }},
      {"Flatten", {{3, 4, 2}}, [](Builder& b, In in) { return b.node("Flatten", in, {3, 8}); }},
      {"Squeeze", {{3, 1, 2}}, [](Builder& b, In in) { return b.node("Squeeze", {in[0], b.ints({1})}, {3, 2}); }},
      {"Unsqueeze", {{3, 2}}, [](Builder& b, In in) { return b.node("Unsqueeze", {in[0], b.ints({0})}, {1, 3, 2}); }},
      {"Transpose", {{2, 3, 4}}, [](Builder& b, In in) { return b.transpose(in[0], {2, 0, 1}); }},
      {"Concat", {{2, 3}, {2, 1}}, [](Builder& b, In in) { return b.concat({in[0], in[1], in[0]}, 1); }},
      {"LayerNormalization", {{3, 4, 5}, {5}, {5}}, [](Builder& b, In in) { return layer_normalization(b, in, -1); }},
      {"LayerNormalization, all outputs", {{3, 4, 5}, {5}, {5}}, [](Builder& b, In in) {
         const ValueId y = layer_normalization(b, in, -1);
         const std::vector<ValueId> made = b.graph().nodes.back().outputs;
         return b.add(y, b.add(b.mul(made[1], made[1]), made[2]));
       }},
      {"LayerNormalization, its deviation alone", {{3, 5}}, [](Builder& b, In in) {
         layer_normalization(b, {in[0], b.scalar(1), b.scalar(0)}, -1);
         return ValueId{b.graph().nodes.back().outputs[2]};
       }},
      {"LayerNormalization over two axes, without a bias", {{3, 4, 5}, {4, 5}}, [](Builder& b, In in) { return layer_normalization(b, in, 1); }},
      {"Split", {{2, 6}}, [](Builder& b, In in) {
         const ValueId first = b.node("Split", {in[0], b.ints({2, 4})}, {2, 2}, {{"axis", int64_t{1}}}), rest = b.graph().add_value("rest", DType::kF32, {2, 4});
         b.graph().nodes.back().outputs.push_back(rest);
         return b.concat({rest, first, rest}, 1);
       }},
      {"Slice", {{3, 6}}, [](Builder& b, In in) { return b.slice(in[0], {1}, {2}, {5}, {1}); }},
      {"Pad", {{3, 4}}, [](Builder& b, In in) { return b.pad(in[0], {1, 0}, {2, 3}); }},
      {"Expand", {{3, 1}}, [](Builder& b, In in) { return b.expand(in[0], {2, 3, 4}); }},
      {"ReduceSum", {{2, 3, 4}}, [](Builder& b, In in) { return b.node("ReduceSum", {in[0], b.ints({1})}, {2, 4}, {{"keepdims", int64_t{0}}}); }},
      {"ReduceMean", {{2, 3, 4}}, [](Builder& b, In in) { return b.node("ReduceMean", {in[0], b.ints({0, 2})}, {1, 3, 1}); }},
      {"ReduceMax", {{5, 9}}, [](Builder& b, In in) { return b.node("ReduceMax", {in[0], b.ints({1})}, {5, 1}); }},
      {"ReduceSumSquare", {{2, 3, 4}}, [](Builder& b, In in) { return b.node("ReduceSumSquare", {in[0], b.ints({1})}, {2, 1, 4}); }},
      {"ReduceL1", {{6, 7}}, [](Builder& b, In in) { return b.node("ReduceL1", {apart(b, in[0]), b.ints({0})}, {7}, {{"keepdims", int64_t{0}}}); }, -0.9f, 0.9f},
      {"ReduceL2", {{2, 3, 4}}, [](Builder& b, In in) { return b.node("ReduceL2", {in[0], b.ints({0, 2})}, {3}, {{"keepdims", int64_t{0}}}); }},
      {"ReduceLogSum", {{2, 3, 4}}, [](Builder& b, In in) { return b.node("ReduceLogSum", {in[0], b.ints({2})}, {2, 3, 1}); }, 0.5f, 2},
      {"ReduceLogSumExp", {{2, 3, 4}}, [](Builder& b, In in) { return b.node("ReduceLogSumExp", {in[0], b.ints({1})}, {2, 1, 4}); }},
      {"ReduceMin", {{5, 9}}, [](Builder& b, In in) { return b.node("ReduceMin", {in[0], b.ints({1})}, {5, 1}); }},
      {"MaxPool", {{2, 3, 6, 4}}, [](Builder& b, In in) { return b.node("MaxPool", in, {2, 3, 3, 2}, {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}}); }},
      {"MaxPool, overlapping", {{1, 2, 7, 7}}, [](Builder& b, In in) { return b.node("MaxPool", in, {1, 2, 4, 4}, {{"kernel_shape", std::vector<int64_t>{3, 3}}, {"strides", std::vector<int64_t>{2, 2}}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}}); }},
      {"MaxPool, overlapping, strides that divide", {{2, 3, 8, 6}}, [](Builder& b, In in) { return b.node("MaxPool", in, {2, 3, 4, 3}, {{"kernel_shape", std::vector<int64_t>{3, 3}}, {"strides", std::vector<int64_t>{2, 2}}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}}); }},
      {"MaxPool, overlapping, strides 3 and 1", {{1, 2, 6, 5}}, [](Builder& b, In in) { return b.node("MaxPool", in, {1, 2, 2, 4}, {{"kernel_shape", std::vector<int64_t>{4, 2}}, {"strides", std::vector<int64_t>{3, 1}}, {"pads", std::vector<int64_t>{1, 0, 0, 0}}}); }},
      {"MaxPool, stride beyond the kernel", {{1, 3, 8, 7}}, [](Builder& b, In in) { return b.node("MaxPool", in, {1, 3, 3, 3}, {{"kernel_shape", std::vector<int64_t>{2, 1}}, {"strides", std::vector<int64_t>{3, 3}}}); }},
      {"MaxPool, one column, windows beyond the end", {{2, 2, 5, 1}}, [](Builder& b, In in) { return b.node("MaxPool", in, {2, 2, 3, 1}, {{"kernel_shape", std::vector<int64_t>{3, 1}}, {"strides", std::vector<int64_t>{2, 1}}, {"pads", std::vector<int64_t>{0, 0, 1, 0}}, {"ceil_mode", int64_t{1}}}); }},
      {"MaxPool, strides 2 and 1", {{1, 2, 7, 5}}, [](Builder& b, In in) { return b.node("MaxPool", in, {1, 2, 4, 4}, {{"kernel_shape", std::vector<int64_t>{3, 2}}, {"strides", std::vector<int64_t>{2, 1}}, {"pads", std::vector<int64_t>{1, 0, 1, 0}}}); }},
      {"AveragePool, strides longer than the kernel", {{1, 2, 5, 8}}, [](Builder& b, In in) { return b.node("AveragePool", in, {1, 2, 3, 3}, {{"kernel_shape", std::vector<int64_t>{1, 2}}, {"strides", std::vector<int64_t>{2, 3}}}); }},
      {"AveragePool", {{2, 3, 6, 4}}, [](Builder& b, In in) { return b.node("AveragePool", in, {2, 3, 3, 2}, {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}}); }},
      {"AveragePool, overlapping", {{1, 2, 7, 7}}, [](Builder& b, In in) { return b.node("AveragePool", in, {1, 2, 5, 5}, {{"kernel_shape", std::vector<int64_t>{3, 3}}, {"strides", std::vector<int64_t>{1, 1}}}); }},
      {"GlobalAveragePool", {{2, 3, 5, 4}}, [](Builder& b, In in) { return b.node("GlobalAveragePool", in, {2, 3, 1, 1}); }},
      {"Gather", {{7, 3}}, [](Builder& b, In in) { return b.node("Gather", {in[0], ids(b, {2, 4}, {0, 6, 2, 2, -1, 3, 2, -7})}, {2, 4, 3}); }},
      {"Gather along an axis", {{2, 5, 3}}, [](Builder& b, In in) { return b.node("Gather", {in[0], ids(b, {4}, {4, 0, 0, -2})}, {2, 4, 3}, {{"axis", int64_t{1}}}); }},
      {"Gather one", {{2, 5, 3}}, [](Builder& b, In in) { return b.node("Gather", {in[0], ids(b, {}, {-1})}, {2, 3}, {{"axis", int64_t{1}}}); }},
      {"Resize", {{2, 3, 3, 4}}, [](Builder& b, In in) {
         return b.node("Resize", {in[0], kNoValue, b.tensor(Tensor::from_floats({1, 1, 2, 3}, {4}))}, {2, 3, 6, 12}, {{"mode", std::string("nearest")}, {"coordinate_transformation_mode", std::string("asymmetric")}, {"nearest_mode", std::string("floor")}});
       }},
      {"Pad, reflect", {{1, 2, 4, 5}}, [](Builder& b, In in) { return b.node("Pad", {in[0], b.ints({0, 0, 2, 1, 0, 0, 1, 3})}, {1, 2, 7, 9}, {{"mode", std::string("reflect")}}); }},
      {"Pad, edge", {{2, 3, 4}}, [](Builder& b, In in) { return b.node("Pad", {in[0], b.ints({1, 0, 2, 0, 2, 0})}, {3, 5, 6}, {{"mode", std::string("edge")}}); }},
      {"Pad, wrap, of one axis", {{2, 5}}, [](Builder& b, In in) { return b.node("Pad", {in[0], b.ints({2, 1}), kNoValue, b.ints({-1})}, {2, 8}, {{"mode", std::string("wrap")}}); }},
      {"Pad, of some axes", {{2, 3, 4}}, [](Builder& b, In in) { return b.node("Pad", {in[0], b.ints({1, 2, 0, 1}), kNoValue, b.ints({2, 0})}, {5, 3, 5}); }},
      {"Pad, crops one side", {{2, 6}}, [](Builder& b, In in) { return b.node("Pad", {in[0], b.ints({0, -2, 1, 1})}, {3, 5}); }},
      {"Resize, linear", {{2, 2, 3, 4}}, [](Builder& b, In in) { return b.node("Resize", {in[0], kNoValue, b.tensor(Tensor::from_floats({1, 1, 2, 2}, {4}))}, {2, 2, 6, 8}, {{"mode", std::string("linear")}}); }},
      {"Resize, linear, corners, to a size", {{1, 2, 5, 4}}, [](Builder& b, In in) {
         return b.node("Resize", {in[0], kNoValue, kNoValue, b.ints({1, 2, 7, 3})}, {1, 2, 7, 3}, {{"mode", std::string("linear")}, {"coordinate_transformation_mode", std::string("align_corners")}});
       }},
      {"Resize, nearest, not by whole factors", {{2, 2, 5, 6}}, [](Builder& b, In in) { return b.node("Resize", {in[0], kNoValue, kNoValue, b.ints({2, 2, 8, 4})}, {2, 2, 8, 4}); }},
      {"Resize, cubic", {{1, 2, 4, 5}}, [](Builder& b, In in) { return b.node("Resize", {in[0], kNoValue, kNoValue, b.ints({1, 2, 6, 5})}, {1, 2, 6, 5}, {{"mode", std::string("cubic")}}); }},
      {"Pad, its value", {{2, 3}, {}}, [](Builder& b, In in) { return b.node("Pad", {in[0], b.ints({1, 0, 0, 2}), in[1]}, {3, 5}); }},
      {"Mean", {{3, 4}, {4}, {3, 1}}, [](Builder& b, In in) { return b.node("Mean", in, {3, 4}); }},
      {"CastLike", {{3, 4}}, [](Builder& b, In in) { return b.node("CastLike", {in[0], b.scalar(0)}, {3, 4}); }},
      {"Mod", {{3, 7}, {7}}, [](Builder& b, In in) { return b.node("Mod", {apart(b, in[0]), b.add(in[1], b.scalar(40))}, {3, 7}, {{"fmod", int64_t{1}}}); }, -0.4f, 0.4f},
      {"Tan", {{3, 4}}, [](Builder& b, In in) { return b.unary("Tan", in[0]); }},
      {"Pow, exponents that learn", {{3, 4}, {4}}, [](Builder& b, In in) { return b.binary("Pow", in[0], in[1]); }, 0.5f, 2},
      {"Clip, by attributes", {{6, 7}}, [](Builder& b, In in) { return b.node("Clip", {apart(b, in[0])}, {6, 7}, {{"min", -3.0f}, {"max", 3.0f}}); }, -0.9f, 0.9f},
      {"MatMul by a vector", {{2, 3, 4}, {4}}, [](Builder& b, In in) { return b.node("MatMul", in, {2, 3}); }},
      {"MatMul of a vector", {{3}, {2, 3, 4}}, [](Builder& b, In in) { return b.node("MatMul", in, {2, 4}); }},
      {"ConvTranspose over one dimension", {{2, 3, 5}, {3, 2, 4}, {2}}, [](Builder& b, In in) {
         return b.node("ConvTranspose", in, {2, 2, 11}, {{"strides", std::vector<int64_t>{2}}, {"pads", std::vector<int64_t>{1, 1}}, {"output_padding", std::vector<int64_t>{1}}, {"kernel_shape", std::vector<int64_t>{4}}});
       }},
      {"MaxPool over one dimension", {{2, 3, 9}}, [](Builder& b, In in) { return b.node("MaxPool", in, {2, 3, 4}, {{"kernel_shape", std::vector<int64_t>{3}}, {"strides", std::vector<int64_t>{2}}}); }},
      {"MaxPool, dilated", {{1, 2, 7, 8}}, [](Builder& b, In in) { return b.node("MaxPool", in, {1, 2, 5, 4}, {{"kernel_shape", std::vector<int64_t>{3, 2}}, {"dilations", std::vector<int64_t>{2, 3}}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}, {"strides", std::vector<int64_t>{1, 2}}}); }},
      {"AveragePool, divisors at the border", {{1, 2, 6, 7}}, [](Builder& b, In in) { return b.node("AveragePool", in, {1, 2, 4, 4}, {{"kernel_shape", std::vector<int64_t>{3, 3}}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}, {"strides", std::vector<int64_t>{2, 2}}, {"ceil_mode", int64_t{1}}}); }},
      {"AveragePool over one dimension, automatic pads", {{1, 2, 7}}, [](Builder& b, In in) { return b.node("AveragePool", in, {1, 2, 4}, {{"kernel_shape", std::vector<int64_t>{3}}, {"strides", std::vector<int64_t>{2}}, {"auto_pad", std::string("SAME_LOWER")}}); }},
      {"GlobalMaxPool", {{2, 3, 4, 5}}, [](Builder& b, In in) { return b.node("GlobalMaxPool", in, {2, 3, 1, 1}); }},
      {"LpNormalization", {{3, 4, 5}}, [](Builder& b, In in) { return b.add(b.node("LpNormalization", in, {3, 4, 5}, {{"axis", int64_t{1}}}), b.node("LpNormalization", in, {3, 4, 5}, {{"p", int64_t{1}}})); }, 0.2f, 1},
      {"Slice, steps", {{7, 9}}, [](Builder& b, In in) { return b.slice(in[0], {0, 1}, {1, 8}, {7, 1}, {2, -3}); }},
      {"Tile", {{2, 1, 3}}, [](Builder& b, In in) { return b.node("Tile", {in[0], b.ints({1, 4, 2})}, {2, 4, 6}); }},
      {"DepthToSpace", {{2, 12, 3, 2}}, [](Builder& b, In in) { return b.add(b.node("DepthToSpace", in, {2, 3, 6, 4}, {{"blocksize", int64_t{2}}}), b.node("DepthToSpace", in, {2, 3, 6, 4}, {{"blocksize", int64_t{2}}, {"mode", std::string("CRD")}})); }},
      {"SpaceToDepth", {{2, 3, 6, 4}}, [](Builder& b, In in) { return b.node("SpaceToDepth", in, {2, 12, 3, 2}, {{"blocksize", int64_t{2}}}); }},
      {"GatherElements", {{4, 3}}, [](Builder& b, In in) { return b.node("GatherElements", {in[0], ids(b, {2, 3}, {3, 0, 0, 3, -1, 1})}, {2, 3}); }},
      {"GatherND", {{4, 3, 2}}, [](Builder& b, In in) { return b.node("GatherND", {in[0], ids(b, {3, 2}, {3, 0, 1, 2, 3, 0})}, {3, 2}); }},
      {"ScatterElements", {{4, 3}, {2, 3}}, [](Builder& b, In in) { return b.node("ScatterElements", {in[0], ids(b, {2, 3}, {3, 0, 1, 2, 2, 0}), in[1]}, {4, 3}); }},
      {"Scatter", {{4, 3}, {1, 3}}, [](Builder& b, In in) { return b.node("Scatter", {in[0], ids(b, {1, 3}, {3, 0, 1}), in[1]}, {4, 3}); }},
      {"ScatterND", {{4, 3}, {2, 3}}, [](Builder& b, In in) { return b.node("ScatterND", {in[0], ids(b, {2, 1}, {3, 1}), in[1]}, {4, 3}); }},
      {"ScatterElements, added", {{4, 3}, {2, 3}}, [](Builder& b, In in) { return b.node("ScatterElements", {in[0], ids(b, {2, 3}, {3, 0, 1, 3, 2, -3}), in[1]}, {4, 3}, {{"reduction", std::string("add")}}); }},
      {"ScatterND, added", {{4, 3}, {3, 3}}, [](Builder& b, In in) { return b.node("ScatterND", {in[0], ids(b, {3, 1}, {3, 1, 3}), in[1]}, {4, 3}, {{"reduction", std::string("add")}}); }},
      {"DequantizeLinear", {{1}}, [](Builder& b, In in) { return b.node("DequantizeLinear", {codes(b, {2, 3, 4}), b.reshape(in[0], {})}, {2, 3, 4}); }},
      {"DequantizeLinear, an axis", {{3}}, [](Builder& b, In in) { return b.node("DequantizeLinear", {codes(b, {2, 3, 4}), in[0], codes(b, {3})}, {2, 3, 4}, {{"axis", int64_t{1}}}); }},
      {"DequantizeLinear, blocks", {{2, 3, 2}}, [](Builder& b, In in) { return b.node("DequantizeLinear", {codes(b, {2, 3, 4}), in[0]}, {2, 3, 4}, {{"axis", int64_t{2}}, {"block_size", int64_t{2}}}); }},
      {"TensorScatter", {{2, 5, 3}, {2, 2, 3}}, [](Builder& b, In in) { return b.node("TensorScatter", {in[0], in[1], ids(b, {2}, {1, 3})}, {2, 5, 3}, {{"axis", int64_t{1}}}); }},
      {"Compress", {{4, 3}}, [](Builder& b, In in) {
         Tensor keep(DType::kBool, {4});
         keep.set_int(0, 1), keep.set_int(2, 1);
         return b.node("Compress", {in[0], b.tensor(keep)}, {2, 3}, {{"axis", int64_t{0}}});
       }},
      {"ReverseSequence", {{4, 3}}, [](Builder& b, In in) { return b.node("ReverseSequence", {in[0], ids(b, {3}, {4, 2, 1})}, {4, 3}, {{"time_axis", int64_t{0}}, {"batch_axis", int64_t{1}}}); }},
      {"Trilu", {{4, 4}}, [](Builder& b, In in) { return b.node("Trilu", in, {4, 4}, {{"upper", int64_t{0}}}); }},
      {"MaxUnpool", {{1, 1, 2, 2}}, [](Builder& b, In in) { return b.node("MaxUnpool", {in[0], ids(b, {1, 1, 2, 2}, {5, 7, 13, 15})}, {1, 1, 4, 4}, {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}}); }},
      {"Resize, one axis of three", {{3, 4, 2}}, [](Builder& b, In in) { return b.node("Resize", {in[0], kNoValue, b.tensor(Tensor::from_floats({1, 1.5f, 1}, {3}))}, {3, 6, 2}, {{"mode", std::string("linear")}}); }},
      {"Upsample", {{1, 2, 3, 3}}, [](Builder& b, In in) { return b.node("Upsample", {in[0], b.tensor(Tensor::from_floats({1, 1, 2, 2}, {4}))}, {1, 2, 6, 6}, {{"mode", std::string("linear")}}); }},
      {"Where", {{3, 4}, {3, 4}}, [](Builder& b, In in) {
         const ValueId mask = b.tensor(Tensor(DType::kBool, {3, 4}));
         const_cast<Tensor&>(*b.graph().value(mask).constant).bytes[5] = 1;
         return b.node("Where", {mask, in[0], in[1]}, {3, 4});
       }},
  });
  return list;
}

TEST(Gradients, AgreeWithFiniteDifferences) {
  std::set<std::string> seen;
  for (const Case& c : cases()) {
    seen.insert(std::string(c.name).substr(0, std::string(c.name).find_first_of(" ,")));
    check(c.name, c.shapes, c.build, c.lo, c.hi);
  }
  for (const GradientRule& r : gradient_rules()) EXPECT_TRUE(seen.count(r.operator_type) || std::string(r.operator_type) == "Dropout" || std::string(r.operator_type) == "Round") << "no case for " << r.operator_type;
}

TEST(Gradients, MissingRulesAreNamed) {
  Graph g;
  Builder b(g, "f.");
  const ValueId x = b.input("x", DType::kF32, {3}), y = b.unary("Unheard", x), seed = b.input("dy", DType::kF32, {3});
  try {
    backward(g, {{y, seed}}, {x});
    FAIL();
  } catch (const Failure& f) {
    EXPECT_NE(std::string(f.what()).find("Unheard"), std::string::npos);
  }
}

TEST(Gradients, SumsStayFp32WhereFloatsAreStoredInTwoBytes) {
  Graph g;
  Builder b(g, "g.");
  const ValueId a = b.input("a", DType::kF32, {4, 32}), c = b.input("c", DType::kF32, {32, 8});
  g.outputs = {b.add_product(b.long_matmul(a, c), a, c), b.sum(a, {1}, true)};
  std::mt19937 rng(3);
  const auto context = std::make_shared<const PlanContext>(PlanContext{load_machine("server"), {DType::kBF16, MacFormat::kBF16}, "bf16", {}});
  Plan plan(g, context);
  for (const HostValue& v : plan.run({HostValue(random_tensor(rng, {4, 32}, -1, 1)), HostValue(random_tensor(rng, {32, 8}, -1, 1))})) {
    bool finer = false;
    for (int64_t i = 0; i < v.tensor->count(); ++i) finer |= (v.tensor->load<uint32_t>(i) & 0xFFFF) != 0;
    EXPECT_TRUE(finer);
  }
}

}  // namespace
}  // namespace systole
