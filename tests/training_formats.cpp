// Formats of training: fp16 with a loss scale that adapts, 8-bit floats with a scale per tensor, weights of two bytes that are rounded
// stochastically.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "architectures/architectures.h"
#include "base/error.h"
#include "passes/passes.h"
#include "train/fp8.h"
#include "training_case.h"

namespace systole {
namespace {

TEST(Formats, LossScalesOfFp16FindTheirPlace) {
  const std::string file = path("fp16.onnx");
  find_architecture("lenet").write(file, 1, 12);
  const TrainableModel model(file, 8, true, {});
  const Batch b = batch_for(model, 4);
  StepOptions o = options("fp16");
  o.loss_scale = 16777216;  // too much for fp16
  TrainingPrograms programs(model, o);
  TrainingState state = programs.initial_state();
  const auto before = state.weights;
  const auto first = programs.step(state, b.x, b.t, 1.0f / 8, 0.003, 1);
  EXPECT_TRUE(first.skipped);
  EXPECT_EQ(state.scaling[0].at(0), 8388608);
  for (size_t i = 0; i < before.size(); ++i) EXPECT_EQ(state.weights[i].bytes, before[i].bytes);
  std::vector<double> losses;
  int64_t learnt = 0;
  for (int64_t s = 2; s <= 60; ++s) {
    const auto r = programs.step(state, b.x, b.t, 1.0f / 8, 0.003, learnt + 1);
    learnt += !r.skipped;
    losses.push_back(r.loss);
  }
  EXPECT_GT(learnt, 30);
  EXPECT_LT(losses.back(), 0.5 * losses.front()) << losses.front() << " -> " << losses.back();
}

double cosine(const Tensor& a, const Tensor& b) {
  double ab = 0, aa = 0, bb = 0;
  for (int64_t i = 0; i < a.count(); ++i) ab += a.at(i) * b.at(i), aa += a.at(i) * a.at(i), bb += b.at(i) * b.at(i);
  return ab / std::sqrt(aa * bb);
}

/// A product of a step, by hand: operands scaled to the format's largest number, rounded to it, sums divided by the scales.
TEST(Formats, ProductsInEightBitsAreWhatTheySay) {
  for (const bool gradient : {false, true}) {
    Graph g;
    Builder b(g, "t.");
    const ValueId x = b.input("x", DType::kF32, {4, 8}), y = b.input("y", DType::kF32, {8, 3});
    g.outputs = {b.matmul(x, y)};
    const ValueId seed = gradient ? x : b.scalar(0);
    round_to_fp8(g, seed);
    prune_and_sort(g);
    Tensor a(DType::kF32, {4, 8}), c(DType::kF32, {8, 3});
    // Numbers of bf16, and 3.5 the largest: scales are powers of two, whatever precision they are kept in.
    for (Tensor* t : {&a, &c}) {
      for (int64_t i = 0; i < t->count(); ++i) t->set(i, static_cast<double>(i * 37 % 449 - 224) / 64);
      t->set(5, 3.5);
    }
    auto rounded = [](const Tensor& t, DType type, double largest, double& scale) {
      double most = 0;
      for (int64_t i = 0; i < t.count(); ++i) most = std::max(most, std::fabs(t.at(i)));
      scale = static_cast<float>(largest) / static_cast<float>(most);
      Tensor eight(type, t.shape);
      for (int64_t i = 0; i < t.count(); ++i) eight.set(i, static_cast<float>(t.at(i)) * static_cast<float>(scale));
      return eight;
    };
    double sa = 0, sc = 0;
    const Tensor qa = gradient ? rounded(a, DType::kF8E5M2, 57344, sa) : rounded(a, DType::kF8E4M3, 448, sa), qc = rounded(c, DType::kF8E4M3, 448, sc);
    const auto context = std::make_shared<const PlanContext>(PlanContext{load_machine("edge"), choose_policy(g, "bf16"), "bf16", {}, {}, false});
    const Tensor got = *Plan(g, context).run({HostValue(a), HostValue(c)})[0].tensor;
    for (int64_t i = 0; i < 12; ++i) {
      double sum = 0;
      for (int64_t k = 0; k < 8; ++k) sum += qa.at(i / 3 * 8 + k) * qc.at(k * 3 + i % 3);
      EXPECT_NEAR(got.at(i), sum / (sa * sc), 0x1p-8 * std::fabs(sum / (sa * sc))) << i;  // the result is stored in bf16
    }
  }
}

/// A part of a tensor has the tensor's scale: here the part's own largest number would be exact, the tensor's is not.
TEST(Formats, PartsAreRoundedAsTheTensorTheyAreCutFrom) {
  Graph g;
  Builder b(g, "t.");
  const ValueId x = b.input("x", DType::kF32, {2, 8}), y = b.input("y", DType::kF32, {8, 8});
  g.outputs = {b.matmul(b.slice(x, {0}, {0}, {1}, {1}), y)};
  round_to_fp8(g, b.scalar(0));
  prune_and_sort(g);
  Tensor a(DType::kF32, {2, 8}), one(DType::kF32, {8, 8});
  for (int64_t i = 0; i < 8; ++i) a.set(i, 1.0 / 1024 * static_cast<double>(1 + i) / 8), one.set(9 * i, 1);
  a.set(15, 448);  // in the other row: the scale is 1, and codes below 2^-9 are none
  const auto context = std::make_shared<const PlanContext>(PlanContext{load_machine("edge"), choose_policy(g, "bf16"), "bf16", {}, {}, false});
  const Tensor got = *Plan(g, context).run({HostValue(a), HostValue(one)})[0].tensor;
  for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(got.at(i), 0) << i;
}

/// Where an operand is all zeros (the first state of an LSTM), or both are, what is left is the bias.
TEST(Formats, ZerosInEightBitsLeaveTheBias) {
  for (const bool both : {false, true}) {
    Graph g;
    Builder b(g, "t.");
    const ValueId x = b.input("x", DType::kF32, {4, 8}), y = b.input("y", DType::kF32, {8, 3}), bias = b.input("bias", DType::kF32, {3});
    g.outputs = {b.node("Gemm", {x, y, bias}, {4, 3})};
    round_to_fp8(g, x);
    prune_and_sort(g);
    Tensor small(DType::kF32, {8, 3});
    for (int64_t i = 0; i < small.count() && !both; ++i) small.set(i, 1e-9 * static_cast<double>(i + 1));
    const auto context = std::make_shared<const PlanContext>(PlanContext{load_machine("edge"), choose_policy(g, "bf16"), "bf16", {}, {}, false});
    const Tensor got = *Plan(g, context).run({HostValue(Tensor(DType::kF32, {4, 8})), HostValue(small), HostValue(Tensor::from_floats({1.5f, -3.0f, 100.0f}, {3}))})[0].tensor;
    for (int64_t i = 0; i < 12; ++i) {
      const double expected = std::array{1.5, -3.0, 100.0}[static_cast<size_t>(i % 3)];
      EXPECT_NEAR(got.at(i), expected, 0x1p-6 * std::fabs(expected)) << both << " " << i;
    }
  }
}

TEST(Formats, EightBitFloatsLearn) {
  const std::string file = path("fp8.onnx");
  find_architecture("lenet").write(file, 1, 12);
  const TrainableModel model(file, 8, true, {});
  const Batch b = batch_for(model, 4);
  std::vector<Tensor> exact, eight;
  for (const char* precision : {"fp32", "fp8"}) {
    TrainingPrograms programs(model, options(precision));
    TrainingState state = programs.initial_state();
    (exact.empty() ? exact : eight) = programs.step(state, b.x, b.t, 1.0f / 8, 0.003, 1).gradients;
  }
  for (size_t i = 0; i < exact.size(); ++i) {
    const double c = cosine(exact[i], eight[i]);
    EXPECT_GT(c, 0.9) << i;
    if (exact[i].shape.size() > 1) EXPECT_LT(c, 0.9999) << i << ": nothing was rounded";  // biases are sums of gradients
  }
  std::vector<TrainingState> ends;
  for (const bool reference : {false, true}) {
    StepOptions o = options("fp8");
    o.reference = reference;
    TrainingPrograms programs(model, o);
    TrainingState state = programs.initial_state();
    std::vector<double> losses;
    for (int64_t s = 1; s <= (reference ? 3 : 40); ++s) {
      losses.push_back(programs.step(state, b.x, b.t, 1.0f / 8, 0.003, s).loss);
      if (s == 3) ends.push_back(state);
    }
    if (!reference) EXPECT_LT(losses.back(), 0.5 * losses.front());
  }
  for (size_t i = 0; i < ends[0].weights.size(); ++i) EXPECT_EQ(ends[0].weights[i].bytes, ends[1].weights[i].bytes) << i;
}

/// Weights of one binade, and a step of a tenth of their last place: rounded to nearest, none would ever move.
TEST(Formats, StochasticRoundingTakesSmallStepsAsOftenAsTheyAreLarge) {
  constexpr int64_t kCount = 1 << 14;
  for (const double sign : {1.0, -1.0}) {
    const Graph g = update_graph({.name = "sgd", .momentum = 0}, {{128, kCount / 128}}, false, {true});
    const auto context = std::make_shared<const PlanContext>(PlanContext{load_machine("server"), choose_policy(g, "fp32"), "fp32", {}, {}, false});
    Plan plan(g, context);
    Tensor w(DType::kBF16, {128, kCount / 128}), gradient(DType::kF32, w.shape), bytes(DType::kU8, w.shape);
    std::mt19937_64 rng(5);
    for (int64_t i = 0; i < kCount; ++i) w.set(i, sign * (1 + 0x1p-7 * static_cast<double>(1 + i % 126))), gradient.set(i, -0.1 * 0x1p-7), bytes.set_int(i, static_cast<int64_t>(rng() % 256));
    const Tensor now = *plan.run({HostValue(Tensor::from_floats({1}, {1})), HostValue(Tensor::from_floats({1}, {1})), HostValue(Tensor::from_floats({1}, {1})), HostValue(w), HostValue(gradient), HostValue(bytes)})[0].tensor;
    ASSERT_EQ(now.type, DType::kBF16);
    int64_t moved = 0;
    for (int64_t i = 0; i < kCount; ++i) {
      const double by = (now.at(i) - w.at(i)) / 0x1p-7;
      ASSERT_TRUE(by == 0 || by == 1) << w.at(i) << " -> " << now.at(i);
      moved += by == 1;
    }
    EXPECT_NEAR(static_cast<double>(moved) / kCount, 0.1, 0.01) << sign;
  }
}

TEST(Formats, WeightsOfTwoBytesLearnAndAreTheReferences) {
  const std::string file = path("bf16_weights.onnx");
  find_architecture("lenet").write(file, 1, 12);
  const TrainableModel model(file, 8, true, {});
  const Batch b = batch_for(model, 4);
  StepOptions o = options("bf16");
  o.weights = "bf16";
  std::vector<double> losses[2];
  std::vector<Tensor> weights[2];
  for (int r = 0; r < 2; ++r) {
    o.reference = r == 1;
    TrainingPrograms programs(model, o);
    TrainingState state = programs.initial_state();
    for (int64_t s = 1; s <= (r ? 3 : 40); ++s) {
      losses[r].push_back(programs.step(state, b.x, b.t, 1.0f / 8, 0.003, s).loss);
      if (s == 3) weights[r] = state.weights;
    }
    for (size_t i = 0; i < state.weights.size(); ++i) {
      for (int64_t k = 0; state.weights[i].shape.size() > 1 && k < state.weights[i].count(); ++k) ASSERT_EQ(state.weights[i].data<uint32_t>()[k] & 0xFFFF, 0u) << "no bf16";
    }
  }
  for (size_t i = 0; i < weights[0].size(); ++i) EXPECT_EQ(weights[0][i].bytes, weights[1][i].bytes) << i;
  EXPECT_LT(losses[0].back(), 0.2 * losses[0].front());
  o.reference = false, o.optimizer = {.name = "sgd", .momentum = 0};
  // The random bytes follow from the seed and the step.
  std::vector<uint8_t> bits[3];
  for (int r = 0; r < 3; ++r) {
    o.seed = r == 1 ? 2 : 1;
    TrainingPrograms programs(model, o);
    TrainingState state = programs.initial_state();
    programs.step(state, b.x, b.t, 1.0f / 8, 0.003, r == 2 ? 2 : 1);
    for (const Tensor& t : state.weights) bits[r].insert(bits[r].end(), t.bytes.begin(), t.bytes.end());
  }
  EXPECT_NE(bits[0], bits[1]);
  EXPECT_NE(bits[0], bits[2]);
  o.precision = "fp32";
  EXPECT_THROW(TrainingPrograms(model, o), Failure);
}

TEST(Formats, ProductsReadTheWeightsThatTheUpdateRounded) {
  const std::string file = path("copies.onnx");
  find_architecture("lenet").write(file, 1, 12);
  const TrainableModel model(file, 8, true, {"w0"});
  const Batch b = batch_for(model, 4);
  for (const auto& [precision, type] : {std::pair{"bf16", DType::kBF16}, {"fp16", DType::kF16}, {"fp32", DType::kF32}}) {
    TrainingPrograms programs(model, options(precision));
    TrainingState state = programs.initial_state();
    for (int64_t step = 0; step < 3; ++step) {
      if (step) programs.step(state, b.x, b.t, 1.0f / 8, 0.003, step);
      size_t copied = 0;
      for (size_t i = 0; i < state.weights.size(); ++i) {
        const Tensor &w = state.weights[i], &copy = state.copies[i];
        if (copy.shape.empty()) continue;
        ASSERT_EQ(copy.type, type);
        Tensor rounded(type, w.shape);
        for (int64_t k = 0; k < w.count(); ++k) rounded.set(k, w.at(k));
        EXPECT_EQ(copy.bytes, rounded.bytes) << precision << ", weight " << i << ", step " << step;
        ++copied;
      }
      EXPECT_EQ(copied, type == DType::kF32 ? 0u : 4u) << "kernels and matrices, a frozen one too, and no biases";
    }
    // The master of a matrix is not brought in.
    for (const Plan::Boundary& in : programs.forward_backward()->with_plan([](const Plan& p) { return p.inputs(); })) {
      if (in.shape.size() >= 2 && in.name.find(".parameter") != std::string::npos) EXPECT_EQ(in.type, type) << in.name;
    }
  }
}

}  // namespace
}  // namespace systole
