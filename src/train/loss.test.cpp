// Losses against their definitions and finite differences in fp32.
#include "train/loss.h"

#include <gtest/gtest.h>

#include <cmath>

#include "train/finite_differences.h"

namespace systole {
namespace {

const std::vector<std::vector<int64_t>> kLabels = {{1, 2}, {2, 2}, {1}, {}};

Tensor ctc_targets(const std::vector<std::vector<int64_t>>& labels, int64_t longest, int64_t classes) {
  Tensor t(DType::kF32, {static_cast<int64_t>(labels.size()), 2 * longest + 1, classes});
  for (size_t n = 0; n < labels.size(); ++n) {
    for (size_t i = 0; i < 2 * labels[n].size() + 1; ++i) t.set((static_cast<int64_t>(n) * (2 * longest + 1) + static_cast<int64_t>(i)) * classes + (i % 2 ? labels[n][i / 2] : 0), 1);
  }
  return t;
}

/// The definition: the probabilities of all paths that spell the label, added up.
TEST(Losses, CtcIsTheSumOverPaths) {
  constexpr int64_t kSteps = 5, kClasses = 3;
  std::mt19937 rng(3);
  Graph g;
  Builder b(g, "l.");
  const ValueId y = b.input("y", DType::kF32, {4, kSteps, kClasses});
  const Loss loss = build_loss(b, "ctc", y, {1, 2});
  g.outputs = {loss.losses};
  const Tensor x = random_tensor(rng, {4, kSteps, kClasses}, -2, 2);
  const Tensor losses = run(g, {x, ctc_targets(kLabels, 2, kClasses), Tensor::from_floats({1}, {1})})[0];
  for (int64_t n = 0; n < 4; ++n) {
    double probability = 0;
    for (int64_t path = 0; path < 243; ++path) {
      double p = 1;
      std::vector<int64_t> spelt;
      for (int64_t t = 0, rest = path, before = 0; t < kSteps; ++t, rest /= kClasses) {
        const int64_t c = rest % kClasses, row = (n * kSteps + t) * kClasses;
        double sum = 0;
        for (int64_t k = 0; k < kClasses; ++k) sum += std::exp(x.at(row + k));
        p *= std::exp(x.at(row + c)) / sum;
        if (c && c != before) spelt.push_back(c);
        before = c;
      }
      if (spelt == kLabels[static_cast<size_t>(n)]) probability += p;
    }
    EXPECT_NEAR(losses.at(n), -std::log(probability), 2e-5) << n;
  }
}

/// Losses along axis 1 of [rows, classes] and, for classes, of [rows, classes, places]; rows whose targets are all 0 count for nothing.
TEST(Losses, GradientsAgreeWithFiniteDifferences) {
  for (const std::string& name : loss_names()) {
    for (const Shape& shape : takes_classes(name) ? std::vector<Shape>{{4, 5}, {3, 4, 2}} : name == "ctc" ? std::vector<Shape>{{4, 5, 3}} : std::vector<Shape>{{4, 5}}) {
      std::mt19937 rng(11);
      Graph g;
      Builder b(g, "l.");
      const ValueId y = b.input("y", DType::kF32, shape);
      const Loss loss = build_loss(b, name, y, {1, 2});
      g.outputs = {loss.losses, loss.gradient};
      Tensor targets = random_tensor(rng, shape, 0, 1);
      if (name == "ctc") targets = ctc_targets(kLabels, 2, 3);
      if (name == "triplet") {
        for (int64_t i = 0; i < targets.count(); ++i) targets.set(i, static_cast<double>(300 + i / shape[1] % 2));  // two of each class
      }
      if (takes_classes(name)) {
        targets = Tensor(DType::kF32, shape);
        const int64_t inner = shape.size() == 3 ? shape[2] : 1;
        for (int64_t n = 1; n < shape[0]; ++n) {  // row 0 is ignored
          for (int64_t p = 0; p < inner; ++p) targets.set((n * shape[1] + static_cast<int64_t>(rng() % static_cast<unsigned>(shape[1]))) * inner + p, 1);
        }
      }
      const Tensor x = random_tensor(rng, shape, -0.8f, 0.8f), v = random_tensor(rng, shape, -1, 1);
      const float scale = 0.25f;
      auto at = [&](float by) {
        Tensor moved = x;
        for (int64_t i = 0; i < x.count(); ++i) moved.data<float>()[i] += by * v.load<float>(i);
        const auto out = run(g, {moved, targets, Tensor::from_floats({scale}, {1})});
        double sum = 0;
        for (int64_t i = 0; i < out[0].count(); ++i) sum += out[0].at(i);
        return std::pair(sum * static_cast<double>(scale), out[1]);
      };
      const float h = 2e-3f;
      const double numeric = (8 * (at(h).first - at(-h).first) - (at(2 * h).first - at(-2 * h).first)) / (12 * static_cast<double>(h));
      const Tensor gradient = at(0).second;
      EXPECT_LE(std::fabs(dot(gradient, v) - numeric) / (std::sqrt(dot(gradient, gradient) * dot(v, v)) + 1e-6), 2e-3) << name << " over " << to_string(shape) << ": " << dot(gradient, v) << " against " << numeric;
      if (takes_classes(name)) {
        for (int64_t i = 0; i < element_count(shape) / shape[0]; ++i) EXPECT_EQ(gradient.at(i), 0) << name;
      }
    }
  }
}

}  // namespace
}  // namespace systole
