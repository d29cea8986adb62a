// Training steps: the functional model = the reference evaluator, any number of threads; what a step changes.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "architectures/architectures.h"
#include "base/parallel.h"
#include "train/step.h"

namespace systole {
namespace {

struct Outcome {
  TrainingState state;
  std::vector<double> losses;
};

Outcome train(const TrainableModel& model, const StepOptions& o, int steps) {
  TrainingPrograms programs(model, o);
  Outcome r{programs.initial_state(), {}};
  std::mt19937_64 rng(3);
  const Shape in = model.input().shape, out = model.logits_shape();
  Tensor x(DType::kF32, in), t(DType::kF32, out);
  for (int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>(static_cast<double>(rng() >> 11) * 0x1p-53 * 2 - 1);
  for (int64_t n = 0; n < out[0]; ++n) t.data<float>()[n * out[1] + static_cast<int64_t>(rng() % static_cast<uint64_t>(out[1]))] = 1;
  for (int s = 1; s <= steps; ++s) r.losses.push_back(programs.step(r.state, x, t, 1.0f / static_cast<float>(out[0]), 0.01, s).loss);
  return r;
}

std::string bits(const Outcome& r) {
  std::string all;
  for (const auto* list : {&r.state.weights, &r.state.states, &r.state.statistics}) {
    for (const Tensor& t : *list) all.append(t.bytes.begin(), t.bytes.end());
  }
  return all;
}

TEST(Training, TheSameBitsAsTheReferenceAndWithAnyThreads) {
  for (const char* name : {"lenet", "resnet8", "ds-cnn"}) {
    const std::string path = std::string(SYSTOLE_BUILD) + "/training-" + name + ".onnx";
    const Architecture& a = find_architecture(name);
    a.write(path, 1, a.default_size);
    const TrainableModel model(path, 2, true, {});
    for (const char* precision : {"bf16", "fp32"}) {
      StepOptions o;
      o.precision = precision, o.npu = "server", o.cache = false;
      o.optimizer.name = std::string(precision) == "bf16" ? "adamw" : "sgd";
      const Outcome first = train(model, o, 2);
      EXPECT_TRUE(std::isfinite(first.losses[1])) << name;
      o.reference = true;
      EXPECT_TRUE(bits(train(model, o, 2)) == bits(first)) << name << " in " << precision << ": not the reference's bits";
      o.reference = false;
      set_thread_count(1);
      EXPECT_TRUE(bits(train(model, o, 2)) == bits(first)) << name << " in " << precision << ": other bits with one thread";
      set_thread_count(0);
      o.npu = "edge";
      EXPECT_TRUE(bits(train(model, o, 2)) == bits(first)) << name << " in " << precision << ": other bits on another machine";
    }
  }
}

TEST(Training, EveryOptimiserLearnsAFixedBatch) {
  const std::string path = std::string(SYSTOLE_BUILD) + "/training-small.onnx";
  find_architecture("lenet").write(path, 1, 12);
  const TrainableModel model(path, 8, true, {});
  for (const char* optimizer : {"sgd", "adam", "adamw", "lamb"}) {
    for (double clip : {0.0, 1.0}) {
      StepOptions o;
      o.precision = "fp32", o.npu = "server", o.cache = false, o.optimizer.name = optimizer, o.optimizer.clip_norm = clip, o.optimizer.weight_decay = 1e-4, o.optimizer.nesterov = clip > 0;
      const Outcome r = train(model, o, 12);
      EXPECT_LT(r.losses.back(), 0.7 * r.losses.front()) << optimizer << ", clip " << clip << ": " << r.losses.front() << " -> " << r.losses.back();
    }
  }
}

TEST(Training, EveryLossFalls) {
  const std::string path = std::string(SYSTOLE_BUILD) + "/training-small.onnx";
  const TrainableModel model(path, 8, true, {});
  for (const char* loss : {"cross-entropy", "mse", "mae", "huber", "bce"}) {
    StepOptions o;
    o.precision = "fp32", o.npu = "server", o.cache = false, o.loss = loss;
    const Outcome r = train(model, o, 12);
    EXPECT_LT(r.losses.back(), 0.8 * r.losses.front()) << loss << ": " << r.losses.front() << " -> " << r.losses.back();
  }
}

}  // namespace
}  // namespace systole
