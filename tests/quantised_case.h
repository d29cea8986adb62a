// What the tests of quantised models share: small models with seeded weights, their products by format, their outputs.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "import/onnx.h"
#include "import/writer.h"
#include "passes/pipeline.h"
#include "runtime/observe.h"
#include "systole/systole.h"

namespace systole {

inline std::string path(const std::string& name) { return std::string(SYSTOLE_BUILD) + "/quantised-" + name; }

inline Tensor random_tensor(std::mt19937_64& rng, const Shape& shape, double scale) {
  Tensor t(DType::kF32, shape);
  for (int64_t i = 0; i < t.count(); ++i) t.set(i, scale * (static_cast<double>(rng() >> 11) * 0x1p-52 - 1));
  return t;
}

/// A model under construction with seeded weights.
struct Draft {
  explicit Draft(int64_t opset = 17) : w("draft", "for a test", opset) {}
  std::string random(const Shape& shape, double scale = 0.3) { return w.constant("c" + std::to_string(count++), random_tensor(rng, shape, scale)); }
  std::string number(float v) { return w.constant("c" + std::to_string(count++), Tensor::scalar_f32(v)); }
  std::string ints(const std::vector<int64_t>& v) { return w.constant("c" + std::to_string(count++), Tensor::from_ints(v, {static_cast<int64_t>(v.size())})); }
  ModelWriter w;
  std::mt19937_64 rng{7};
  int count = 0;
};

inline int64_t products_of(const Graph& primitives, MacFormat format) {
  return std::count_if(primitives.nodes.begin(), primitives.nodes.end(), [&](const Node& n) { return std::holds_alternative<Contract>(n.op) && std::get<Contract>(n.op).format == format; });
}

inline std::vector<Tensor> outputs_of(const Graph& graph, const Tensor& x) {
  FrontResult front = run_simplify(graph, "fp32");
  return Observer(front.graph, {}, context_of("edge", front)).run({HostValue(x)});
}

}  // namespace systole
