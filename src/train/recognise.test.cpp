// Activations from their parts, and ReLUs behind pools.
#include "train/recognise.h"

#include <gtest/gtest.h>

#include <functional>

#include "graph/checks.h"
#include "train/builder.h"

namespace systole {
namespace {

/// Gelus found in what `make` builds from x [2, 3].
int gelus_in(const std::function<ValueId(Builder&, ValueId)>& make, const char* approximate = "none") {
  Graph g;
  const ValueId x = g.add_value("x", DType::kF32, {2, 3});
  g.inputs = {x};
  Builder b(g, "t");
  g.outputs.push_back(make(b, x));
  recognise_gelu(g);
  int found = 0;
  for (const Node& n : g.nodes) {
    const auto& op = std::get<OnnxOp>(n.op);
    if (op.full_name() != "Gelu") continue;
    EXPECT_EQ(op.text("approximate", "none"), std::string(approximate));
    EXPECT_EQ(n.inputs, (std::vector<ValueId>{x}));
    ++found;
  }
  EXPECT_TRUE(found == 0 || g.nodes.size() == 1) << "the parts are gone";
  return found;
}

ValueId bent(Builder& b, ValueId scaled, double one = 1) { return b.add(b.unary("Erf", scaled), b.scalar(one)); }

TEST(RecogniseGelu, AsExportersWriteIt) {
  const double r = 0.70710678;
  EXPECT_EQ(gelus_in([&](Builder& b, ValueId x) { return b.mul(b.mul(x, b.scalar(0.5)), bent(b, b.mul(x, b.scalar(r)))); }), 1);
  EXPECT_EQ(gelus_in([&](Builder& b, ValueId x) { return b.mul(b.mul(x, bent(b, b.div(x, b.scalar(1.41421356)))), b.scalar(0.5)); }), 1);
  EXPECT_EQ(gelus_in([&](Builder& b, ValueId x) { return b.div(b.mul(bent(b, b.mul(b.scalar(r), x)), x), b.scalar(2)); }), 1);
  const auto tanh = [](Builder& b, ValueId x, ValueId cube) {
    const ValueId t = b.unary("Tanh", b.mul(b.add(x, b.mul(cube, b.scalar(0.044715))), b.scalar(0.79788456)));
    return b.mul(b.mul(x, b.scalar(0.5)), b.add(t, b.scalar(1)));
  };
  EXPECT_EQ(gelus_in([&](Builder& b, ValueId x) { return tanh(b, x, b.mul(b.mul(x, x), x)); }, "tanh"), 1);
  EXPECT_EQ(gelus_in([&](Builder& b, ValueId x) { return tanh(b, x, b.binary("Pow", x, b.scalar(3))); }, "tanh"), 1);
}

TEST(RecogniseGelu, NothingElse) {
  const double r = 0.70710678;
  EXPECT_EQ(gelus_in([&](Builder& b, ValueId x) { return b.mul(x, bent(b, b.mul(x, b.scalar(r)))); }), 0) << "twice as much";
  EXPECT_EQ(gelus_in([&](Builder& b, ValueId x) { return b.mul(b.mul(x, b.scalar(0.5)), bent(b, x)); }), 0) << "another scale";
  EXPECT_EQ(gelus_in([&](Builder& b, ValueId x) { return b.mul(b.mul(x, b.scalar(0.5)), bent(b, b.mul(x, b.scalar(r)), 2)); }), 0) << "another offset";
  EXPECT_EQ(gelus_in([&](Builder& b, ValueId x) { return b.mul(b.mul(b.mul(x, x), b.scalar(0.5)), bent(b, b.mul(x, b.scalar(r)))); }), 0) << "a third factor";
  EXPECT_EQ(gelus_in([&](Builder& b, ValueId x) { return b.mul(b.mul(x, b.scalar(0.5)), bent(b, b.mul(b.unary("Abs", x), b.scalar(r)))); }), 0) << "of another value";
  EXPECT_EQ(gelus_in([&](Builder& b, ValueId x) { return b.mul(b.div(b.scalar(0.5), x), bent(b, b.mul(x, b.scalar(r)))); }), 0) << "divided by it";
  EXPECT_EQ(gelus_in([&](Builder& b, ValueId x) {
              const ValueId e = bent(b, b.mul(x, b.scalar(r)));
              return b.add(e, b.mul(b.mul(x, b.scalar(0.5)), e));
            }), 0) << "a part is needed elsewhere";
}

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
