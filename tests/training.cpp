// Training steps: the functional model = the reference evaluator, any number of threads; what a step changes.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "architectures/architectures.h"
#include "base/error.h"
#include "base/parallel.h"
#include "import/writer.h"
#include "training_case.h"

namespace systole {
namespace {

std::string bits(const Outcome& r) {
  std::string all;
  for (const auto* list : {&r.state.weights, &r.state.states, &r.state.statistics}) {
    for (const Tensor& t : *list) all.append(t.bytes.begin(), t.bytes.end());
  }
  return all;
}

TEST(Training, TheSameBitsAsTheReferenceAndWithAnyThreads) {
  for (const char* name : {"lenet", "resnet8", "ds-cnn", "tones", "roads", "letters"}) {
    const std::string path = std::string(SYSTOLE_BUILD) + "/training-" + name + ".onnx";
    const Architecture& a = find_architecture(name);
    a.write(path, 1, a.default_size);
    const TrainableModel model(path, 2, true, {});
    for (const char* precision : {"bf16", "fp32"}) {
      StepOptions o;
      o.precision = precision, o.npu = "server", o.cache = false;
      o.class_axis = std::string(name) == "letters" ? 2 : 1;
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
  for (const char* optimizer : {"sgd", "adam", "adamw", "lamb", "adafactor"}) {
    for (double clip : {0.0, 1.0}) {
      StepOptions o;
      o.precision = "fp32", o.npu = "server", o.cache = false, o.optimizer.name = optimizer, o.optimizer.clip_norm = clip, o.optimizer.weight_decay = 1e-4, o.optimizer.nesterov = clip > 0;
      const Outcome r = train(model, o, 12, o.optimizer.name == "adafactor" ? 0.1 : 0.01);  // its steps are shares of the weights
      EXPECT_LT(r.losses.back(), 0.7 * r.losses.front()) << optimizer << ", clip " << clip << ": " << r.losses.front() << " -> " << r.losses.back();
    }
  }
}

TEST(Training, EveryLossFalls) {
  const std::string path = std::string(SYSTOLE_BUILD) + "/training-small.onnx";
  const TrainableModel model(path, 8, true, {});
  for (const char* loss : {"cross-entropy", "mse", "mae", "huber", "bce", "dice", "triplet"}) {
    StepOptions o;
    o.precision = "fp32", o.npu = "server", o.cache = false, o.loss = loss;
    const Outcome r = train(model, o, 12);
    EXPECT_LT(r.losses.back(), 0.8 * r.losses.front()) << loss << ": " << r.losses.front() << " -> " << r.losses.back();
  }
}

TEST(Training, TwoBatchesAddedUpAreOneOfTwiceTheSize) {
  const std::string path = std::string(SYSTOLE_BUILD) + "/training-small.onnx";
  const TrainableModel half(path, 4, true, {}), whole(path, 8, true, {});
  StepOptions o;
  o.precision = "fp32", o.npu = "server", o.cache = false, o.optimizer.name = "sgd", o.optimizer.momentum = 0;
  TrainingPrograms one(whole, o);
  o.accumulate = 2;
  TrainingPrograms two(half, o);
  Tensor x(DType::kF32, whole.inputs()[0].shape), t(DType::kF32, {8, 10});
  for (int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>(i * 37 % 101) / 101;
  for (int64_t n = 0; n < 8; ++n) t.data<float>()[n * 10 + n] = 1;
  auto part = [](const Tensor& all, int64_t k) {
    Shape shape = all.shape;
    shape[0] /= 2;
    Tensor half_of(DType::kF32, shape);
    std::memcpy(half_of.data<float>(), all.bytes.data() + 4 * k * half_of.count(), half_of.bytes.size());
    return half_of;
  };
  TrainingState a = one.initial_state(), b = two.initial_state();
  const auto want = one.step(a, x, t, 0.125f, 0.1, 1);
  const auto got = two.step(b, {{{part(x, 0)}, part(t, 0)}, {{part(x, 1)}, part(t, 1)}}, 0.125f, 0.1, 1);
  EXPECT_NEAR(got.loss, want.loss, 1e-5);
  ASSERT_EQ(got.logits.size(), 2u);
  for (size_t i = 0; i < a.weights.size(); ++i) {
    for (int64_t k = 0; k < a.weights[i].count(); ++k) ASSERT_NEAR(b.weights[i].at(k), a.weights[i].at(k), 1e-5) << i;
  }
}

}  // namespace
}  // namespace systole
