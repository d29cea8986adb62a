// Weight gradients in chunks of a batch.
#include "train/convolution.h"

#include <gtest/gtest.h>

#include <random>

#include "passes/passes.h"
#include "train/finite_differences.h"

namespace systole {
namespace {

TEST(Convolution, ChunksOfSamplesAddUp) {
  const struct { int64_t channels, columns, kernel, stride, pad; } kCases[] = {{3, 5, 3, 1, 1}, {3, 5, 3, 2, 1}, {20, 5, 3, 1, 1}, {20, 5, 3, 2, 0}, {3, 5, 1, 1, 0}, {3, 5, 1, 1, 1}, {6, 4, 1, 2, 0}};
  for (const auto& k : kCases) {
    const int64_t out = (8 + 2 * k.pad - k.kernel) / k.stride + 1;
    const Node node{"conv", OnnxOp{"", "Conv", 18, {{"pads", std::vector<int64_t>(4, k.pad)}, {"strides", std::vector<int64_t>(2, k.stride)}}}, {}, {}};
    const Shape x = {7, k.channels, 8, 8}, w = {k.columns, k.channels, k.kernel, k.kernel}, y = {7, k.columns, out, out};
    Graph g;
    Builder b(g, "g.");
    const ValueId in = b.input("x", DType::kF32, x), dy = b.input("dy", DType::kF32, y);
    const ConvolutionGeometry geometry(node, x, w, y);
    const int64_t sample = 100 * (k.channels + k.columns);
    std::vector<ValueId> biases = {b.sum(dy, {0, 2, 3}, false)};
    for (const int64_t elements : {int64_t{1} << 19, int64_t{1}, 3 * sample}) {  // all at once; row by row; three samples
      for (const BiasSum sum : {BiasSum::kNone, BiasSum::kOfOperands, BiasSum::kOfProducts}) {
        const WeightGradient made = convolution_weight_gradient(b, geometry, in, dy, sum, elements);
        g.outputs.push_back(made.weights);
        EXPECT_EQ(made.bias == kNoValue, sum == BiasSum::kNone);
        if (made.bias != kNoValue) biases.push_back(made.bias);
      }
    }
    const size_t weights = g.outputs.size();
    g.outputs.insert(g.outputs.end(), biases.begin(), biases.end());
    prune_and_sort(g);
    std::mt19937 rng(3);
    const auto results = run(g, {random_tensor(rng, x, -1, 1), random_tensor(rng, y, -1, 1)});
    for (size_t r = 0; r < results.size(); ++r) {
      const Tensor& expected = results[r < weights ? 0 : weights];
      ASSERT_EQ(results[r].count(), expected.count()) << r;
      for (int64_t i = 0; i < expected.count(); ++i) ASSERT_NEAR(results[r].at(i), expected.at(i), 1e-4) << k.channels << " channels, kernel " << k.kernel << ", stride " << k.stride << ", " << r;
    }
  }
}

}  // namespace
}  // namespace systole
