// Models that the NPU and the host run together, built by hand, with results worked out by hand: indices that cross the
// border, branches and loops on data, shapes that depend on values.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "import/graph_writer.h"
#include "import/onnx.h"
#include "import/writer.h"
#include "runtime/plan.h"
#include "systole/systole.h"

namespace systole {
namespace {

struct Builder {
  Graph g;
  ValueId input(const char* name, DType type, Shape shape) {
    const ValueId v = g.add_value(name, type, std::move(shape));
    g.inputs.push_back(v);
    return v;
  }
  ValueId constant(Tensor t) { return g.add_constant("c" + std::to_string(g.values.size()), std::make_shared<const Tensor>(std::move(t))); }
  ValueId node(const char* type, std::vector<ValueId> in, std::map<std::string, Attribute> attributes = {}) {
    g.values.push_back({std::string(type) + std::to_string(g.values.size()), DType::kF32, {}, false, nullptr});
    const ValueId v = static_cast<ValueId>(g.values.size() - 1);
    g.nodes.push_back({g.values.back().name, OnnxOp{"", type, 17, std::move(attributes)}, std::move(in), {v}});
    return v;
  }
  void output(ValueId v, DType type) {
    g.value(v).type = type;
    g.outputs.push_back(v);
  }
  std::unique_ptr<Plan> plan() { return std::make_unique<Plan>(g, std::make_shared<const PlanContext>(PlanContext{load_machine("edge"), {DType::kF32, MacFormat::kF32}, "fp32", {}})); }
};

Tensor ints(std::vector<int64_t> v, Shape s) { return Tensor::from_ints(v, std::move(s)); }
Tensor floats(std::vector<float> v, Shape s) { return Tensor::from_floats(v, std::move(s)); }

size_t host_nodes(Plan& p) {
  size_t n = 0;
  p.visit_host_nodes([&](HostNodeInfo&) { ++n; });
  return n;
}
size_t programs(Plan& p) {
  size_t n = 0;
  p.visit_programs([&](LoadedProgram&) { ++n; });
  return n;
}

/// Indices are int32 on the NPU and int64 everywhere else: beside constants, on the host, at the outputs.
TEST(HostAndNpu, IndicesCrossAsInt64) {
  const Tensor x = floats({0, 5, 1, 9, 2, 3}, {2, 3});
  Builder b;
  const ValueId index = b.node("ArgMax", {b.input("x", DType::kF32, {2, 3})}, {{"axis", int64_t{1}}}), c = b.constant(ints({100, 200}, {2, 1}));
  b.output(b.node("Concat", {index, c}, {{"axis", int64_t{1}}}), DType::kI64);
  const auto beside_constants = b.plan();
  EXPECT_EQ(host_nodes(*beside_constants), 0u);
  const auto y = *beside_constants->run({HostValue(x)})[0].tensor;
  EXPECT_EQ(y.type, DType::kI64);
  EXPECT_EQ(y.to_ints(), (std::vector<int64_t>{1, 100, 0, 200}));

  Builder d;
  const ValueId i = d.node("ArgMax", {d.input("x", DType::kF32, {2, 3})}, {{"axis", int64_t{1}}}), k = d.constant(ints({int64_t{1} << 40, 7}, {2, 1}));
  const ValueId moved = d.node("Transpose", {d.node("Transpose", {i}, {{"perm", std::vector<int64_t>{1, 0}}})}, {{"perm", std::vector<int64_t>{1, 0}}});
  const ValueId sum = d.node("Add", {moved, k});  // on the host, beyond int32
  d.output(d.node("Concat", {moved, sum, k}, {{"axis", int64_t{1}}}), DType::kI64);
  const auto on_the_host = d.plan();
  EXPECT_GT(host_nodes(*on_the_host), 0u);
  EXPECT_EQ(on_the_host->run({HostValue(x)})[0].tensor->to_ints(), (std::vector<int64_t>{1, (int64_t{1} << 40) + 1, int64_t{1} << 40, 0, 7, 7}));
}

/// Constants that int32 cannot hold keep the whole move on the host.
TEST(HostAndNpu, WideConstantsBesideIndices) {
  Builder b;
  const ValueId index = b.node("ArgMin", {b.input("x", DType::kF32, {1, 4})}, {{"axis", int64_t{1}}});
  b.output(b.node("Concat", {index, b.constant(ints({int64_t{1} << 33}, {1, 1}))}, {{"axis", int64_t{0}}}), DType::kI64);
  EXPECT_EQ(b.plan()->run({HostValue(floats({4, 3, 2, 8}, {1, 4}))})[0].tensor->to_ints(), (std::vector<int64_t>{2, int64_t{1} << 33}));
}

/// y = condition ? x W : x + W, W captured from outside; each branch is compiled when it is first taken, and once.
TEST(HostAndNpu, BranchesOnData) {
  auto branch = [](const char* op) {
    Builder b;
    const ValueId x = b.input("x", DType::kF32, {}), w = b.input("w", DType::kF32, {});
    b.g.value(x).shape_known = b.g.value(w).shape_known = false;
    b.output(b.node(op, {x, w}), DType::kF32);
    b.g.captures = {1, 2};
    return std::make_shared<const Graph>(b.g);
  };
  Builder b;
  const ValueId condition = b.input("condition", DType::kBool, {}), x = b.input("x", DType::kF32, {2, 2}), w = b.constant(floats({1, 2, 3, 4}, {2, 2}));
  b.output(b.node("If", {condition, x, w}, {{"then_branch", branch("MatMul")}, {"else_branch", branch("Add")}}), DType::kF32);
  const auto plan = b.plan();
  Tensor yes(DType::kBool, {}), no(DType::kBool, {});
  yes.set_int(0, 1);
  const Tensor v = floats({1, 0, 0, 2}, {2, 2});
  EXPECT_EQ(programs(*plan), 0u);
  EXPECT_EQ(plan->run({HostValue(yes), HostValue(v)})[0].tensor->to_floats(), (std::vector<float>{1, 2, 6, 8}));
  EXPECT_EQ(programs(*plan), 1u);
  EXPECT_EQ(plan->run({HostValue(no), HostValue(v)})[0].tensor->to_floats(), (std::vector<float>{2, 2, 3, 6}));
  plan->run({HostValue(yes), HostValue(v)});
  EXPECT_EQ(programs(*plan), 2u);
}

/// s doubles n times; the body is one program however often it runs.
TEST(HostAndNpu, LoopsOnData) {
  Builder body;
  body.input("i", DType::kI64, {});
  const ValueId go = body.input("go", DType::kBool, {}), s = body.input("s", DType::kF32, {});
  for (ValueId v : body.g.inputs) body.g.value(v).shape_known = false;
  body.output(body.node("Identity", {go}), DType::kBool);
  body.output(body.node("Add", {s, s}), DType::kF32);
  Builder b;
  const ValueId n = b.input("n", DType::kI64, {}), x = b.input("x", DType::kF32, {3});
  b.output(b.node("Loop", {n, kNoValue, x}, {{"body", std::make_shared<const Graph>(body.g)}}), DType::kF32);
  const auto plan = b.plan();
  EXPECT_EQ(plan->run({HostValue(ints({5}, {})), HostValue(floats({1, -2, 0.5f}, {3}))})[0].tensor->to_floats(), (std::vector<float>{32, -64, 16}));
  const size_t after_one = programs(*plan);
  EXPECT_EQ(plan->run({HostValue(ints({7}, {})), HostValue(floats({1, 1, 1}, {3}))})[0].tensor->to_floats(), (std::vector<float>{128, 128, 128}));
  EXPECT_EQ(programs(*plan), after_one);
}

/// The elements that are not 0, squared: compiled per length, kept per length.
TEST(HostAndNpu, ShapesThatDependOnValues) {
  Builder b;
  const ValueId x = b.input("x", DType::kF32, {6});
  const ValueId found = b.node("Squeeze", {b.node("NonZero", {x}), b.constant(ints({0}, {1}))}), v = b.node("Gather", {x, found});
  b.output(b.node("Mul", {v, v}), DType::kF32);
  const auto plan = b.plan();
  EXPECT_EQ(plan->run({HostValue(floats({0, 2, 0, 3, 0, 0}, {6}))})[0].tensor->to_floats(), (std::vector<float>{4, 9}));
  EXPECT_EQ(plan->run({HostValue(floats({1, 0, 5, 3, 0, 0}, {6}))})[0].tensor->to_floats(), (std::vector<float>{1, 25, 9}));
  const size_t two_lengths = programs(*plan);
  EXPECT_EQ(plan->run({HostValue(floats({0, 7, 0, 0, 0, 1}, {6}))})[0].tensor->to_floats(), (std::vector<float>{49, 1}));
  EXPECT_EQ(programs(*plan), two_lengths);
}

/// An integer division whose divisor only a run knows is the host's: there a 0 is an error.
TEST(HostAndNpu, DivisionByZeroIsAnError) {
  for (const char* op : {"Div", "Mod"}) {
    Builder b;
    const ValueId x = b.input("x", DType::kI8, {2}), y = b.input("y", DType::kI8, {2});
    b.output(b.node(op, {x, y}), DType::kI8);
    const auto plan = b.plan();
    EXPECT_EQ(host_nodes(*plan), 1u);
    EXPECT_THROW(plan->run({HostValue(Tensor(DType::kI8, {2})), HostValue(Tensor(DType::kI8, {2}))}), Failure);
  }
}

/// Wide integers as 16-bit parts, against the host's exact arithmetic, with extremes of every type.
TEST(HostAndNpu, WideIntegersAreExact) {
  const struct { DType type; std::vector<int64_t> values; } kTypes[] = {
      {DType::kI32, {INT32_MIN, -65537, -65536, -32769, -1, 0, 1, 32767, 32768, 65535, 65536, 16777217, INT32_MAX}},
      {DType::kU32, {0, 1, 32768, 65535, 65536, 16777216, 16777217, int64_t{1} << 31, 0xFFFFFFFF}},
      {DType::kI64, {INT64_MIN, -(int64_t{1} << 40) - 1, -65536, -1, 0, 1, 65535, int64_t{1} << 32, (int64_t{1} << 53) + 1, INT64_MAX}},
      {DType::kU64, {0, 1, 65535, 65536, int64_t{1} << 32, (int64_t{1} << 53) + 1, INT64_MAX, -1}},  // -1: 2^64 - 1
  };
  for (const auto& t : kTypes) {
    const int64_t n = static_cast<int64_t>(t.values.size());
    Tensor a(t.type, {n, 1}), c(t.type, {n});
    for (int64_t i = 0; i < n; ++i) {
      std::memcpy(a.bytes.data() + i * bytes_of(t.type), &t.values[static_cast<size_t>(i)], static_cast<size_t>(bytes_of(t.type)));
      std::memcpy(c.bytes.data() + i * bytes_of(t.type), &t.values[static_cast<size_t>(i)], static_cast<size_t>(bytes_of(t.type)));
    }
    for (const char* op : {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Max", "Min", "BitwiseNot"}) {
      Builder b;
      const bool one = std::string(op) == "BitwiseNot", extreme = std::string(op) == "Max" || std::string(op) == "Min";
      std::vector<ValueId> in = {b.input("a", t.type, a.shape)};
      std::vector<HostValue> values = {HostValue(a)};
      if (!one) in.push_back(b.input("c", t.type, c.shape)), values.emplace_back(c);
      b.output(b.node(op, in), one || extreme ? t.type : DType::kBool);
      const Node node = b.g.nodes[0];
      const auto plan = b.plan();
      const Tensor got = *plan->run(values)[0].tensor, want = *run_host(node, values, {})[0].tensor;
      EXPECT_TRUE(got.type == want.type && got.shape == want.shape && got.bytes == want.bytes) << op << " of " << to_string(t.type);
      EXPECT_EQ(host_nodes(*plan), extreme && t.type == DType::kI32 ? 1u : 0u) << op << " of " << to_string(t.type);
    }
  }
}

/// Axes that only a run brings: a program per value, no node on the host; other values give other programs.
TEST(HostAndNpu, AxesAtRunTimeMakePrograms) {
  Builder b;
  const ValueId x = b.input("x", DType::kF32, {2, 3}), axes = b.input("axes", DType::kI64, {1});
  b.output(b.node("ReduceSum", {b.node("Relu", {x}), axes}, {{"keepdims", int64_t{0}}}), DType::kF32);
  const auto plan = b.plan();
  for (int round = 0; round < 20; ++round) {  // more values than are bound
    const int64_t axis = round % 4 - 2;
    const auto y = *plan->run({HostValue(floats({1, 2, -3, 4, 5, 6}, {2, 3})), HostValue(ints({axis}, {1}))})[0].tensor;
    EXPECT_EQ(y.to_floats(), (axis == 0 || axis == -2 ? std::vector<float>{5, 7, 6} : std::vector<float>{3, 15})) << axis;
  }
  EXPECT_EQ(host_nodes(*plan), 0u);
}

/// What the host reads of a model does not stay in its file, which may be written anew as soon as the model is compiled.
TEST(HostAndNpu, ModelsOutliveTheirFiles) {
  const std::string path = std::string(SYSTOLE_BUILD) + "/host-outlives.onnx";
  ModelWriter w("outlives", "for a test");
  Tensor table(DType::kF32, {2000, 4});
  for (int64_t i = 0; i < table.count(); ++i) table.set(i, static_cast<double>(i));
  w.input("i", DType::kI64, {2});
  w.node("Relu", {w.node("Gather", {w.constant("table", table), "i"})}, {}, "y");
  w.output("y", DType::kF32, {2, 4});
  w.save(path);
  CompileOptions options;
  options.cache = false, options.precision = "fp32";
  const Compiled model = compile(path, options).value().model;
  std::filesystem::resize_file(path, 0);
  EXPECT_EQ(run(model, {ints({1999, 3}, {2})}).value()[0].to_floats(), (std::vector<float>{7996, 7997, 7998, 7999, 12, 13, 14, 15}));
}

/// A loop whose body reads values of the graph around it, one of them inside a branch of its own: the same after a way through a file.
TEST(HostAndNpu, SubgraphsAreWritten) {
  const auto inner_value = [](Graph& g, const char* name, DType type = DType::kF32) {
    g.values.push_back({name, type, {}, false, nullptr});
    return static_cast<ValueId>(g.values.size() - 1);
  };
  const auto op = [](const char* type, std::map<std::string, Attribute> attributes = {}) { return OnnxOp{"", type, 16, std::move(attributes)}; };
  Graph then, otherwise;  // x, captured: x + 1, or x doubled
  for (Graph* g : {&then, &otherwise}) g->inputs = {inner_value(*g, "x")}, g->captures = {1};
  const ValueId one = then.add_constant("one", std::make_shared<const Tensor>(Tensor::scalar_f32(1))), more = inner_value(then, "y"), twice = inner_value(otherwise, "y");
  then.nodes.push_back({"more", op("Add"), {then.inputs[0], one}, {more}}), then.outputs = {more};
  otherwise.nodes.push_back({"twice", op("Add"), {otherwise.inputs[0], otherwise.inputs[0]}, {twice}}), otherwise.outputs = {twice};
  Graph body;  // trip, condition, sum; captured: which, x
  for (const char* name : {"trip", "go", "sum", "which", "x"}) body.inputs.push_back(inner_value(body, name));
  body.captures = {3, 4};
  const ValueId chosen = inner_value(body, "y"), sum = inner_value(body, "sums");
  body.nodes.push_back({"if", op("If", {{"then_branch", std::make_shared<const Graph>(then)}, {"else_branch", std::make_shared<const Graph>(otherwise)}}), {body.inputs[3], body.inputs[4]}, {chosen}});
  body.nodes.push_back({"add", op("Add"), {body.inputs[2], chosen}, {sum}});
  body.outputs = {body.inputs[1], sum, sum};
  Builder b;
  const ValueId x = b.input("x", DType::kF32, {2}), trips = b.input("trips", DType::kI64, {}), which = b.input("which", DType::kBool, {});
  Tensor yes(DType::kBool, {});
  yes.set_int(0, 1);
  const ValueId last = b.node("Loop", {trips, b.constant(yes), b.constant(floats({0, 0}, {2})), which, x}, {{"body", std::make_shared<const Graph>(body)}});
  b.g.values.push_back({"all", DType::kF32, {}, false, nullptr});
  const auto all = static_cast<ValueId>(b.g.values.size() - 1);
  b.g.nodes.back().outputs.push_back(all);
  b.output(last, DType::kF32), b.output(all, DType::kF32);
  const std::string path = std::string(SYSTOLE_BUILD) + "/host-subgraphs.onnx";
  write_onnx(b.g, 16, "for a test", path);
  const Graph read = import_onnx(path, {});
  const auto loop = std::find_if(read.nodes.begin(), read.nodes.end(), [](const Node& n) { return std::get<OnnxOp>(n.op).type == "Loop"; });
  ASSERT_NE(loop, read.nodes.end());
  EXPECT_EQ(loop->inputs.size(), 5u) << "what the body captures is no input of the node";
  CompileOptions options;
  options.cache = false, options.precision = "fp32";
  const Compiled model = compile(path, options).value().model;
  for (const bool first : {true, false}) {
    yes.set_int(0, first);
    const auto y = run(model, {floats({3, -5}, {2}), ints({3}, {}), yes}).value();
    EXPECT_EQ(y[0].to_floats(), first ? (std::vector<float>{12, -12}) : (std::vector<float>{18, -30}));
    EXPECT_EQ(y[1].to_floats(), first ? (std::vector<float>{4, -4, 8, -8, 12, -12}) : (std::vector<float>{6, -10, 12, -20, 18, -30}));
  }
}

/// Results are shared, not copied, on their way to the caller; what it writes to them is its own, and they outlive the model.
TEST(HostAndNpu, ResultsBelongToTheCaller) {
  const std::string path = std::string(SYSTOLE_BUILD) + "/host-results.onnx";
  ModelWriter w("results", "for a test");
  w.input("x", DType::kF32, {512, 1024});  // two megabytes: memory of its own, which others are not
  w.node("Relu", {"x"}, {}, "y");
  w.node("Identity", {w.constant("c", floats({1, 2}, {2}))}, {}, "z");
  w.output("y", DType::kF32, {512, 1024});
  w.output("z", DType::kF32, {2});
  w.save(path);
  Tensor x(DType::kF32, {512, 1024}), other = x;
  for (int64_t i = 0; i < x.count(); ++i) x.set(i, static_cast<double>(i % 7) - 3), other.set(i, -x.at(i));
  std::vector<Tensor> first, second, third;
  {
    CompileOptions options;
    options.cache = false, options.precision = "fp32";
    const Compiled model = compile(path, options).value().model;
    first = run(model, {x}).value();
    second = run(model, {x}).value();
    for (Tensor& t : first) std::fill(t.bytes.begin(), t.bytes.end(), uint8_t{0x55});
    third = run(model, {other}).value();
  }
  for (int64_t i = 0; i < x.count(); ++i) {
    ASSERT_EQ(second[0].at(i), std::max(x.at(i), 0.0)) << i;
    ASSERT_EQ(third[0].at(i), std::max(other.at(i), 0.0)) << i;
  }
  for (const auto& results : {second, third}) EXPECT_EQ(results[1].to_floats(), (std::vector<float>{1, 2}));
}

}  // namespace
}  // namespace systole
