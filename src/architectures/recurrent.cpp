#include "architectures/recurrent.h"

#include <cmath>
#include <random>

#include "import/writer.h"

namespace systole {
namespace {

constexpr int64_t kWidth = 512;

Tensor random_tensor(std::mt19937_64& rng, const Shape& shape, double deviation) {
  Tensor t(DType::kF32, shape);
  for (int64_t i = 0, n = t.count(); i < n; ++i) t.data<float>()[i] = static_cast<float>((static_cast<double>(rng() >> 11) * 0x1p-53 - 0.5) * 3.46 * deviation);
  return t;
}

/// Two layers of 512 over a sequence, batch 1 (Hochreiter and Schmidhuber 1997).
void write_lstm(const std::string& path, uint64_t seed, int64_t steps) {
  ModelWriter w("lstm", "Written by systole model: the real architecture with random weights of seed " + std::to_string(seed) + "; outputs mean nothing.");
  std::mt19937_64 rng(seed);
  w.input("x", DType::kF32, {steps, 1, kWidth});
  std::string x = "x";
  const std::string axis = w.constant("axis", Tensor::from_ints({1}, {1}));
  for (int layer = 0; layer < 2; ++layer) {
    const std::string n = std::to_string(layer);
    const double deviation = 1 / std::sqrt(static_cast<double>(kWidth));
    const std::string weights = w.constant("w" + n, random_tensor(rng, {1, 4 * kWidth, kWidth}, deviation)), recurrent = w.constant("r" + n, random_tensor(rng, {1, 4 * kWidth, kWidth}, deviation));
    const std::string bias = w.constant("b" + n, random_tensor(rng, {1, 8 * kWidth}, 0.02));
    x = w.node("Squeeze", {w.node("LSTM", {x, weights, recurrent, bias}, {{"hidden_size", kWidth}}), axis}, {}, layer == 1 ? "y" : "");
  }
  w.output("y", DType::kF32, {steps, 1, kWidth});
  w.save(path);
}

constexpr Architecture kList[] = {{"lstm", "two LSTM layers of width 512, 100 steps, 0.42 GMAC", write_lstm, 100}};

}  // namespace

std::span<const Architecture> recurrent_architectures() { return kList; }

}  // namespace systole
