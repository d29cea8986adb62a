// What tests of gradients and losses share: a graph's outputs in fp32, random operands, projections.
#pragma once
#include <memory>
#include <random>
#include <vector>

#include "runtime/plan.h"

namespace systole {

inline std::vector<Tensor> run(const Graph& g, const std::vector<Tensor>& inputs) {
  static const auto context = std::make_shared<const PlanContext>(PlanContext{load_machine("server"), {DType::kF32, MacFormat::kF32}, "fp32", {}});
  Plan plan(g, context);
  std::vector<HostValue> values(inputs.begin(), inputs.end());
  std::vector<Tensor> out;
  for (const HostValue& v : plan.run(values)) out.push_back(*v.tensor);
  return out;
}

inline Tensor random_tensor(std::mt19937& rng, const Shape& shape, float lo, float hi) {
  Tensor t(DType::kF32, shape);
  std::uniform_real_distribution<float> d(lo, hi);
  for (int64_t i = 0; i < t.count(); ++i) t.data<float>()[i] = d(rng);
  return t;
}

inline double dot(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.count(); ++i) sum += a.at(i) * b.at(i);
  return sum;
}

}  // namespace systole
