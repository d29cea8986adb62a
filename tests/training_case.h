// What the tests of training share: small batches, options without a cache, steps on one batch, proofs of their programs, the outputs of a file.
#pragma once
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "runtime/compiled.h"
#include "sim/check/race_checker.h"
#include "systole/systole.h"
#include "train/step.h"

namespace systole {

inline std::string path(const char* name) { return std::string(SYSTOLE_BUILD) + "/" + name; }

inline double draw(std::mt19937_64& rng) { return static_cast<double>(rng() >> 11) * 0x1p-53 * 2 - 1; }

struct Batch {
  Tensor x, t;
};
inline Batch batch_for(const TrainableModel& model, uint64_t seed) {
  std::mt19937_64 rng(seed);
  Batch b{Tensor(DType::kF32, model.inputs()[0].shape), Tensor(DType::kF32, model.logits_shape())};
  for (int64_t i = 0; i < b.x.count(); ++i) b.x.set(i, draw(rng));
  const int64_t classes = b.t.shape[1];
  for (int64_t n = 0; n < b.t.shape[0]; ++n) b.t.set(n * classes + static_cast<int64_t>(rng() % static_cast<uint64_t>(classes)), 1);
  return b;
}

inline StepOptions options(const char* precision = "fp32") {
  StepOptions o;
  o.precision = precision, o.npu = "server", o.cache = false, o.optimizer.name = "adam";
  return o;
}

/// Every access of its programs is in bounds, every conflicting pair ordered.
inline void expect_no_races(const Compiled& model) {
  model->with_plan([&](Plan& plan) {
    plan.visit_programs([&](LoadedProgram& p) {
      const CheckReport report = check_races(p.program, model->machine());
      EXPECT_TRUE(report.races.empty()) << model->name << ": " << report.races[0].text();
    });
  });
}

struct Outcome {
  TrainingState state;
  std::vector<double> losses;
};

inline Outcome train(const TrainableModel& model, const StepOptions& o, int steps, double rate = 0.01) {
  TrainingPrograms programs(model, o);
  Outcome r{programs.initial_state(), {}};
  std::mt19937_64 rng(3);
  const Shape in = model.inputs()[0].shape, out = model.logits_shape();
  Tensor x(model.inputs()[0].type, in), t(DType::kF32, out);
  for (int64_t i = 0; i < x.count(); ++i) {
    if (is_float(x.type)) x.set(i, static_cast<double>(rng() >> 11) * 0x1p-53 * 2 - 1);
    else x.set_int(i, static_cast<int64_t>(rng() % 64));
  }
  // A class for each place: places before and after the axis of classes.
  const int64_t classes = out[static_cast<size_t>(o.class_axis)];
  int64_t inner = 1;
  for (size_t d = static_cast<size_t>(o.class_axis) + 1; d < out.size(); ++d) inner *= out[d];
  const int64_t places = t.count() / classes;
  for (int64_t p = 0; p < places; ++p) t.data<float>()[p / inner * classes * inner + static_cast<int64_t>(rng() % static_cast<uint64_t>(classes)) * inner + p % inner] = 1;
  for (int s = 1; s <= steps; ++s) r.losses.push_back(programs.step(r.state, x, t, 1.0f / static_cast<float>(places), rate, s).loss);
  if (!o.reference) expect_no_races(programs.forward_backward()), expect_no_races(programs.update());
  return r;
}

/// Outputs of a file, sample by sample.
inline std::vector<double> outputs_of_file(const std::string& file, const Tensor& x) {
  CompileOptions c;
  c.npu = "server", c.cache = false, c.precision = "fp32";
  const Compiled model = compile(file, c).value().model;
  std::vector<double> all;
  Shape one = x.shape;
  one[0] = 1;
  for (int64_t n = 0; n < x.shape[0]; ++n) {
    Tensor t(DType::kF32, one);
    std::memcpy(t.data<float>(), x.bytes.data() + 4 * n * t.count(), t.bytes.size());
    const Tensor y = run(model, {t}).value()[0];
    for (int64_t i = 0; i < y.count(); ++i) all.push_back(y.at(i));
  }
  return all;
}

inline void expect_near(const Tensor& got, const std::vector<double>& want, const char* what, double tolerance = 1e-4) {
  ASSERT_EQ(static_cast<size_t>(got.count()), want.size());
  for (int64_t i = 0; i < got.count(); ++i) EXPECT_NEAR(got.at(i), want[static_cast<size_t>(i)], tolerance) << what << ", element " << i;
}

}  // namespace systole
