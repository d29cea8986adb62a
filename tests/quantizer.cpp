// What the quantiser makes of a graph: which tensors become codes and which maps stay floats, products of activations, channels without weights, models of
// several inputs and of old opsets; and that all of it runs in integers and stays close to the float model.
#include <set>

#include "quantised_case.h"
#include "quantize/upgrade.h"
#include "runtime/npy.h"
#include "runtime/npz.h"

namespace systole {
namespace {

struct Quantised {
  QuantizeReport report;
  Graph onnx;        ///< as written
  Graph primitives;  ///< as the NPU computes it
  int64_t count(const std::string& type) const {
    return std::count_if(onnx.nodes.begin(), onnx.nodes.end(), [&](const Node& n) { return op_name(n.op) == type; });
  }
  int64_t products_in(MacFormat format) const { return products_of(primitives, format); }
  /// Names of the values that become codes.
  std::set<std::string> codes() const {
    std::set<std::string> names;
    for (const Node& n : onnx.nodes) {
      if (op_name(n.op) == "QuantizeLinear") names.insert(onnx.value(n.inputs[0]).name);
    }
    return names;
  }
};

/// Calibrated with four samples of this shape.
Quantised quantise(const Draft& d, const std::string& name, const Shape& sample) {
  d.w.save(path(name + ".onnx"));
  std::mt19937_64 rng(3);
  Shape all = {4};
  all.insert(all.end(), sample.begin(), sample.end());
  write_npy(path(name + ".npy"), random_tensor(rng, all, 1));
  QuantizeOptions o;
  o.data.data = path(name + ".npy");
  Quantised q;
  q.report = quantize_model(path(name + ".onnx"), path(name + "-int8.onnx"), {}, o).value();
  q.onnx = import_onnx(path(name + "-int8.onnx"), {});
  q.primitives = run_front(q.onnx, "int8").graph;
  return q;
}

/// Attention, a residual sum and its normalisation, and a feed-forward layer with GELU in its parts.
TEST(Quantizer, MapsBetweenProductsOfATransformerStayFloats) {
  Draft d;
  d.w.input("x", DType::kF32, {8, 32});
  const auto projected = [&](const std::string& v, int64_t from, int64_t to) { return d.w.node("Add", {d.w.node("MatMul", {v, d.random({from, to})}), d.random({to})}); };
  const std::string q = projected("x", 32, 32), k = projected("x", 32, 32), v = projected("x", 32, 32);
  const std::string scores = d.w.node("Mul", {d.w.node("MatMul", {q, d.w.node("Transpose", {k}, {{"perm", std::vector<int64_t>{1, 0}}})}), d.number(0.2f)});
  const std::string mixed = projected(d.w.node("MatMul", {d.w.node("Softmax", {d.w.node("Add", {scores, d.random({8, 8})})}), v}), 32, 32);
  const std::string normal = d.w.node("LayerNormalization", {d.w.node("Add", {mixed, "x"}), d.random({32}, 1), d.random({32})});
  const std::string wide = projected(normal, 32, 64);
  const std::string gelu = d.w.node("Mul", {d.w.node("Mul", {wide, d.w.node("Add", {d.w.node("Erf", {d.w.node("Div", {wide, d.number(1.4142135f)})}), d.number(1)})}), d.number(0.5f)});
  d.w.node("Add", {projected(gelu, 64, 32), normal}, {}, "y");
  d.w.output("y", DType::kF32, {8, 32});
  const Quantised r = quantise(d, "transformer", {8, 32});
  EXPECT_EQ(r.report.layers, 8);
  EXPECT_EQ(r.count("Erf"), 1) << "the file's own operators";
  // Codes of what eight products read: x (once for three), q, the turned k, the softmax, v, the mixed values, the normal ones and the GELU.
  EXPECT_EQ(r.count("QuantizeLinear"), 8);
  EXPECT_EQ(r.products_in(MacFormat::kInt8), 8);
  EXPECT_EQ(r.products_in(MacFormat::kF32), 0);
  EXPECT_GT(r.report.sqnr_db, 28);
  for (const Node& n : r.onnx.nodes) {
    if (n.outputs[0] != r.onnx.outputs[0]) continue;  // the residual sum at the end
    const Uses uses(r.onnx);
    const auto reads = [&](const char* type) { return std::any_of(n.inputs.begin(), n.inputs.end(), [&](ValueId in) { const int p = uses.producer[static_cast<size_t>(in)]; return p >= 0 && op_name(r.onnx.nodes[static_cast<size_t>(p)].op) == type; }); };
    EXPECT_TRUE(reads("LayerNormalization")) << "in float, not in the 8 bits that the layer before it reads";
  }
}

/// Of two convolutions whose sum goes through a function the first waits as codes, the second is one map with it.
TEST(Quantizer, WhatWaitsForASumIsCodes) {
  Draft d;
  d.w.input("x", DType::kF32, {1, 4, 8, 8});
  const std::string first = d.w.node("Conv", {"x", d.random({8, 4, 1, 1}), d.random({8})}, {}, "first"), second = d.w.node("Conv", {"x", d.random({8, 4, 1, 1}), d.random({8})}, {}, "second");
  d.w.node("Sigmoid", {d.w.node("Add", {first, second})}, {}, "y");
  d.w.output("y", DType::kF32, {1, 8, 8, 8});
  const Quantised r = quantise(d, "waits", {1, 4, 8, 8});
  EXPECT_TRUE(r.codes().count("first"));
  EXPECT_FALSE(r.codes().count("second"));
}

/// x clip(x + 3, 0, 6) / 6 is a map of its convolution, squeeze and excite a product of codes by factors, a residual sum one of codes.
TEST(Quantizer, ActivationsInTheirPartsAreOneMap) {
  Draft d;
  d.w.input("x", DType::kF32, {1, 8, 8, 8});
  const auto conv = [&](const std::string& v, const char* name) { return d.w.node("Conv", {v, d.random({8, 8, 3, 3}, 0.2), d.random({8})}, {{"pads", std::vector<int64_t>{1, 1, 1, 1}}}, name); };
  const auto swish = [&](const std::string& v) { return d.w.node("Mul", {v, d.w.node("Mul", {d.w.node("Clip", {d.w.node("Add", {v, d.number(3)}), d.number(0), d.number(6)}), d.number(1.0f / 6)})}); };
  const std::string a = swish(conv("x", "a"));
  const std::string squeezed = d.w.node("Sigmoid", {d.w.node("Conv", {d.w.node("GlobalAveragePool", {a}), d.random({8, 8, 1, 1})})});
  const std::string excited = d.w.node("Mul", {a, squeezed});
  d.w.node("Relu", {d.w.node("Add", {conv(excited, "b"), excited})}, {}, "y");
  d.w.output("y", DType::kF32, {1, 8, 8, 8});
  const Quantised r = quantise(d, "swish", {1, 8, 8, 8});
  const std::set<std::string> codes = r.codes();
  EXPECT_TRUE(codes.count(squeezed)) << "factors per channel are codes, as the tensor is";
  EXPECT_TRUE(codes.count(a)) << "a waits for its squeeze";
  EXPECT_FALSE(codes.count("a")) << "the convolution and its activation are one map";
  EXPECT_TRUE(codes.count("b")) << "residual sums add codes, as other runtimes have them";
  EXPECT_TRUE(codes.count(excited));
  EXPECT_EQ(r.products_in(MacFormat::kF32), 0);
  EXPECT_GT(r.report.sqnr_db, 25);
}

/// Weights of a channel may all be next to nothing (of a dead filter) where its bias is not: its scale leaves the sums room for that.
TEST(Quantizer, ChannelsWithoutWeightsKeepTheirBias) {
  Draft d;
  std::mt19937_64 rng(1);
  Tensor weights = random_tensor(rng, {4, 3, 3, 3}, 0.3);
  for (int64_t i = 0; i < 27; ++i) weights.set(i, 1e-12), weights.set(27 + i, 0), weights.set(54 + i, 1e-40);
  d.w.input("x", DType::kF32, {1, 3, 6, 6});
  d.w.node("Conv", {"x", d.w.constant("w", weights), d.w.constant("b", Tensor::from_floats({0.7f, -0.5f, 1e-39f, 0.1f}, {4}))}, {}, "y");
  d.w.output("y", DType::kF32, {1, 4, 4, 4});
  const Quantised r = quantise(d, "dead", {1, 3, 6, 6});
  EXPECT_EQ(r.products_in(MacFormat::kInt8), 1);
  EXPECT_GT(r.report.sqnr_db, 30);
}

/// Tokens and a mask, from an archive with an array of each one's name; verified with the same data. --dim names an extent that the result no longer has.
TEST(Quantizer, ModelsOfSeveralInputs) {
  Draft d;
  d.w.input("ids", DType::kI64, {1, "length"}), d.w.input("mask", DType::kF32, {1, "length"});
  const std::string embedded = d.w.node("Mul", {d.w.node("Gather", {d.random({20, 16}, 1), "ids"}), d.w.node("Unsqueeze", {"mask", d.ints({2})})});
  const std::string hidden = d.w.node("Relu", {d.w.node("Add", {d.w.node("MatMul", {embedded, d.random({16, 24})}), d.random({24})})});
  d.w.node("Gemm", {d.w.node("ReduceMean", {hidden}, {{"axes", std::vector<int64_t>{1}}, {"keepdims", int64_t{0}}}), d.random({24, 5})}, {}, "y");
  d.w.output("y", DType::kF32, {1, 5});
  d.w.save(path("inputs.onnx"));
  std::mt19937_64 rng(8);
  Tensor ids(DType::kI64, {12, 6}), mask(DType::kF32, {12, 6});
  for (int64_t i = 0; i < ids.count(); ++i) ids.set_int(i, static_cast<int64_t>(rng() % 20)), mask.set(i, static_cast<double>(rng() % 3 > 0));
  write_npz(path("inputs.npz"), {{"mask", mask}, {"ids", ids}});
  QuantizeOptions o;
  o.data.data = path("inputs.npz");
  const CompileOptions six{.dims = {{"length", 6}}};
  const QuantizeReport r = quantize_model(path("inputs.onnx"), path("inputs-int8.onnx"), six, o).value();
  EXPECT_EQ(r.samples, 12);
  EXPECT_GT(r.sqnr_db, 25);
  VerifyOptions v;
  v.data.data = path("inputs.npz"), v.reference = path("inputs.onnx");
  const VerifyReport verified = verify_model(path("inputs-int8.onnx"), six, v).value();
  EXPECT_EQ(verified.samples, 12);
  EXPECT_GE(verified.agreement, 90);
  write_npy(path("one.npy"), ids);
  o.data.data = path("one.npy");
  const auto other = quantize_model(path("inputs.onnx"), path("inputs-int8.onnx"), six, o);
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().text().find("an array [N, ...] for each of them: ids, mask"), std::string::npos) << other.error().text();
}

/// Einsum becomes the product that it is, by the operators of its own opset.
TEST(Quantizer, EinsumIsAProduct) {
  Draft d;
  d.w.input("x", DType::kF32, {4, 8, 2, 16});
  const std::string keys = d.w.node("Mul", {"x", d.random({16})});
  d.w.node("Einsum", {"x", keys}, {{"equation", std::string("bqhd,bkhd->bhqk")}}, "y");
  d.w.node("Einsum", {"x", d.random({16, 24})}, {{"equation", std::string("...d,de->...e")}}, "z");
  d.w.output("y", DType::kF32, {4, 2, 8, 8});
  d.w.output("z", DType::kF32, {4, 8, 2, 24});
  const Quantised r = quantise(d, "einsum", {4, 8, 2, 16});
  EXPECT_EQ(r.count("Einsum"), 0);
  EXPECT_EQ(r.count("MatMul"), 2);
  EXPECT_EQ(r.report.layers, 2);
  EXPECT_EQ(r.products_in(MacFormat::kInt8), 2);
  EXPECT_GE(r.report.sqnr_db, 30);
  for (const Node& n : r.onnx.nodes) EXPECT_LE(std::get<OnnxOp>(n.op).opset, 17) << n.name;
}

TEST(Quantizer, NothingToQuantiseIsSaid) {
  Draft d;
  d.w.input("x", DType::kF32, {1, 4});
  d.w.node("Relu", {"x"}, {}, "y");
  d.w.output("y", DType::kF32, {1, 4});
  d.w.save(path("nothing.onnx"));
  write_npy(path("nothing.npy"), Tensor(DType::kF32, {2, 1, 4}));
  QuantizeOptions o;
  o.data.data = path("nothing.npy");
  const auto r = quantize_model(path("nothing.onnx"), path("nothing-int8.onnx"), {}, o);
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().text().find("no layer to quantise"), std::string::npos) << r.error().text();
}


/// Operators whose meaning changed between opsets compute the same in their new form.
TEST(Quantizer, OldOpsetsKeepTheirMeaning) {
  using Ints = std::vector<int64_t>;
  const struct {
    const char* name;
    int64_t opset;
    std::string (*write)(Draft&);
  } kCases[] = {
      {"upsample 9", 9, [](Draft& d) { return d.w.node("Upsample", {"x", d.w.constant("s", Tensor::from_floats({1, 1, 2, 3}, {4}))}); }},
      {"upsample 9, linear", 9, [](Draft& d) { return d.w.node("Upsample", {"x", d.w.constant("s", Tensor::from_floats({1, 1, 2, 2}, {4}))}, {{"mode", std::string("linear")}}); }},
      {"upsample 7", 7, [](Draft& d) { return d.w.node("Upsample", {"x"}, {{"scales", std::vector<float>{1, 1, 3, 2}}}); }},
      {"resize 10", 10, [](Draft& d) { return d.w.node("Resize", {"x", d.w.constant("s", Tensor::from_floats({1, 1, 1.5f, 2}, {4}))}); }},
      {"softmax of all channels", 11, [](Draft& d) { return d.w.node("Softmax", {"x"}); }},
      {"softmax of the last axis", 11, [](Draft& d) { return d.w.node("Softmax", {"x"}, {{"axis", int64_t{3}}}); }},
      {"softmax of channels alone", 11, [](Draft& d) { return d.w.node("Softmax", {d.w.node("GlobalAveragePool", {"x"})}); }},
      {"log softmax of two axes", 9, [](Draft& d) { return d.w.node("LogSoftmax", {"x"}, {{"axis", int64_t{-2}}}); }},
      {"clip 6, pad 2, slice 1", 9, [](Draft& d) {
         return d.w.node("Slice", {d.w.node("Pad", {d.w.node("Clip", {"x"}, {{"min", -0.5f}, {"max", 0.25f}})}, {{"pads", Ints{0, 0, 1, 1, 0, 0, 1, 1}}, {"value", 2.0f}})}, {{"starts", Ints{0, 1}}, {"ends", Ints{5, 9}}, {"axes", Ints{2, 3}}});
       }},
      {"top-k 1", 9, [](Draft& d) { return d.w.node_n("TopK", {"x"}, {"", "indices"}, {{"k", int64_t{2}}, {"axis", int64_t{1}}}); }},
      {"scatter 9", 9, [](Draft& d) { return d.w.node("Scatter", {"x", d.w.constant("i", Tensor::from_ints({2, 0, 1, 2}, {1, 4, 1, 1})), d.random({1, 4, 1, 1})}, {{"axis", int64_t{2}}}); }},
      {"squeeze and unsqueeze 1", 11, [](Draft& d) { return d.w.node("Unsqueeze", {d.w.node("Squeeze", {"x"}, {{"axes", Ints{0}}})}, {{"axes", Ints{0, 4}}}); }},
  };
  std::mt19937_64 rng(11);
  const Tensor x = random_tensor(rng, {1, 4, 5, 6}, 1);
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    Draft d(c.opset);
    d.w.input("x", DType::kF32, {1, 4, 5, 6});
    d.w.node("Identity", {c.write(d)}, {}, "y");
    d.w.output("y", DType::kF32, {});
    d.w.save(path("old.onnx"));
    Graph graph = import_onnx(path("old.onnx"), {});
    const auto before = outputs_of(graph, x);
    infer_shapes(graph);
    upgrade_opset(graph, 13);
    for (const Node& n : graph.nodes) EXPECT_GE(std::get<OnnxOp>(n.op).opset, 13) << n.name;
    const auto after = outputs_of(graph, x);
    ASSERT_EQ(after.size(), before.size());
    EXPECT_EQ(after[0].shape, before[0].shape);
    EXPECT_EQ(after[0].bytes, before[0].bytes);
  }
}

}  // namespace
}  // namespace systole
