// What the tests of training share: a small batch, and options without a cache.
#pragma once
#include <random>
#include <string>

#include "train/step.h"

namespace systole {

inline std::string path(const char* name) { return std::string(SYSTOLE_BUILD) + "/" + name; }

inline double draw(std::mt19937_64& rng) { return static_cast<double>(rng() >> 11) * 0x1p-53 * 2 - 1; }

struct Batch {
  Tensor x, t;
};
inline Batch batch_for(const TrainableModel& model, uint64_t seed) {
  std::mt19937_64 rng(seed);
  Batch b{Tensor(DType::kF32, model.input().shape), Tensor(DType::kF32, model.logits_shape())};
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

}  // namespace systole
