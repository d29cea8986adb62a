// Operators from the parts that exporters write for them.
#include <gtest/gtest.h>

#include <functional>

#include "passes/passes.h"

namespace systole {
namespace {

/// Nodes of ONNX operators on x [2, 3].
struct Parts {
  Graph g;
  ValueId x = input({2, 3});

  ValueId input(Shape s) {
    g.inputs.push_back(g.add_value("in" + std::to_string(g.inputs.size()), DType::kF32, std::move(s)));
    return g.inputs.back();
  }
  ValueId constant(Tensor t) { return g.add_constant("c" + std::to_string(g.values.size()), std::make_shared<const Tensor>(std::move(t))); }
  ValueId number(double v) { return constant(Tensor::scalar_f32(static_cast<float>(v))); }
  ValueId row(double first, int64_t n = 3) {
    Tensor t(DType::kF32, {n});
    for (int64_t i = 0; i < n; ++i) t.set(i, first + 0.5 * static_cast<double>(i));
    return constant(t);
  }
  ValueId node(const char* type, std::vector<ValueId> in, std::map<std::string, Attribute> attributes = {}) {
    g.values.push_back({std::string(type) + std::to_string(g.values.size()), DType::kF32, {}, false, nullptr});
    const auto v = static_cast<ValueId>(g.values.size() - 1);
    g.nodes.push_back({g.values.back().name, OnnxOp{"", type, 13, std::move(attributes)}, std::move(in), {v}});
    return v;
  }
  ValueId add(ValueId a, ValueId b) { return node("Add", {a, b}); }
  ValueId sub(ValueId a, ValueId b) { return node("Sub", {a, b}); }
  ValueId mul(ValueId a, ValueId b) { return node("Mul", {a, b}); }
  ValueId div(ValueId a, ValueId b) { return node("Div", {a, b}); }
  ValueId unary(const char* type, ValueId a) { return node(type, {a}); }
  ValueId power(ValueId a, double e) { return node("Pow", {a, number(e)}); }
};

/// Gelus found in what `make` builds from x [2, 3].
int gelus_in(const std::function<ValueId(Parts&, ValueId)>& make, const char* approximate = "none") {
  Parts b;
  Graph& g = b.g;
  g.outputs.push_back(make(b, b.x));
  recognise_gelu(g);
  int found = 0;
  for (const Node& n : g.nodes) {
    const auto& op = std::get<OnnxOp>(n.op);
    if (op.full_name() != "Gelu") continue;
    EXPECT_EQ(op.text("approximate", "none"), std::string(approximate));
    EXPECT_EQ(n.inputs, (std::vector<ValueId>{b.x}));
    ++found;
  }
  EXPECT_TRUE(found == 0 || g.nodes.size() == 1) << "the parts are gone";
  return found;
}

ValueId bent(Parts& b, ValueId scaled, double one = 1) { return b.add(b.unary("Erf", scaled), b.number(one)); }

TEST(RecogniseGelu, AsExportersWriteIt) {
  const double r = 0.70710678;
  EXPECT_EQ(gelus_in([&](Parts& b, ValueId x) { return b.mul(b.mul(x, b.number(0.5)), bent(b, b.mul(x, b.number(r)))); }), 1);
  EXPECT_EQ(gelus_in([&](Parts& b, ValueId x) { return b.mul(b.mul(x, bent(b, b.div(x, b.number(1.41421356)))), b.number(0.5)); }), 1);
  EXPECT_EQ(gelus_in([&](Parts& b, ValueId x) { return b.div(b.mul(bent(b, b.mul(b.number(r), x)), x), b.number(2)); }), 1);
  const auto tanh = [](Parts& b, ValueId x, ValueId cube) {
    const ValueId t = b.unary("Tanh", b.mul(b.add(x, b.mul(cube, b.number(0.044715))), b.number(0.79788456)));
    return b.mul(b.mul(x, b.number(0.5)), b.add(t, b.number(1)));
  };
  EXPECT_EQ(gelus_in([&](Parts& b, ValueId x) { return tanh(b, x, b.mul(b.mul(x, x), x)); }, "tanh"), 1);
  EXPECT_EQ(gelus_in([&](Parts& b, ValueId x) { return tanh(b, x, b.power(x, 3)); }, "tanh"), 1);
}

TEST(RecogniseGelu, NothingElse) {
  const double r = 0.70710678;
  EXPECT_EQ(gelus_in([&](Parts& b, ValueId x) { return b.mul(x, bent(b, b.mul(x, b.number(r)))); }), 0) << "twice as much";
  EXPECT_EQ(gelus_in([&](Parts& b, ValueId x) { return b.mul(b.mul(x, b.number(0.5)), bent(b, x)); }), 0) << "another scale";
  EXPECT_EQ(gelus_in([&](Parts& b, ValueId x) { return b.mul(b.mul(x, b.number(0.5)), bent(b, b.mul(x, b.number(r)), 2)); }), 0) << "another offset";
  EXPECT_EQ(gelus_in([&](Parts& b, ValueId x) { return b.mul(b.mul(b.mul(x, x), b.number(0.5)), bent(b, b.mul(x, b.number(r)))); }), 0) << "a third factor";
  EXPECT_EQ(gelus_in([&](Parts& b, ValueId x) { return b.mul(b.mul(x, b.number(0.5)), bent(b, b.mul(b.unary("Abs", x), b.number(r)))); }), 0) << "of another value";
  EXPECT_EQ(gelus_in([&](Parts& b, ValueId x) { return b.mul(b.div(b.number(0.5), x), bent(b, b.mul(x, b.number(r)))); }), 0) << "divided by it";
  EXPECT_EQ(gelus_in([&](Parts& b, ValueId x) {
              const ValueId e = bent(b, b.mul(x, b.number(r)));
              return b.add(e, b.mul(b.mul(x, b.number(0.5)), e));
            }), 0) << "a part is needed elsewhere";
}

using Make = std::function<ValueId(Parts&, ValueId)>;

const std::map<std::string, Attribute> kLast = {{"axes", std::vector<int64_t>{-1}}};
ValueId mean(Parts& b, ValueId v) { return b.node("ReduceMean", {v}, kLast); }
ValueId root(Parts& b, ValueId squares, double epsilon = 1e-5) { return b.unary("Sqrt", b.add(mean(b, squares), b.number(epsilon))); }

/// The one node that is left of what `make` builds, or nothing.
std::optional<Node> whole(const Make& make) {
  Parts b;
  b.g.outputs.push_back(make(b, b.x));
  recognise_normalization(b.g);
  verify(b.g, "recognise_normalization");
  const Node& last = b.g.nodes.back();
  if (!std::get<OnnxOp>(last.op).type.ends_with("Normalization")) return {};
  EXPECT_EQ(b.g.nodes.size(), 1u) << "the parts are gone";
  EXPECT_EQ(last.inputs[0], b.x);
  EXPECT_EQ(last.outputs[0], b.g.outputs[0]);
  return last;
}
size_t inputs_of_layer(const Make& make) {
  const auto node = whole(make);
  if (!node || std::get<OnnxOp>(node->op).full_name() != "LayerNormalization") return 0;
  EXPECT_EQ(std::get<OnnxOp>(node->op).real("epsilon", 0), 1e-5f);
  EXPECT_EQ(std::get<OnnxOp>(node->op).integer("axis", 0), -1);
  return node->inputs.size();
}

TEST(RecogniseNormalization, AsExportersWriteIt) {
  EXPECT_EQ(inputs_of_layer([](Parts& b, ValueId x) {
              const ValueId d = b.sub(x, mean(b, x));
              return b.add(b.mul(b.div(d, root(b, b.power(d, 2))), b.row(1)), b.row(2));
            }), 3u) << "PyTorch";
  EXPECT_EQ(inputs_of_layer([](Parts& b, ValueId x) {
              const ValueId m = mean(b, x);
              return b.add(b.row(2), b.mul(b.row(1), b.div(b.sub(x, m), root(b, b.power(b.sub(x, m), 2)))));
            }), 3u) << "centred twice";
  EXPECT_EQ(inputs_of_layer([](Parts& b, ValueId x) {
              const ValueId d = b.sub(x, mean(b, x));
              return b.mul(b.mul(b.unary("Reciprocal", root(b, b.mul(d, d))), d), b.row(1));
            }), 2u) << "no bias, a reciprocal";
  EXPECT_EQ(inputs_of_layer([](Parts& b, ValueId x) {
              const ValueId d = b.sub(x, b.node("ReduceMean", {x, b.constant(Tensor::from_ints({1}, {1}))}));
              return b.mul(b.div(d, root(b, b.power(d, 2))), b.row(1));
            }), 2u) << "the axis as an input, and from the front where the rank is known";
  const auto rms = whole([](Parts& b, ValueId x) { return b.mul(b.row(1), b.mul(x, b.div(b.number(1), root(b, b.power(x, 2), 1e-6)))); });
  ASSERT_TRUE(rms);
  EXPECT_EQ(std::get<OnnxOp>(rms->op).full_name(), "RMSNormalization");
  EXPECT_EQ(std::get<OnnxOp>(rms->op).real("epsilon", 0), 1e-6f);
}

TEST(RecogniseNormalization, NothingElse) {
  const auto layer = [](const std::function<ValueId(Parts&, ValueId, ValueId)>& rest) {
    return whole([&](Parts& b, ValueId x) { return rest(b, x, b.sub(x, mean(b, x))); }).has_value();
  };
  EXPECT_TRUE(layer([](Parts& b, ValueId, ValueId d) { return b.mul(b.div(d, root(b, b.mul(d, d))), b.row(1)); }));
  EXPECT_FALSE(layer([](Parts& b, ValueId, ValueId d) { return b.mul(b.div(d, root(b, b.mul(d, d))), b.number(2)); })) << "a scale for all channels";
  EXPECT_FALSE(layer([](Parts& b, ValueId, ValueId d) { return b.mul(b.div(d, root(b, b.power(d, 3))), b.row(1)); })) << "another power";
  EXPECT_FALSE(layer([](Parts& b, ValueId x, ValueId d) { return b.mul(b.div(x, root(b, b.mul(d, d))), b.row(1)); })) << "not what was squared";
  EXPECT_FALSE(layer([](Parts& b, ValueId x, ValueId d) { return b.mul(b.div(d, root(b, b.mul(d, x))), b.row(1)); })) << "no square";
  EXPECT_FALSE(layer([](Parts& b, ValueId, ValueId d) { return b.mul(b.div(root(b, b.mul(d, d)), d), b.row(1)); })) << "upside down";
  EXPECT_FALSE(layer([](Parts& b, ValueId, ValueId d) { return b.mul(b.div(d, root(b, b.mul(d, d), -1)), b.row(1)); })) << "a negative epsilon";
  EXPECT_FALSE(layer([](Parts& b, ValueId, ValueId d) {
    const ValueId r = root(b, b.mul(d, d));
    return b.add(b.mul(b.div(d, r), b.row(1)), r);
  })) << "a part is needed elsewhere";
  EXPECT_FALSE(whole([](Parts& b, ValueId x) {
    const auto first = [&](ValueId v) { return b.node("ReduceMean", {v}, {{"axes", std::vector<int64_t>{0}}}); };
    const ValueId d = b.sub(x, first(x));
    return b.mul(b.div(d, b.unary("Sqrt", b.add(first(b.mul(d, d)), b.number(1e-5)))), b.row(1));
  })) << "another axis";
  EXPECT_FALSE(whole([](Parts& b, ValueId x) {
    const ValueId d = b.sub(x, mean(b, x)), v = b.node("ReduceMean", {b.mul(d, d)}, {{"axes", std::vector<int64_t>{-1}}, {"keepdims", int64_t{0}}});
    return b.mul(b.div(d, b.unary("Sqrt", b.add(v, b.number(1e-5)))), b.row(1));
  })) << "a mean whose axis is gone";
}

/// PyTorch writes weights that are alike once, and names for them; an output is no name.
TEST(InlineConstants, IdentityIsAName) {
  Parts b;
  const ValueId row = b.row(1), same = b.unary("Identity", row), given = b.unary("Identity", row);
  b.g.outputs = {b.add(b.x, same), given};
  inline_constants(b.g);
  EXPECT_EQ(b.g.value(same).constant, b.g.value(row).constant);
  EXPECT_EQ(b.g.value(given).constant, nullptr);
  EXPECT_EQ(b.g.nodes.size(), 2u);
}

}  // namespace
}  // namespace systole
