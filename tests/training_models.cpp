// Models that train: each evaluates like its file, learns, and is exported as trained.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "architectures/architectures.h"
#include "base/error.h"
#include "import/writer.h"
#include "runtime/npz.h"
#include "training_case.h"

namespace systole {
namespace {

/// Convolution, BatchNormalization, Tanh, mean, LayerNormalization with all its outputs, Gemm.
std::string write_normalised(const std::string& path) {
  ModelWriter w("normalised", "for a test");
  std::mt19937_64 rng(5);
  auto random = [&](const char* name, const Shape& shape, double lo, double hi) {
    Tensor t(DType::kF32, shape);
    for (int64_t i = 0; i < t.count(); ++i) t.data<float>()[i] = static_cast<float>(lo + (hi - lo) * static_cast<double>(rng() >> 11) * 0x1p-53);
    return w.constant(name, t);
  };
  w.input("x", DType::kF32, {1, 3, 8, 8});
  const std::string conv = w.node("Conv", {"x", random("w", {6, 3, 3, 3}, -0.4, 0.4), random("b", {6}, -0.1, 0.1)}, {{"pads", std::vector<int64_t>{1, 1, 1, 1}}});
  const std::string bn = w.node("BatchNormalization", {conv, random("scale", {6}, 0.5, 1.5), random("bias", {6}, -0.2, 0.2), random("mean", {6}, -0.2, 0.2), random("variance", {6}, 0.5, 2)}, {{"momentum", 0.8f}});
  const std::string flat = w.node("Flatten", {w.node("GlobalAveragePool", {w.node("Tanh", {bn})})}, {{"axis", int64_t{1}}});
  const std::string ln = w.node_n("LayerNormalization", {flat, random("ln.scale", {6}, 0.5, 1.5), random("ln.bias", {6}, -0.2, 0.2)}, {"", "ln.mean", "ln.inverse"}, {{"axis", int64_t{-1}}});
  w.node("Gemm", {w.node("Add", {ln, w.node("Mul", {"ln.mean", "ln.inverse"})}), random("fc", {4, 6}, -0.6, 0.6), random("fc.bias", {4}, -0.1, 0.1)}, {{"transB", int64_t{1}}}, "logits");
  w.output("logits", DType::kF32, {1, 4});
  w.save(path);
  return path;
}

/// Trains on one batch, expects the loss to end below this share of the first, and writes what was learned.
Outcome learn(const TrainableModel& model, const StepOptions& o, int steps, double share, const std::string& file) {
  const Outcome r = train(model, o, steps);
  EXPECT_LT(r.losses.back(), share * r.losses.front());
  model.write(r.state.weights, r.state.statistics, "trained", file);
  return r;
}

/// Of the output for one sample [1, 2, 4, 4], by the file that is written after some steps, which bring the loss down to this share.
Shape shape_once_trained(const TrainableModel& model, double share, const std::string& file) {
  StepOptions o;
  o.precision = "fp32", o.npu = "server", o.cache = false;
  learn(model, o, 20, share, file);
  CompileOptions options;
  options.precision = "fp32", options.cache = false;
  return run(compile(file, options).value().model, {Tensor(DType::kF32, {1, 2, 4, 4})}).value()[0].shape;
}

TEST(Models, NormalisationsEvaluateLikeTheFileAndDifferentiate) {
  const std::string path = write_normalised(std::string(SYSTOLE_BUILD) + "/training-normalised.onnx");
  const TrainableModel model(path, 4, true, {});
  StepOptions o;
  o.precision = "fp32", o.npu = "server", o.cache = false, o.optimizer.name = "sgd", o.optimizer.momentum = 0;
  TrainingPrograms programs(model, o);
  std::mt19937_64 rng(9);
  Tensor x(DType::kF32, {4, 3, 8, 8}), t(DType::kF32, {4, 4});
  for (int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>(static_cast<double>(rng() >> 11) * 0x1p-53 * 2 - 1);
  for (int64_t n = 0; n < 4; ++n) t.data<float>()[n * 4 + n] = 1;
  // Evaluation by running statistics is the inference that the file describes.
  TrainingState state = programs.initial_state();
  expect_near(programs.evaluate(state, x), outputs_of_file(path, x), "normalised", 1e-5);
  // Gradients through batch statistics, against differences of the training loss along a random direction for each weight.
  auto loss_at = [&](const TrainingState& s) {
    TrainingState copy = s;
    return programs.step(copy, x, t, 0.25f, 0, 1).loss;
  };
  TrainingState still = state;
  const auto gradients = programs.step(still, x, t, 0.25f, 0, 1).gradients;
  ASSERT_EQ(gradients.size(), state.weights.size());
  for (size_t i = 0; i < gradients.size(); ++i) {
    TrainingState plus = state, minus = state;
    double along = 0, norm = 1e-2;  // the loss is rounded to 1e-7, the step is 1e-2
    for (int64_t k = 0; k < gradients[i].count(); ++k) {
      const float d = rng() & 1 ? 5e-3f : -5e-3f;
      plus.weights[i].data<float>()[k] += d, minus.weights[i].data<float>()[k] -= d;
      along += gradients[i].at(k) * static_cast<double>(d) / 5e-3, norm += std::fabs(gradients[i].at(k));
    }
    EXPECT_NEAR(along, (loss_at(plus) - loss_at(minus)) / 1e-2, 4e-3 * norm) << model.parameters()[i].name;
  }
  // running' = 0.8 running + 0.2 batch; the convolution's mean over the batch, by hand from the change.
  ASSERT_EQ(state.statistics.size(), 2u);
  TrainingState after = state;
  for (int s = 1; s <= 60; ++s) programs.step(after, x, t, 0.25f, 0, s);
  TrainingState next = after;
  programs.step(next, x, t, 0.25f, 0, 61);
  const TrainingState& settled = next;  // 0.8^60 of the file's is left: the batch's own statistics
  TrainingState first = state;
  programs.step(first, x, t, 0.25f, 0, 1);
  for (size_t s = 0; s < 2; ++s) {
    for (int64_t k = 0; k < 6; ++k) EXPECT_NEAR(first.statistics[s].at(k), 0.8 * state.statistics[s].at(k) + 0.2 * settled.statistics[s].at(k), 1e-4) << s;
  }
  // By its own statistics a batch is normal: evaluation with them is the training output.
  const Tensor trained = programs.step(next, x, t, 0.25f, 0, 62).logits[0], evaluated = programs.evaluate(settled, x);
  for (int64_t k = 0; k < 16; ++k) EXPECT_NEAR(trained.at(k), evaluated.at(k), 1e-4);
}

/// Weights of a model that is being written.
class RandomWeights {
 public:
  RandomWeights(ModelWriter& writer, uint64_t seed) : writer_(writer), rng_(seed) {}
  std::string operator()(const Shape& shape, double lo = -0.5, double hi = 0.5) {
    Tensor t(DType::kF32, shape);
    for (int64_t i = 0; i < t.count(); ++i) t.data<float>()[i] = static_cast<float>(lo + (hi - lo) * static_cast<double>(rng_() >> 11) * 0x1p-53);
    return writer_.constant("w" + std::to_string(next_++), t);
  }

 private:
  ModelWriter& writer_;
  std::mt19937_64 rng_;
  int next_ = 0;
};

/// Operators that learn in their parts: normalisations over groups, images and rows, attention of three heads.
std::string write_fused(const std::string& path) {
  ModelWriter w("fused", "for a test", 23);
  RandomWeights random(w, 9);
  w.input("x", DType::kF32, {1, 3, 6, 5});
  const std::string conv = w.node("Conv", {"x", random({6, 3, 3, 3}, -0.4, 0.4), random({6}, -0.1, 0.1)}, {{"pads", std::vector<int64_t>{1, 1, 1, 1}}});
  const std::string groups = w.node("GroupNormalization", {conv, random({6}, 0.5, 1.5), random({6}, -0.2, 0.2)}, {{"num_groups", int64_t{2}}});
  const std::string images = w.node("InstanceNormalization", {w.node("Gelu", {groups}), random({6}, 0.5, 1.5), random({6}, -0.2, 0.2)});
  const std::string rows = w.node("Reshape", {w.node("PRelu", {images, random({6, 1, 1}, 0.1, 0.4)}), w.constant("rows", Tensor::from_ints({0, 6, 30}, {3}))});
  const std::string rms = w.node("RMSNormalization", {rows, random({30}, 0.5, 1.5)}, {{"axis", int64_t{-1}}});
  const std::string q = w.node("MatMul", {rms, random({30, 30}, -0.3, 0.3)}), attention = w.node("Attention", {q, rms, rms}, {{"q_num_heads", int64_t{3}}, {"kv_num_heads", int64_t{3}}, {"is_causal", int64_t{1}}});
  w.node("Gemm", {w.node("Flatten", {attention}, {{"axis", int64_t{1}}}), random({4, 180}, -0.2, 0.2), random({4}, -0.1, 0.1)}, {{"transB", int64_t{1}}}, "logits");
  w.output("logits", DType::kF32, {1, 4});
  w.save(path);
  return path;
}

TEST(Models, OperatorsInPartsEvaluateLikeTheFileAndLearn) {
  const std::string path = write_fused(std::string(SYSTOLE_BUILD) + "/training-fused.onnx"), out = std::string(SYSTOLE_BUILD) + "/training-fused-trained.onnx";
  const TrainableModel model(path, 2, true, {});
  EXPECT_EQ(model.parameters().size(), 11u);
  Tensor x(DType::kF32, {2, 3, 6, 5});
  for (int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>(i % 13 - 6) / 7;
  for (const char* precision : {"fp32", "bf16"}) {
    StepOptions o;
    o.precision = precision, o.npu = "server", o.cache = false;
    TrainingPrograms programs(model, o);
    if (o.precision == "fp32") expect_near(programs.evaluate(programs.initial_state(), x), outputs_of_file(path, x), "in parts", 2e-5);
    const Outcome r = train(model, o, 15);
    EXPECT_LT(r.losses.back(), 0.5 * r.losses.front()) << precision;
    if (o.precision != "fp32") continue;
    model.write(r.state.weights, r.state.statistics, "trained", out);
    expect_near(programs.evaluate(r.state, x), outputs_of_file(out, x), "in parts, trained", 2e-5);
  }
}

/// A decoder as exporters write it: it resizes to what it computes from the encoder's shape, in groups, with reflected margins.
TEST(Models, SizesComputedFromShapesAreKnown) {
  const std::string path = std::string(SYSTOLE_BUILD) + "/training-sizes.onnx", out = std::string(SYSTOLE_BUILD) + "/training-sizes-trained.onnx";
  ModelWriter w("sizes", "for a test");
  RandomWeights random(w, 5);
  auto ints = [&, n = 0](const std::vector<int64_t>& v) mutable { return w.constant("i" + std::to_string(n++), Tensor::from_ints(v, {static_cast<int64_t>(v.size())})); };
  using Ints = std::vector<int64_t>;
  w.input("x", DType::kF32, {1, 2, 7, 6});
  const std::string small = w.node("Relu", {w.node("Conv", {"x", random({4, 2, 3, 3})}, {{"strides", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}})});
  const std::string sizes = w.node("Concat", {w.node("Slice", {w.node("Shape", {small}), ints({0}), ints({2})}), w.node("Slice", {w.node("Shape", {"x"}), ints({2}), ints({4})})}, {{"axis", int64_t{0}}});
  const std::string large = w.node("Resize", {small, "", "", sizes}, {{"mode", std::string("linear")}});
  const std::string wide = w.node("Pad", {large, ints({0, 0, 1, 1, 0, 0, 1, 1})}, {{"mode", std::string("reflect")}});
  const std::string groups = w.node("Relu", {w.node("Conv", {wide, random({4, 2, 3, 3})}, {{"group", int64_t{2}}})});
  w.node("Flatten", {w.node("GlobalAveragePool", {w.node("Conv", {groups, random({3, 4, 1, 1})})})}, {}, "logits");
  w.output("logits", DType::kF32, {1, 3});
  w.save(path);
  const TrainableModel model(path, 3, true, {});
  EXPECT_EQ(model.parameters().size(), 3u);
  StepOptions o;
  o.precision = "fp32", o.npu = "server", o.cache = false;
  const Outcome r = learn(model, o, 40, 0.8, out);
  Tensor x(DType::kF32, {3, 2, 7, 6});
  for (int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>(i % 11 - 5) / 6;
  expect_near(TrainingPrograms(model, o).evaluate(r.state, x), outputs_of_file(out, x), "sizes from shapes", 2e-5);
}

/// Exporters write a batch of 1 into reshapes; a model trains with another batch, and keeps its own when it is written.
TEST(Models, ReshapesToABatchOfOneFollowTheBatch) {
  const std::string path = std::string(SYSTOLE_BUILD) + "/training-fixed.onnx", out = std::string(SYSTOLE_BUILD) + "/training-fixed-trained.onnx";
  ModelWriter w("fixed", "for a test");
  RandomWeights random(w, 3);
  w.input("x", DType::kF32, {1, 2, 4, 4});
  const std::string conv = w.node("Relu", {w.node("Conv", {"x", random({3, 2, 3, 3})})});
  w.node("MatMul", {w.node("Reshape", {conv, w.constant("flat", Tensor::from_ints({1, 12}, {2}))}), random({12, 4})}, {}, "logits");
  w.output("logits", DType::kF32, {1, 4});
  w.save(path);
  const TrainableModel model(path, 4, true, {});
  EXPECT_EQ(model.parameters().size(), 2u);
  EXPECT_EQ(shape_once_trained(model, 0.7, out), (Shape{1, 4}));
  // One that would hold all samples in a row of its own accord.
  ModelWriter flat("flat", "for a test");
  flat.input("x", DType::kF32, {1, 2, 4, 4});
  flat.node("Reshape", {flat.node("Conv", {"x", flat.constant("k", Tensor::from_floats(std::vector<float>(54, 0.1f), {3, 2, 3, 3}))}), flat.constant("row", Tensor::from_ints({1, -1}, {2}))}, {}, "y");
  flat.output("y", DType::kF32, {1, 12});
  flat.save(path);
  EXPECT_EQ(TrainableModel(path, 4, true, {}).logits_shape(), (Shape{4, 12}));
}

/// With a batch of 1 the turned axes are no change; with more, the same reshape would put elements of several samples into one row.
TEST(Models, ReshapesThatWouldMixSamplesAreRefused) {
  const std::string path = std::string(SYSTOLE_BUILD) + "/training-mixing.onnx";
  ModelWriter w("mixing", "for a test");
  w.input("x", DType::kF32, {1, 3, 4});
  const std::string turned = w.node("Reshape", {w.node("Transpose", {"x"}, {{"perm", std::vector<int64_t>{1, 0, 2}}}), w.constant("flat", Tensor::from_ints({1, 12}, {2}))});
  std::vector<float> weights;
  for (int i = 0; i < 24; ++i) weights.push_back(0.1f * static_cast<float>(i % 7 - 3));
  w.node("MatMul", {turned, w.constant("w", Tensor::from_floats(weights, {12, 2}))}, {}, "logits");
  w.output("logits", DType::kF32, {1, 2});
  w.save(path);
  EXPECT_NO_THROW(TrainableModel(path, 1, true, {}));
  EXPECT_THROW(TrainableModel(path, 4, true, {}), Failure);
}

/// Everything but the last layer stays as it was; that one has the new width, in the trained file too.
TEST(Models, LastLayersAreReplaced) {
  const std::string path = std::string(SYSTOLE_BUILD) + "/training-head.onnx", out = std::string(SYSTOLE_BUILD) + "/training-head-trained.onnx";
  for (const std::string kind : {"Gemm", "MatMul", "Conv"}) {
    SCOPED_TRACE(kind);
    ModelWriter w("head", "for a test");
    w.input("x", DType::kF32, {1, 2, 4, 4});
    const std::string body = w.node("Relu", {w.node("Conv", {"x", w.constant("k", Tensor::from_floats(std::vector<float>(54, 0.1f), {3, 2, 3, 3}))})});
    const auto weights = [&](const Shape& s) { return w.constant("w", Tensor::from_floats(std::vector<float>(static_cast<size_t>(element_count(s)), 0.2f), s)); };
    const std::string bias = w.constant("b", Tensor::from_floats(std::vector<float>(5, 0.3f), {5}));
    std::string y;
    if (kind == "Conv") y = w.node("Flatten", {w.node("Conv", {body, weights({5, 3, 2, 2}), bias})});
    else if (kind == "Gemm") y = w.node("Gemm", {w.node("Flatten", {body}), weights({5, 12}), bias}, {{"transB", int64_t{1}}});
    else y = w.node("Add", {w.node("MatMul", {w.node("Flatten", {body}), weights({12, 5})}), bias});
    w.node("Softmax", {y}, {}, "y");
    w.output("y", DType::kF32, {1, 5});
    w.save(path);
    const TrainableModel as_it_is(path, 4, true, {}), model(path, 4, true, {}, {}, {7, 3});
    EXPECT_EQ(model.logits_shape(), (Shape{4, 7}));
    const auto before = as_it_is.initial_parameters(), after = model.initial_parameters();
    ASSERT_EQ(after.size(), before.size());
    EXPECT_EQ(after[0].bytes, before[0].bytes);
    for (size_t i = 1; i < after.size(); ++i) EXPECT_EQ(after[i].count() * 5, before[i].count() * 7);
    EXPECT_NE(after[1].at(0), after[1].at(1));
    EXPECT_EQ(TrainableModel(path, 4, true, {}, {}, {7, 3}).initial_parameters()[1].bytes, after[1].bytes);
    EXPECT_NE(TrainableModel(path, 4, true, {}, {}, {7, 4}).initial_parameters()[1].bytes, after[1].bytes);
    EXPECT_EQ(shape_once_trained(model, 0.9, out), (Shape{1, 7}));
  }
}

TEST(Models, LastLayersThatAreNotReplaced) {
  const std::string path = std::string(SYSTOLE_BUILD) + "/training-no-head.onnx";
  ModelWriter w("no head", "for a test");
  w.input("x", DType::kF32, {1, 2, 4, 4});
  w.node("Flatten", {w.node("Conv", {"x", w.constant("k", Tensor::from_floats(std::vector<float>(54, 0.1f), {3, 2, 3, 3}))})}, {}, "y");
  w.output("y", DType::kF32, {1, 12});
  w.save(path);
  EXPECT_THROW(TrainableModel(path, 2, true, {}, {}, {7, 1}), Failure) << "twelve places of three channels";
  ModelWriter tied("tied", "for a test");
  tied.input("x", DType::kF32, {1, 3});
  const std::string both = tied.constant("w", Tensor::from_floats(std::vector<float>(9, 0.1f), {3, 3}));
  tied.node("MatMul", {tied.node("MatMul", {"x", both}), both}, {}, "y");
  tied.output("y", DType::kF32, {1, 3});
  tied.save(path);
  EXPECT_THROW(TrainableModel(path, 2, true, {}, {}, {7, 1}), Failure) << "weights of two layers";
  ModelWriter one("one", "for a test");
  one.input("x", DType::kF32, {1, 3});
  one.node("Add", {one.node("MatMul", {"x", one.constant("w", Tensor::from_floats({1, 2, 3}, {3, 1}))}), one.constant("b", Tensor::from_floats({1}, {1, 1}))}, {}, "y");
  one.output("y", DType::kF32, {1, 1});
  one.save(path);
  EXPECT_EQ(TrainableModel(path, 2, true, {}, {}, {7, 1}).logits_shape(), (Shape{2, 7}));
}

/// x [1, 5, 6] through a recurrent layer of width 4; all its outputs enter the logits.
std::string write_recurrent(const std::string& type, const std::string& direction, bool linear_before_reset, bool initial) {
  const std::string path = std::string(SYSTOLE_BUILD) + "/training-recurrent.onnx";
  ModelWriter w("recurrent", "for a test");
  RandomWeights random(w, 7);
  const int64_t gates = type == "LSTM" ? 4 : type == "GRU" ? 3 : 1, d = direction == "bidirectional" ? 2 : 1;
  w.input("x", DType::kF32, {1, 5, 6});
  std::vector<std::string> in = {w.node("Transpose", {"x"}, {{"perm", std::vector<int64_t>{1, 0, 2}}}), random({d, gates * 4, 6}), random({d, gates * 4, 4}), random({d, gates * 8})};
  if (initial) {
    in.push_back("");
    for (int k = 0; k < (type == "LSTM" ? 2 : 1); ++k) in.push_back(random({d, 1, 4}));
  }
  std::vector<ModelWriter::NamedAttribute> a = {{"hidden_size", int64_t{4}}, {"direction", direction}};
  if (linear_before_reset) a.push_back({"linear_before_reset", int64_t{1}});
  const std::string y = w.node(type, in, a);  // [5, d, 1, 4]
  const std::string rows = w.node("Reshape", {w.node("Transpose", {y}, {{"perm", std::vector<int64_t>{2, 0, 1, 3}}}), w.constant("rows", Tensor::from_ints({-1, 5 * d * 4}, {2}))});
  w.node("Gemm", {rows, random({3, 5 * d * 4}), random({3})}, {{"transB", int64_t{1}}}, "logits");
  w.output("logits", DType::kF32, {1, 3});
  w.save(path);
  return path;
}

TEST(Models, RecurrentLayersEvaluateLikeTheFileAndLearn) {
  struct Case { const char *type, *direction; bool linear_before_reset, initial; };
  for (const Case& c : {Case{"LSTM", "forward", false, true}, Case{"LSTM", "bidirectional", false, false}, Case{"GRU", "forward", false, true}, Case{"GRU", "reverse", true, false}, Case{"RNN", "bidirectional", false, true}}) {
    const std::string path = write_recurrent(c.type, c.direction, c.linear_before_reset, c.initial);
    const std::string what = std::string(c.type) + " " + c.direction;
    const TrainableModel model(path, 1, true, {});
    StepOptions o;
    o.precision = "fp32", o.npu = "server", o.cache = false;
    TrainingPrograms programs(model, o);
    Tensor x(DType::kF32, {1, 5, 6});
    for (int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>(i % 7 - 3) / 4;
    expect_near(programs.evaluate(programs.initial_state(), x), outputs_of_file(path, x), what.c_str(), 1e-5);
    const Outcome r = train(model, o, 15);
    EXPECT_LT(r.losses.back(), 0.9 * r.losses.front()) << what;
  }
}

TEST(Models, OneTableReadTwiceStaysOneWeight) {
  const std::string path = std::string(SYSTOLE_BUILD) + "/training-letters.onnx", out = std::string(SYSTOLE_BUILD) + "/training-letters-out.onnx";
  find_architecture("letters").write(path, 1, 48);
  const TrainableModel model(path, 2, true, {});
  int64_t tables = 0;
  for (const Tensor& t : model.initial_parameters()) {
    tables += t.shape == Shape{64, 48};
    EXPECT_FALSE(t.shape == (Shape{48, 48}) && std::isinf(t.at(1))) << "the causal mask learns";
  }
  EXPECT_EQ(tables, 2) << "characters, which the output reads turned, and positions";
}

/// Tokens and which of them count: both come with every sample, one of them as integers. Of two outputs the second is learned by.
TEST(Models, SeveralInputsAndOutputs) {
  ModelWriter w("tokens", "for a test");
  std::mt19937_64 rng(12);
  const auto random = [&](const char* name, const Shape& shape) {
    Tensor t(DType::kF32, shape);
    for (int64_t i = 0; i < t.count(); ++i) t.set(i, 0.5 * draw(rng));
    return w.constant(name, t);
  };
  w.input("ids", DType::kI64, {1, 8}), w.input("mask", DType::kF32, {1, 8});
  const std::string masked = w.node("Mul", {w.node("Gather", {random("table", {6, 16}), "ids"}), w.node("Unsqueeze", {"mask", w.constant("axis", Tensor::from_ints({2}, {1}))})});
  const std::string pooled = w.node("Tanh", {w.node("ReduceSum", {masked, w.constant("places", Tensor::from_ints({1}, {1}))}, {{"keepdims", int64_t{0}}})}, {}, "pooled");
  w.output(pooled, DType::kF32, {1, 16});
  w.node("Gemm", {pooled, random("fc", {16, 2})}, {}, "logits");
  w.output("logits", DType::kF32, {1, 2});
  const std::string file = path("several-inputs.onnx"), data = path("several-inputs.npz"), out = path("several-inputs-trained.onnx");
  w.save(file);
  // Whether token 3 is among those that count.
  constexpr int64_t kSamples = 400;
  Tensor ids(DType::kI64, {kSamples, 8}), mask(DType::kF32, {kSamples, 8}), y(DType::kI64, {kSamples});
  for (int64_t n = 0; n < kSamples; ++n) {
    int64_t found = 0;
    for (int64_t k = n * 8; k < n * 8 + 8; ++k) {
      ids.set_int(k, static_cast<int64_t>(rng() % 6)), mask.set(k, static_cast<double>(rng() % 2));
      found |= ids.int_at(k) == 3 && mask.at(k) != 0;
    }
    y.set_int(n, found);
  }
  write_npz(data, {{"mask", mask}, {"ids", ids}, {"y", y}});
  CompileOptions c{.npu = "server"};
  TrainOptions o;
  o.data.data = data, o.batch = 16, o.epochs = 8, o.learning_rate = 0.02;
  const auto unnamed = train_model(file, out, c, o);
  ASSERT_FALSE(unnamed);
  EXPECT_NE(unnamed.error().text().find("one of pooled, logits"), std::string::npos) << unnamed.error().text();
  o.loss_output = "logits";
  const TrainReport r = train_model(file, out, c, o).value();
  EXPECT_GE(r.validation_accuracy, 95);
  // What was written has both outputs in their order, and computes the same from both inputs.
  const Compiled trained = compile(out, {}).value().model;
  ASSERT_EQ(outputs_of(trained).size(), 2u);
  EXPECT_EQ(outputs_of(trained)[1].name, "logits");
  int64_t right = 0;
  for (int64_t n = 0; n < kSamples; ++n) {
    Tensor id(DType::kI64, {1, 8}), counts(DType::kF32, {1, 8});
    for (int64_t k = 0; k < 8; ++k) id.set_int(k, ids.int_at(n * 8 + k)), counts.set(k, mask.at(n * 8 + k));
    const auto result = run(trained, {id, counts}).value();
    right += (result[1].at(1) > result[1].at(0)) == (y.int_at(n) == 1);
  }
  EXPECT_GE(right, kSamples * 95 / 100);
  o.data.data = path("several-inputs.onnx");
  EXPECT_FALSE(train_model(file, out, c, o)) << "no archive";
}

}  // namespace
}  // namespace systole
