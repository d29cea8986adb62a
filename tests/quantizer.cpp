// What the quantiser makes of a graph: which tensors become codes and which maps stay floats, products of activations, channels without weights, models of
// old opsets; and that all of it runs in integers and stays close to the float model.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "import/onnx.h"
#include "import/writer.h"
#include "passes/pipeline.h"
#include "quantize/upgrade.h"
#include "runtime/npy.h"
#include "runtime/npz.h"
#include "runtime/observe.h"
#include "systole/systole.h"

namespace systole {
namespace {

std::string path(const std::string& name) { return std::string(SYSTOLE_BUILD) + "/quantizer-" + name; }

Tensor random_tensor(std::mt19937_64& rng, const Shape& shape, double scale) {
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

int64_t products_of(const Graph& primitives, MacFormat format) {
  return std::count_if(primitives.nodes.begin(), primitives.nodes.end(), [&](const Node& n) { return std::holds_alternative<Contract>(n.op) && std::get<Contract>(n.op).format == format; });
}

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


std::vector<Tensor> outputs_of(const Graph& graph, const Tensor& x) {
  FrontResult front = run_onnx_passes(graph, "fp32");
  return Observer(front.graph, {}, context_of("edge", front)).run({HostValue(x)});
}

/// A QDQ model whose weights are codes, or the floats that these stand for: then products are floats.
struct QdqDraft : Draft {
  explicit QdqDraft(bool weights_as_codes) : codes(weights_as_codes) {}
  std::string zero(int64_t v, DType type = DType::kU8) {
    Tensor t(type, {});
    t.set_int(0, v);
    return w.constant("z" + std::to_string(count++), t);
  }
  /// In 8 bits and back.
  std::string rounded(const std::string& v, float scale, int64_t zero_point) {
    const std::string s = number(scale), z = zero(zero_point);
    return w.node("DequantizeLinear", {w.node("QuantizeLinear", {v, s, z}), s, z});
  }
  /// int8 with a scale per output, which are the rows or the columns.
  std::string weights(const Shape& shape, bool rows) {
    const int64_t outputs = rows ? shape[0] : shape.back(), inner = rows ? element_count(shape) / outputs : 1;
    Tensor q(DType::kI8, shape), scale(DType::kF32, {outputs}), floats(DType::kF32, shape);
    for (int64_t i = 0; i < outputs; ++i) scale.set(i, static_cast<double>(0.01f * static_cast<float>(1 + i)));
    for (int64_t i = 0; i < q.count(); ++i) {
      q.set_int(i, static_cast<int64_t>(rng() % 255) - 127);
      floats.set(i, static_cast<double>(static_cast<float>(q.int_at(i)) * static_cast<float>(scale.at(i / inner % outputs))));
    }
    const std::string name = "w" + std::to_string(count++);
    if (!codes) return w.constant(name, floats);
    return w.node("DequantizeLinear", {w.constant(name, q), w.constant(name + ".s", scale), w.constant(name + ".z", Tensor(DType::kI8, {outputs}))}, {{"axis", rows ? int64_t{0} : static_cast<int64_t>(shape.size()) - 1}});
  }
  bool codes;
};

/// Products of codes are integers whether or not their sums become codes again, and give what the floats would but for their rounding.
TEST(Quantizer, ProductsOfCodesAreIntegers) {
  const struct {
    const char* name;
    Shape x;
    int64_t products;
    std::string (*write)(QdqDraft&, const std::string& x);
  } kCases[] = {
      {"matmul, bias and function", {6, 16}, 1, [](QdqDraft& d, const std::string& x) { return d.w.node("Tanh", {d.w.node("Add", {d.w.node("MatMul", {x, d.weights({16, 8}, false)}), d.random({8})})}); }},
      {"gemm with a bias", {6, 16}, 1, [](QdqDraft& d, const std::string& x) { return d.w.node("Gemm", {x, d.weights({8, 16}, true), d.random({8})}, {{"transB", int64_t{1}}}); }},
      {"gemm without", {6, 16}, 1, [](QdqDraft& d, const std::string& x) { return d.w.node("Gemm", {x, d.weights({16, 8}, false)}); }},
      {"convolution", {1, 4, 6, 6}, 1, [](QdqDraft& d, const std::string& x) { return d.w.node("Sigmoid", {d.w.node("Conv", {x, d.weights({8, 4, 3, 3}, true), d.random({8})}, {{"pads", std::vector<int64_t>{1, 1, 1, 1}}})}); }},
      {"depthwise, without a bias", {1, 4, 6, 6}, 1, [](QdqDraft& d, const std::string& x) { return d.w.node("Conv", {x, d.weights({4, 1, 3, 3}, true)}, {{"group", int64_t{4}}}); }},
      {"one dimension", {1, 4, 9}, 1, [](QdqDraft& d, const std::string& x) { return d.w.node("Conv", {x, d.weights({8, 4, 3}, true), d.random({8})}); }},
      {"three dimensions", {1, 2, 4, 4, 4}, 0, [](QdqDraft& d, const std::string& x) { return d.w.node("Conv", {x, d.weights({3, 2, 2, 2, 2}, true)}); }},
      {"two groups", {1, 4, 6, 6}, 1, [](QdqDraft& d, const std::string& x) { return d.w.node("Conv", {x, d.weights({6, 2, 3, 3}, true)}, {{"group", int64_t{2}}}); }},
      {"a bias beyond the accumulator", {6, 16}, 0, [](QdqDraft& d, const std::string& x) { return d.w.node("Gemm", {x, d.weights({16, 8}, false), d.random({8}, 3e7)}); }},
      {"a bias that nearly fills it", {6, 16}, 1, [](QdqDraft& d, const std::string& x) { return d.w.node("Gemm", {x, d.weights({16, 8}, false), d.w.constant("large", Tensor::from_floats({2e5f, -2e5f, 2e5f, 2e5f, 2e5f, 2e5f, 2e5f, 2e5f}, {8}))}); }},
      {"a row of biases that is one number", {6, 16}, 0, [](QdqDraft& d, const std::string& x) { return d.w.node("Gemm", {x, d.weights({16, 8}, false), d.random({1})}); }},
  };
  std::mt19937_64 rng(5);
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    std::vector<Tensor> results;
    for (const bool codes : {true, false}) {
      QdqDraft d(codes);
      d.w.input("x", DType::kF32, std::vector<ModelWriter::Dim>(c.x.begin(), c.x.end()));
      d.w.node("Identity", {c.write(d, d.rounded("x", 0.01f, 128))}, {}, "y");
      d.w.output("y", DType::kF32, {});
      d.w.save(path("codes.onnx"));
      std::mt19937_64 same(9);
      results.push_back(outputs_of(import_onnx(path("codes.onnx"), {}), random_tensor(same, c.x, 1))[0]);
      if (codes) EXPECT_EQ(products_of(run_front(import_onnx(path("codes.onnx"), {}), "int8").graph, MacFormat::kInt8), c.products);
    }
    const Difference e = difference_of(results[0], results[1]);
    EXPECT_GT(e.sqnr_db, 45) << "biases in units of the sums";
  }
}

/// Attention: both operands come at run time, with zero points of their own; to codes or to floats.
TEST(Quantizer, ProductsOfActivationsAreIntegers) {
  for (const bool to_codes : {false, true}) {
    QdqDraft d(true);
    d.w.input("a", DType::kF32, {2, 5, 16}), d.w.input("b", DType::kF32, {2, 16, 7});
    const std::string y = d.w.node("MatMul", {d.rounded("a", 0.01f, 100), d.rounded("b", 0.008f, 131)});
    d.w.node("Identity", {to_codes ? d.rounded(y, 0.05f, 120) : y}, {}, "y");
    d.w.output("y", DType::kF32, {2, 5, 7});
    d.w.save(path("attention.onnx"));
    const Graph graph = import_onnx(path("attention.onnx"), {});
    EXPECT_EQ(products_of(run_front(graph, "int8").graph, MacFormat::kInt8), 1);
    std::mt19937_64 rng(2);
    const Tensor a = random_tensor(rng, {2, 5, 16}, 1), b = random_tensor(rng, {2, 16, 7}, 1);
    FrontResult front = run_onnx_passes(graph, "int8");
    const Tensor got = Observer(front.graph, {}, context_of("nano", front)).run({HostValue(a), HostValue(b)})[0];
    const auto code = [](double v, float scale, int64_t zero) { return std::clamp<int64_t>(static_cast<int64_t>(std::nearbyint(static_cast<float>(v) / scale)) + zero, 0, 255); };
    for (int64_t i = 0; i < got.count(); ++i) {
      int64_t sum = 0;
      for (int64_t k = 0; k < 16; ++k) sum += (code(a.at(i / 7 * 16 + k), 0.01f, 100) - 100) * (code(b.at(i / 35 * 112 + k * 7 + i % 7), 0.008f, 131) - 131);
      const float scale = 0.01f * 0.008f;
      const double want = to_codes ? static_cast<double>(static_cast<float>(code(static_cast<double>(static_cast<float>(sum) * scale), 0.05f, 120) - 120) * 0.05f) : static_cast<double>(static_cast<float>(sum) * scale);
      ASSERT_EQ(got.at(i), want) << i;
    }
  }
}

/// Nor have its products a zero point for each column.
TEST(Quantizer, ColumnsWithZeroPointsOfTheirOwnStayFloats) {
  for (const bool same : {true, false}) {
    QdqDraft d(true);
    Tensor q(DType::kU8, {16, 4}), scale(DType::kF32, {4}), zero(DType::kU8, {4});
    for (int64_t i = 0; i < q.count(); ++i) q.set_int(i, i * 37 % 251);
    for (int64_t c = 0; c < 4; ++c) scale.set(c, 0.01 * static_cast<double>(1 + c)), zero.set_int(c, same ? 120 : 118 + c);
    d.w.input("x", DType::kF32, {3, 16});
    const std::string w = d.w.node("DequantizeLinear", {d.w.constant("q", q), d.w.constant("s", scale), d.w.constant("z", zero)}, {{"axis", int64_t{1}}});
    d.w.node("MatMul", {d.rounded("x", 0.01f, 128), w}, {}, "y");
    d.w.output("y", DType::kF32, {3, 4});
    d.w.save(path("zeros.onnx"));
    EXPECT_EQ(products_of(run_front(import_onnx(path("zeros.onnx"), {}), "int8").graph, MacFormat::kInt8), same ? 1 : 0);
    EXPECT_TRUE(compile(path("zeros.onnx"), {}));
  }
}

/// What is no integer in a quantised model: in fp32, as other runtimes compute it, or in bf16, where codes are made by a product in place of a division.
TEST(Quantizer, TheRestMayBeBf16) {
  QdqDraft d(true);
  d.w.input("x", DType::kF32, {6, 16});
  const std::string product = d.w.node("Tanh", {d.w.node("MatMul", {d.rounded("x", 0.01f, 128), d.weights({16, 8}, false)})});
  d.w.node("Identity", {d.rounded(d.w.node("MatMul", {product, d.random({8, 8})}), 0.013f, 128)}, {}, "y");
  d.w.output("y", DType::kF32, {6, 8});
  d.w.save(path("rest.onnx"));
  const Graph graph = import_onnx(path("rest.onnx"), {});
  const auto divisions = [](const Graph& g) {
    int64_t n = 0;
    for (const Node& node : g.nodes) {
      if (const auto* map = std::get_if<Map>(&node.op)) n += std::count_if(map->pre.begin(), map->pre.end(), [](const auto& m) { return m.op == isa::Micro::kDivide; });
    }
    return n;
  };
  const FrontResult exact = run_front(graph, "int8"), short_rest = run_front(graph, "int8-bf16");
  EXPECT_EQ(exact.precision, "int8");
  EXPECT_EQ(products_of(exact.graph, MacFormat::kF32), 1);
  EXPECT_EQ(divisions(exact.graph), 2);
  EXPECT_EQ(short_rest.precision, "int8-bf16");
  EXPECT_EQ(run_front(graph, "bf16").precision, "int8-bf16") << "a quantised model in bf16 is that";
  EXPECT_EQ(products_of(short_rest.graph, MacFormat::kInt8), 1);
  EXPECT_EQ(products_of(short_rest.graph, MacFormat::kBF16), 1);
  EXPECT_EQ(divisions(short_rest.graph), 0);
  Draft plain;
  plain.w.input("x", DType::kF32, {2, 4});
  plain.w.node("MatMul", {"x", plain.random({4, 4})}, {}, "y");
  plain.w.output("y", DType::kF32, {2, 4});
  plain.w.save(path("float.onnx"));
  EXPECT_FALSE(compile(path("float.onnx"), {.precision = "int8-bf16"}));
}

/// So many products that their sum could overflow: floats, whatever the codes of the result.
TEST(Quantizer, LongProductsOfActivationsAreFloats) {
  constexpr int64_t kLong = 33100;
  for (const bool to_codes : {false, true}) {
    QdqDraft d(true);
    d.w.input("a", DType::kF32, {1, kLong}), d.w.input("b", DType::kF32, {kLong, 2});
    const std::string y = d.w.node("MatMul", {d.rounded("a", 1.0f, 0), d.rounded("b", 1.0f, 0)});
    d.w.node("Identity", {to_codes ? d.rounded(y, 1e7f, 0) : y}, {}, "y");
    d.w.output("y", DType::kF32, {1, 2});
    d.w.save(path("long.onnx"));
    Tensor a(DType::kF32, {1, kLong}), b(DType::kF32, {kLong, 2});
    for (int64_t i = 0; i < a.count(); ++i) a.set(i, 255);
    for (int64_t i = 0; i < b.count(); ++i) b.set(i, 255);  // 2,152,327,500 in all
    FrontResult front = run_onnx_passes(import_onnx(path("long.onnx"), {}), "int8");
    const Tensor got = Observer(front.graph, {}, context_of("edge", front)).run({HostValue(a), HostValue(b)})[0];
    EXPECT_NEAR(got.at(0), to_codes ? 2.15e9 : 2152327500.0, 1e5);
  }
}

/// Codes of 32 bits are not for the array.
TEST(Quantizer, WideCodesStayFloats) {
  QdqDraft d(true);
  d.w.input("x", DType::kI32, {6, 16});
  d.w.node("MatMul", {d.w.node("DequantizeLinear", {"x", d.number(0.001f)}), d.weights({16, 8}, false)}, {}, "y");
  d.w.output("y", DType::kF32, {6, 8});
  d.w.save(path("wide.onnx"));
  EXPECT_EQ(products_of(run_front(import_onnx(path("wide.onnx"), {}), "auto").graph, MacFormat::kInt8), 0);
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
