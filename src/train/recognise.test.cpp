// ReLUs behind pools.
#include "train/recognise.h"

#include <gtest/gtest.h>

#include "train/builder.h"

namespace systole {
namespace {

/// Relu, then MaxPool of 2 x 2: the operators in their order afterwards.
std::vector<std::string> order_of(bool read_by_others) {
  Graph g;
  const ValueId x = g.add_value("x", DType::kF32, {1, 2, 4, 4});
  g.inputs = {x};
  Builder b(g, "t");
  const ValueId cut = b.unary("Relu", x), pooled = b.node("MaxPool", {cut}, {1, 2, 2, 2}, {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}});
  g.outputs = {pooled};
  if (read_by_others) g.outputs.push_back(b.unary("Neg", cut));
  pool_before_relu(g);
  std::vector<std::string> order;
  for (const Node& n : g.nodes) order.push_back(std::get<OnnxOp>(n.op).full_name());
  EXPECT_EQ(g.outputs[0], pooled);
  EXPECT_EQ(g.value(g.nodes[0].inputs[0]).shape, (Shape{1, 2, 4, 4}));
  EXPECT_EQ(g.value(g.nodes[0].outputs[0]).shape, read_by_others ? (Shape{1, 2, 4, 4}) : (Shape{1, 2, 2, 2}));
  return order;
}
TEST(PoolBeforeRelu, WhereNobodyElseReadsIt) {
  EXPECT_EQ(order_of(false), (std::vector<std::string>{"MaxPool", "Relu"}));
  EXPECT_EQ(order_of(true), (std::vector<std::string>{"Relu", "MaxPool", "Neg"}));
}

}  // namespace
}  // namespace systole
