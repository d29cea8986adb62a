// The training step of a large network on the data-centre preset, compiled and timed: how much of its bound it reaches. Takes minutes: a step's
// program is searched for thoroughly.
#include <gtest/gtest.h>

#include "architectures/architectures.h"
#include "systole/systole.h"
#include "train/step.h"

namespace systole {
namespace {

// docs/training.md, "Large steps". The goal is 0.75; this holds what is reached.
TEST(LargeSteps, ResNet50ReachesItsShareOfTheBound) {
  constexpr double kLeastEfficiency = 0.62;  // 0.609 without copies on the way, 0.601 without turns of chunks, 0.592 with all copies beside products
  const std::string path = std::string(SYSTOLE_BUILD) + "/step-resnet50.onnx";
  const Architecture& a = find_architecture("resnet50");
  a.write(path, 1, a.default_size);
  const TrainableModel model(path, 32, true, {});
  StepOptions o;
  o.precision = "bf16", o.npu = "server", o.cache = false;
  const TrainingPrograms programs(model, o);
  const Report r = profile(programs.forward_backward()).value();
  std::printf("ResNet-50, batch 32: %.1f ms, %.1f %% of the bound\n", r.latency_s * 1e3, 100 * r.efficiency);
  EXPECT_GE(r.efficiency, kLeastEfficiency);
}

}  // namespace
}  // namespace systole
