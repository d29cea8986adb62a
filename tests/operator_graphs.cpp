// Random graphs over the whole operator table: nodes of ONNX's own test cases (../shared) and of tests/contrib, joined at random. A
// node's first input is a value computed before, cut or repeated to the shape that the case has; its other inputs are the case's.
// The functional model gives the bits of the reference evaluator. SYSTOLE_SEED runs one graph, SYSTOLE_GRAPHS as many as it says.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "import/onnx.h"
#include "import/tensor_file.h"
#include "passes/pipeline.h"
#include "runtime/plan.h"

namespace systole {
namespace {
namespace fs = std::filesystem;

/// One node (or a few) from one float tensor to another.
struct Part {
  std::string name;
  Graph graph;
};

std::shared_ptr<const PlanContext> context(const char* machine, FloatPolicy policy, const char* precision, bool reference) {
  return std::make_shared<const PlanContext>(PlanContext{load_machine(machine), policy, precision, {}, {}, reference});
}

/// The case with all inputs but the first bound; nothing where that is no float graph that runs.
std::optional<Part> read_part(const std::string& folder) {
  try {
    const auto bytes = read_file(folder + "/model.onnx");
    const BoundaryKinds kinds = boundary_kinds(bytes.data(), bytes.size(), folder);
    const auto names = input_names(bytes.data(), bytes.size(), folder);
    ImportOptions options;
    for (size_t i = 0; i < names.size(); ++i) {
      if (i >= kinds.inputs.size() || kinds.inputs[i] != ValueKind::kTensor) return {};
      const std::string file = folder + "/test_data_set_0/input_" + std::to_string(i) + ".pb";
      if (!fs::exists(file)) return {};
      auto t = std::make_shared<const Tensor>(read_tensor_file(file));
      if (i == 0 && (t->type != DType::kF32 || t->count() == 0 || t->count() > 20000)) return {};
      if (i == 0) options.input_shapes[names[i]] = t->shape;
      else options.constant_inputs[names[i]] = t;
    }
    Part p{fs::path(folder).filename(), run_onnx_passes(import_onnx_bytes(bytes.data(), bytes.size(), folder, folder, options), "fp32").graph};
    if (p.graph.inputs.size() != 1 || p.graph.nodes.empty() || p.graph.value(p.graph.outputs[0]).type != DType::kF32) return {};
    p.graph.outputs.resize(1);
    prune_and_sort(p.graph);
    const Plan plan(p.graph, context("edge", {DType::kF32, MacFormat::kF32}, "fp32", true));
    const auto& out = plan.outputs()[0];
    if (!out.known || out.type != DType::kF32 || element_count(out.shape) == 0 || element_count(out.shape) > 20000) return {};
    p.graph.value(p.graph.outputs[0]).shape = out.shape;
    return p;
  } catch (const Failure&) {
    return {};
  }
}

class Joined {
 public:
  Joined(const std::vector<Part>& parts, uint64_t seed) : rng_(seed) {
    g.name = "joined" + std::to_string(seed);
    const Shape shape = {1 + pick(3), 1 + pick(8), 1 + pick(12)};
    g.inputs = {g.add_value("x", DType::kF32, shape)};
    pool_.push_back({g.inputs[0], shape});
    for (int64_t n = 2 + pick(5); n > 0; --n) add(parts[static_cast<size_t>(pick(static_cast<int64_t>(parts.size())))]);
    g.outputs.push_back(pool_.back().id);
    if (pool_.size() > 2 && pick(2)) g.outputs.push_back(pool_[pool_.size() - 2].id);
  }
  Graph g;
  std::string names;

 private:
  struct Item {
    ValueId id;
    Shape shape;
  };
  int64_t pick(int64_t n) { return static_cast<int64_t>(rng_() % static_cast<uint64_t>(n)); }
  ValueId node(const char* type, std::vector<ValueId> in, std::map<std::string, Attribute> attributes = {}) {
    const std::string name = std::string("join/") + type + std::to_string(g.values.size());
    const ValueId out = g.add_value(name, DType::kF32, {});
    g.value(out).shape_known = false;
    g.nodes.push_back({name, OnnxOp{"", type, 18, std::move(attributes)}, std::move(in), {out}});
    return out;
  }
  ValueId ints(const std::vector<int64_t>& v) { return g.add_constant("i" + std::to_string(g.values.size()), std::make_shared<Tensor>(Tensor::from_ints(v, {static_cast<int64_t>(v.size())}))); }

  /// Any value under this shape; mostly brought back near 0, so that numbers stay numbers.
  ValueId shaped(const Item& from, const Shape& to) {
    const int64_t have = element_count(from.shape), want = element_count(to);
    ValueId v = from.id;
    if (pick(4)) v = node(pick(2) ? "Tanh" : "Sigmoid", {v});
    if (have == want) return node("Reshape", {v, ints(to)});
    v = node("Reshape", {v, ints({have})});
    if (have < want) v = node("Tile", {v, ints({(want + have - 1) / have})});
    if (want % have) v = node("Slice", {v, ints({0}), ints({want}), ints({0})});
    return node("Reshape", {v, ints(to)});
  }

  void add(const Part& part) {
    const Graph& p = part.graph;
    std::vector<ValueId> ids;
    const std::string prefix = part.name + std::to_string(g.values.size()) + "/";
    const Item from = pool_[static_cast<size_t>(pick(static_cast<int64_t>(pool_.size())))];
    const ValueId in = shaped(pick(2) ? pool_.back() : from, p.value(p.inputs[0]).shape);
    for (const Value& v : p.values) {
      g.values.push_back({prefix + v.name, v.type, {}, false, v.constant});
      if (v.constant) g.values.back().shape = v.constant->shape, g.values.back().shape_known = true;
      ids.push_back(static_cast<ValueId>(g.values.size() - 1));
    }
    ids[static_cast<size_t>(p.inputs[0])] = in;
    for (Node n : p.nodes) {
      for (auto* list : {&n.inputs, &n.outputs}) {
        for (ValueId& v : *list) v = v == kNoValue ? v : ids[static_cast<size_t>(v)];
      }
      n.name = prefix + n.name;
      g.nodes.push_back(std::move(n));
    }
    pool_.push_back({ids[static_cast<size_t>(p.outputs[0])], p.value(p.outputs[0]).shape});
    names += (names.empty() ? "" : " - ") + part.name;
  }

  std::mt19937_64 rng_;
  std::vector<Item> pool_;
};

std::vector<Part> read_parts() {
  const std::string archive = std::string(SYSTOLE_SHARED) + "/models/onnx-node-tests.tar.zst", root = std::string(SYSTOLE_BUILD) + "/operator-graphs";
  std::vector<std::string> folders;
  auto collect = [&](const std::string& from) {
    for (const auto& e : fs::recursive_directory_iterator(from)) {
      if (e.path().filename() == "model.onnx") folders.push_back(e.path().parent_path().string());
    }
  };
  collect(std::string(SYSTOLE_TESTS) + "/contrib");
  if (file_exists(archive)) {
    fs::create_directories(root);
    EXPECT_EQ(std::system(("tar --zstd -xf '" + archive + "' -C '" + root + "'").c_str()), 0);
    collect(root);
  } else {
    std::printf("  no ../shared/models here: the operators of tests/contrib alone\n");
  }
  std::sort(folders.begin(), folders.end());
  std::vector<Part> parts;
  for (const auto& f : folders) {
    if (f.find("bernoulli") != std::string::npos || f.find("random") != std::string::npos || f.find("training_dropout") != std::string::npos) continue;  // random by definition
    if (auto p = read_part(f)) parts.push_back(std::move(*p));
  }
  return parts;
}

/// Graphs that one seed makes; false where the machine is too small for it.
bool compare(const std::vector<Part>& parts, uint64_t seed, std::set<std::string>& operators) {
  constexpr struct { const char* precision; FloatPolicy policy; } kPolicies[] = {{"fp32", {DType::kF32, MacFormat::kF32}}, {"bf16", {DType::kBF16, MacFormat::kBF16}}, {"fp16", {DType::kF16, MacFormat::kF16}}};
  const Joined j(parts, seed);
  const auto& policy = kPolicies[seed % 3];
  const char* machine = seed % 5 == 0 ? "nano" : seed % 5 == 1 ? "server" : "edge";
  std::mt19937_64 rng(seed);
  Tensor x(DType::kF32, j.g.value(j.g.inputs[0]).shape);
  for (int64_t i = 0; i < x.count(); ++i) x.set(i, static_cast<double>(static_cast<int64_t>(rng() % 4001) - 2000) * 1e-3);
  const std::string what = "seed " + std::to_string(seed) + " in " + policy.precision + " on " + machine + ": " + j.names;
  try {
    Plan functional(j.g, context(machine, policy.policy, policy.precision, false)), reference(j.g, context(machine, policy.policy, policy.precision, true));
    const auto a = functional.run({HostValue(x)}), b = reference.run({HostValue(x)});
    for (size_t k = 0; k < a.size(); ++k) EXPECT_EQ(a[k].tensor->bytes, b[k].tensor->bytes) << what;
  } catch (const Failure& f) {
    // A part alone runs; joined, what computed its first input may leave its types or sizes.
    EXPECT_TRUE(f.error().code == ErrorCode::kResource || f.error().code == ErrorCode::kUnsupported) << what << ": " << f.what();
    return false;
  }
  for (const Node& n : j.g.nodes) operators.insert(op_name(n.op));
  return true;
}

TEST(OperatorGraphs, FunctionalModelGivesTheReferencesBits) {
  const std::vector<Part> parts = read_parts();
  ASSERT_GT(parts.size(), 20u);
  const bool whole = parts.size() > 500;
  std::set<std::string> operators;
  if (const char* one = std::getenv("SYSTOLE_SEED")) {
    compare(parts, std::strtoull(one, nullptr, 10), operators);
    return;
  }
  int equal = 0;
  const char* more = std::getenv("SYSTOLE_GRAPHS");
  const int graphs = more ? std::atoi(more) : whole ? 1500 : 200;
  for (int seed = 0; seed < graphs; ++seed) equal += compare(parts, static_cast<uint64_t>(seed), operators);
  std::printf("  %d of %d graphs of %zu operators (from %zu cases) equal bit for bit; the others are refused\n", equal, graphs, operators.size(), parts.size());
  EXPECT_GE(equal, graphs * 9 / 10);
  if (whole) EXPECT_GE(operators.size(), 120u);
}

}  // namespace
}  // namespace systole
