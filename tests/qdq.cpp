// What the compiler makes of QDQ models, whoever wrote them: products of codes are integers wherever their sums fit, whatever follows; the rest is in fp32
// or bf16.
#include "quantised_case.h"

namespace systole {
namespace {

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
TEST(Qdq, ProductsOfCodesAreIntegers) {
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
TEST(Qdq, ProductsOfActivationsAreIntegers) {
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
TEST(Qdq, ColumnsWithZeroPointsOfTheirOwnStayFloats) {
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
TEST(Qdq, TheRestMayBeBf16) {
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
TEST(Qdq, LongProductsOfActivationsAreFloats) {
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
TEST(Qdq, WideCodesStayFloats) {
  QdqDraft d(true);
  d.w.input("x", DType::kI32, {6, 16});
  d.w.node("MatMul", {d.w.node("DequantizeLinear", {"x", d.number(0.001f)}), d.weights({16, 8}, false)}, {}, "y");
  d.w.output("y", DType::kF32, {6, 8});
  d.w.save(path("wide.onnx"));
  EXPECT_EQ(products_of(run_front(import_onnx(path("wide.onnx"), {}), "auto").graph, MacFormat::kInt8), 0);
}

}  // namespace
}  // namespace systole
