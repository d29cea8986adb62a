// Gradients of max pools where finite differences say nothing: equal maxima, and batches that go in groups of images.
#include "train/gradients.h"

#include <gtest/gtest.h>

#include <random>

#include "passes/passes.h"
#include "train/finite_differences.h"

namespace systole {
namespace {

TEST(PoolingGradients, EqualMaximaShare) {
  Graph g;
  Builder b(g, "g.");
  const ValueId x = b.input("x", DType::kF32, {1, 1, 3, 3});
  const ValueId y = b.node("MaxPool", {x}, {1, 1, 2, 2}, {{"kernel_shape", std::vector<int64_t>{2, 2}}});
  const ValueId dy = b.input("dy", DType::kF32, {1, 1, 2, 2});
  g.outputs = backward(g, {{y, dy}}, {x});
  prune_and_sort(g);
  // Windows with the maxima 2, 2 (the same element), 1 (two of them), 3.
  const auto dx = run(g, {Tensor::from_floats({1, 2, 0, 1, 1, 0, 0, 0, 3}, {1, 1, 3, 3}), Tensor::from_floats({8, 4, 6, 5}, {1, 1, 2, 2})})[0];
  const float expected[] = {0, 12, 0, 3, 3, 0, 0, 0, 5};
  for (int64_t i = 0; i < 9; ++i) EXPECT_EQ(dx.at(i), expected[i]) << i;
}

/// A batch that goes in groups of images has the gradient that each image alone has, to the bit.
TEST(PoolingGradients, MaxPoolOfALargeBatchIsThatOfItsImages) {
  const Shape image = {1, 24, 90, 83}, pooled = {1, 24, 45, 42};  // 179,280 elements: groups of two
  const Builder::Attributes pool = {{"kernel_shape", std::vector<int64_t>{3, 3}}, {"strides", std::vector<int64_t>{2, 2}}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}};
  const auto gradient = [&](int64_t images, const Tensor& x, const Tensor& dy) {
    Graph g;
    Builder b(g, "g.");
    const auto batch = [&](Shape s) { return s[0] = images, s; };
    const ValueId in = b.input("x", DType::kF32, batch(image)), out = b.node("MaxPool", {in}, batch(pooled), pool), d = b.input("dy", DType::kF32, batch(pooled));
    g.outputs = backward(g, {{out, d}}, {in});
    prune_and_sort(g);
    return run(g, {x, dy})[0];
  };
  constexpr int64_t kImages = 5;
  std::mt19937 rng(4);
  const Tensor x = random_tensor(rng, {kImages, 24, 90, 83}, -1, 1), dy = random_tensor(rng, {kImages, 24, 45, 42}, -1, 1);
  const Tensor whole = gradient(kImages, x, dy);
  const auto one = [](const Tensor& t, Shape shape, int64_t n) {
    Tensor part(t.type, shape);
    for (int64_t i = 0; i < part.count(); ++i) part.set(i, t.at(n * part.count() + i));
    return part;
  };
  for (int64_t n = 0; n < kImages; ++n) EXPECT_EQ(gradient(1, one(x, image, n), one(dy, pooled, n)).bytes, one(whole, image, n).bytes) << n;
}

}  // namespace
}  // namespace systole
