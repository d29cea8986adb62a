// Ways of training: through quantisation (the exported integers are the network that was trained), with dropout (masks by position),
// with recomputation (the same bits in less memory).
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <random>

#include "architectures/architectures.h"
#include "passes/passes.h"
#include "import/writer.h"
#include "train/random.h"
#include "base/error.h"
#include "train/builder.h"
#include "train/targets.h"
#include "training_case.h"

namespace systole {
namespace {

/// x - Q - DQ - Conv - Relu - Q - DQ - Flatten - Gemm, weights int8 per channel (or int4), biases int32.
std::string write_qdq(const char* name, bool four_bits) {
  ModelWriter w(name, "for a test", four_bits ? 21 : 13);
  std::mt19937_64 rng(4);
  int next = 0;
  auto constant = [&](DType type, const Shape& shape, double lo, double hi) {
    Tensor t(type, shape);
    for (int64_t i = 0; i < t.count(); ++i) is_float(type) ? t.set(i, lo + (hi - lo) * (draw(rng) + 1) / 2) : t.set_int(i, static_cast<int64_t>(std::lround(lo + (hi - lo) * (draw(rng) + 1) / 2)));
    return w.constant("c" + std::to_string(next++), t);
  };
  auto scalar = [&](DType type, double v) { return constant(type, {}, v, v); };
  auto fake = [&](const std::string& v, double scale, double zero) {
    const std::string s = scalar(DType::kF32, scale), z = scalar(DType::kU8, zero);
    return w.node("DequantizeLinear", {w.node("QuantizeLinear", {v, s, z}), s, z});
  };
  const DType codes = four_bits ? DType::kI4 : DType::kI8;
  const double most = four_bits ? 7 : 100, scale = four_bits ? 0.05 : 0.003;
  auto weights = [&](const Shape& shape, int64_t axis) { return w.node("DequantizeLinear", {constant(codes, shape, -most, most), constant(DType::kF32, {shape[static_cast<size_t>(axis)]}, 0.8 * scale, scale)}, {{"axis", axis}}); };
  auto biases = [&](int64_t n) { return w.node("DequantizeLinear", {constant(DType::kI32, {n}, -100, 100), scalar(DType::kF32, 0.001)}); };
  w.input("x", DType::kF32, {1, 2, 6, 6});
  const std::string conv = w.node("Conv", {fake("x", 1.0 / 120, 128), weights({4, 2, 3, 3}, 0), biases(4)});
  const std::string y = w.node("Flatten", {fake(w.node("Relu", {conv}), 0.02, 0)}, {{"axis", int64_t{1}}});
  w.node("Gemm", {y, weights({5, 64}, 0), biases(5)}, {{"transB", int64_t{1}}}, "logits");
  w.output("logits", DType::kF32, {1, 5});
  w.save(path(name));
  return path(name);
}

TEST(Methods, QuantisedModelsLearnAndAreExportedAsTrained) {
  for (const bool four_bits : {false, true}) {
    const std::string file = write_qdq(four_bits ? "qat4.onnx" : "qat8.onnx", four_bits), out = path("qat-out.onnx");
    const TrainableModel model(file, 6, true, {});
    EXPECT_TRUE(model.quantised());
    EXPECT_EQ(model.parameters().size(), 4u);
    TrainingPrograms programs(model, options());
    TrainingState state = programs.initial_state();
    const Batch b = batch_for(model, 8);
    expect_near(programs.evaluate(state, b.x), outputs_of_file(file, b.x), "before");
    std::vector<double> losses;
    for (int s = 1; s <= 25; ++s) losses.push_back(programs.step(state, b.x, b.t, 1.0f / 6, 0.01, s).loss);
    EXPECT_LT(losses.back(), 0.6 * losses.front()) << losses.front() << " -> " << losses.back();
    model.write(state.weights, state.statistics, "trained", out);
    expect_near(programs.evaluate(state, b.x), outputs_of_file(out, b.x), "after", 0.02);  // biases are rounded to steps of 0.001
  }
}

/// Steps of a sequence say what they show, one of four classes or nothing; the label is what was said, not when.
TEST(Methods, CtcLearnsToSpell) {
  constexpr int64_t kBatch = 8, kSteps = 10, kClasses = 5, kLongest = 3;
  const std::string file = path("ctc.onnx");
  ModelWriter w("ctc", "for a test", 17);
  std::mt19937_64 rng(9);
  Tensor weights(DType::kF32, {kClasses, kClasses});
  for (int64_t i = 0; i < weights.count(); ++i) weights.set(i, draw(rng) * 0.5);
  w.input("x", DType::kF32, {1, kSteps, kClasses});
  w.node("MatMul", {"x", w.constant("w", weights)}, {}, "y");
  w.output("y", DType::kF32, {1, kSteps, kClasses});
  w.save(file);
  const TrainableModel model(file, kBatch, false, {});
  StepOptions o = options();
  o.loss = "ctc", o.labels_each = kLongest;
  TrainingPrograms programs(model, o);
  TrainingState state = programs.initial_state();
  Dataset d;
  d.labels_each = kLongest;
  Tensor x(DType::kF32, {kBatch, kSteps, kClasses});
  std::vector<size_t> which(kBatch);
  for (int64_t n = 0; n < kBatch; ++n) {
    which[static_cast<size_t>(n)] = static_cast<size_t>(n), d.samples.emplace_back();
    for (int64_t k = 0; k < kLongest; ++k) {
      const auto c = static_cast<int64_t>(1 + rng() % (kClasses - 1));
      d.labels.push_back(c), x.set((n * kSteps + 3 * k + 1) * kClasses + c, 1);
    }
    for (int64_t t = 0; t < kSteps; ++t) x.set((n * kSteps + t) * kClasses, t % 3 != 1);
  }
  const Targets targets("ctc", model.logits_shape(), kLongest, 0, "labels");
  targets.check(d, "labels");
  const Tensor t = targets.make(d, which, 0);
  double first = 0;
  TrainingPrograms::StepResult r;
  for (int s = 1; s <= 60; ++s) {
    r = programs.step(state, x, t, 1.0f / kBatch, 0.1, s);
    if (s == 1) first = r.loss;
  }
  EXPECT_LT(r.loss, 0.1 * first);
  EXPECT_EQ(targets.accuracy(r.logits[0], d, which, 0, kBatch).right, kBatch);
  d.labels[0] = 0;
  EXPECT_THROW(targets.check(d, "labels"), Failure);
}

std::string write_dropout() {
  ModelWriter w("dropout", "for a test", 17);
  std::mt19937_64 rng(6);
  auto random = [&](const char* name, const Shape& shape) {
    Tensor t(DType::kF32, shape);
    for (int64_t i = 0; i < t.count(); ++i) t.set(i, 0.5 * draw(rng));
    return w.constant(name, t);
  };
  w.input("x", DType::kF32, {1, 16});
  const std::string above = w.constant("b1", Tensor::from_floats(std::vector<float>(64, 20.0f), {64}));  // Relu empties nothing
  const std::string h = w.node("Relu", {w.node("Gemm", {"x", random("w1", {16, 64}), above})});
  const std::string kept = w.node("Dropout", {h, w.constant("ratio", Tensor::scalar_f32(0.4f))});
  w.node("Gemm", {kept, random("w2", {64, 4}), random("b2", {4})}, {}, "logits");
  w.output("logits", DType::kF32, {1, 4});
  w.save(path("dropout.onnx"));
  return path("dropout.onnx");
}

TEST(Methods, PhiloxGivesThePublishedNumbers) {
  EXPECT_EQ(philox({0, 0}, {0, 0, 0, 0}), (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}), (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(Methods, DropoutDropsByStepAndPositionWhileTraining) {
  const std::string file = write_dropout();
  const TrainableModel model(file, 6, true, {});
  TrainingPrograms programs(model, options()), again(model, options());
  const Batch b = batch_for(model, 2);
  const TrainingState initial = programs.initial_state();
  expect_near(programs.evaluate(initial, b.x), outputs_of_file(file, b.x), "inference keeps everything");
  auto first = [&](TrainingPrograms& p, int64_t step) {
    TrainingState s = initial;
    return p.step(s, b.x, b.t, 1.0f / 6, 0.01, step);
  };
  const auto one = first(programs, 1), same = first(again, 1), two = first(programs, 2);
  EXPECT_EQ(one.logits[0].bytes, same.logits[0].bytes);
  EXPECT_NE(one.logits[0].bytes, two.logits[0].bytes);
  // A dropped unit's row of the second weight has no gradient from that sample: with one sample, about 40 % of the rows.
  const TrainableModel single(file, 1, true, {});
  TrainingPrograms p(single, options());
  const Batch s = batch_for(single, 3);
  int64_t zero = 0, rows = 0;
  for (int64_t step = 1; step <= 40; ++step) {
    TrainingState state = initial;
    const auto r = p.step(state, s.x, s.t, 1, 0.01, step);
    const Tensor& w2 = r.gradients[2];
    for (int64_t i = 0; i < 64; ++i) zero += w2.at(4 * i) == 0, ++rows;
  }
  EXPECT_NEAR(static_cast<double>(zero) / static_cast<double>(rows), 0.4, 0.03);
}

TEST(Methods, RecomputationKeepsTheBitsAndLess) {
  for (const char* name : {"resnet8", "roads", "letters"}) {
    const std::string file = path("recompute.onnx");
    const Architecture& a = find_architecture(name);
    // Large pictures: of small ones, weight gradients need more than activations.
    a.write(file, 1, std::string(name) == "resnet8" ? 96 : a.default_size);
    const TrainableModel model(file, 8, true, {});
    StepOptions o = options("fp32");  // in bf16 other maps fuse, which round their intermediate values at other places
    o.class_axis = std::string(name) == "letters" ? 2 : 1;
    Batch b{Tensor(model.inputs()[0].type, model.inputs()[0].shape), Tensor(DType::kF32, model.logits_shape())};
    std::mt19937_64 rng(5);
    for (int64_t i = 0; i < b.x.count(); ++i) is_float(b.x.type) ? b.x.set(i, draw(rng)) : b.x.set_int(i, static_cast<int64_t>(rng() % 64));
    for (int64_t i = 0; i < b.t.count(); ++i) b.t.set(i, 0.1);
    std::vector<uint8_t> expected;
    int64_t memory = 0;
    for (const char* mode : {"none", "block", "full", "auto"}) {
      o.recompute = {mode, 1};  // auto under a byte: like full
      TrainingPrograms programs(model, o);
      TrainingState state = programs.initial_state();
      programs.step(state, b.x, b.t, 0.1f, 0.01, 1);
      std::vector<uint8_t> bits;
      for (const Tensor& t : state.weights) bits.insert(bits.end(), t.bytes.begin(), t.bytes.end());
      const int64_t bytes = profile(programs.forward_backward()).value().dram_footprint_bytes;
      if (expected.empty()) expected = bits, memory = bytes;
      expect_no_races(programs.forward_backward());
      EXPECT_TRUE(bits == expected) << name << ", " << mode;
      std::printf("  %s, %s: %zu nodes again in %lld segments, %.2f MB of DRAM\n", name, mode, programs.recomputed().nodes, static_cast<long long>(programs.recomputed().segments), static_cast<double>(bytes) * 1e-6);
      if (std::string(mode) != "none") EXPECT_GT(programs.recomputed().nodes, 0u) << name;
      EXPECT_LE(bytes, memory) << name << ", " << mode;
    }
  }
}

}  // namespace
}  // namespace systole
