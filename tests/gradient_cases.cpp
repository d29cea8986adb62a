// The ONNX backend tests (../shared/models/onnx-node-tests.tar.zst) once more, as functions to differentiate: of every case with floats in and out, the
// gradient that training would use against finite differences in fp32. Writes gradient-cases.md, which lists what has none and why.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <tuple>

#include "base/error.h"
#include "base/file.h"
#include "import/onnx.h"
#include "import/tensor_file.h"
#include "passes/passes.h"
#include "runtime/observe.h"
#include "train/expand.h"
#include "train/finite_differences.h"
#include "train/fold.h"
#include "train/gradients.h"
#include "node_cases.h"

namespace systole {
namespace {
namespace fs = std::filesystem;

/// A case as a graph whose inputs are the floats to differentiate by.
struct Function {
  Graph graph;
  std::vector<Tensor> x;
};

/// The graph as training differentiates it: constants of shapes, operators in parts that have gradients. Batches are normalised by the statistics given.
void prepare(Graph& g) {
  fold_shapes(g);
  write_out(g);
  const std::vector<Node> nodes = std::move(g.nodes);
  g.nodes.clear();
  Builder b(g, "parts.");
  std::map<ValueId, ValueId> now;
  const auto current = [&](ValueId& v) {
    if (const auto it = now.find(v); it != now.end()) v = it->second;
  };
  for (Node n : nodes) {
    for (ValueId& v : n.inputs) current(v);
    auto outputs = expand_for_gradients(b, n);
    if (std::get<OnnxOp>(n.op).type == "BatchNormalization" && n.inputs.size() == 5 && !std::get<OnnxOp>(n.op).integer("training_mode", 0)) outputs = {expand_batch_normalization(b, n, n.inputs[0], n.inputs[1], n.inputs[2], n.inputs[3], n.inputs[4])};
    for (size_t k = 0; k < outputs.size() && k < n.outputs.size(); ++k) now[n.outputs[k]] = outputs[k];
    if (outputs.empty()) g.nodes.push_back(std::move(n));
  }
  for (ValueId& v : g.outputs) current(v);
}

enum class By { kAllFloats, kFirst };

std::optional<Tensor> input_of(const std::string& folder, size_t i, ValueKind kind) {
  const std::string path = folder + "/test_data_set_0/input_" + std::to_string(i) + ".pb";
  if (!fs::exists(path)) return {};
  FileValue v = read_value_file(path, kind);
  if (!v.present || v.is_sequence || v.tensors.empty()) return {};
  return std::move(v.tensors[0]);
}

Function function_of(const std::string& folder, By by) {
  const auto bytes = read_file(folder + "/model.onnx");
  const BoundaryKinds kinds = boundary_kinds(bytes.data(), bytes.size(), folder);
  const auto names = input_names(bytes.data(), bytes.size(), folder);
  ImportOptions options;
  std::map<std::string, Tensor> floats;
  for (size_t i = 0; i < kinds.inputs.size() && i < names.size(); ++i) {
    const auto t = input_of(folder, i, kinds.inputs[i]);
    if (!t) continue;
    if (t->type == DType::kF32 && t->count() > 0 && (by == By::kAllFloats || floats.empty())) floats[names[i]] = *t, options.input_shapes[names[i]] = t->shape;
    else options.constant_inputs[names[i]] = std::make_shared<const Tensor>(*t);
  }
  Function f;
  Graph& g = f.graph;
  g = import_onnx_bytes(bytes.data(), bytes.size(), folder, folder, options);
  inline_constants(g), prune_and_sort(g), infer_shapes(g);
  prepare(g);
  for (ValueId v : g.inputs) f.x.push_back(floats[g.value(v).name]);
  return f;
}

/// What came of a case: nothing to differentiate, a gradient that agrees, or why there is none.
struct Outcome {
  enum Kind { kNoFloats, kFlat, kAgrees, kNotSmooth, kRefused, kWrong } kind;
  std::string reason = "";
};

/// The gradient with respect to all inputs, as a graph of its own behind the function.
struct Differentiated {
  Graph forward, both;
  std::vector<size_t> there;  ///< inputs that have a gradient: outputs of `both`, in this order
};

std::optional<Differentiated> differentiate(const Function& f) {
  Differentiated d{f.graph, f.graph, {}};
  std::map<ValueId, ValueId> seeds;
  const std::vector<ValueId> inputs = d.both.inputs;
  Builder b(d.both, "seed.");
  d.forward.outputs.clear();
  for (ValueId v : f.graph.outputs) {
    if (v == kNoValue || f.graph.value(v).type != DType::kF32 || f.graph.value(v).constant || std::count(inputs.begin(), inputs.end(), v)) continue;
    d.forward.outputs.push_back(v), seeds[v] = b.input("d" + std::to_string(v), DType::kF32, f.graph.value(v).shape);
  }
  if (seeds.empty()) return {};
  const auto gradients = backward(d.both, seeds, inputs);
  d.both.outputs.clear();
  for (size_t k = 0; k < gradients.size(); ++k) {
    if (gradients[k] != kNoValue) d.there.push_back(k), d.both.outputs.push_back(gradients[k]);
  }
  if (!d.there.empty()) prune_and_sort(d.both);
  return d;
}

/// At the case's inputs moved a little, off ties and kinks, along one direction.
Outcome compare(const Function& f, const Differentiated& d, uint32_t seed) {
  std::mt19937 rng(seed);
  std::vector<Tensor> x = f.x, direction, weights, all;
  for (Tensor& t : x) {
    for (int64_t i = 0; i < t.count(); ++i) t.data<float>()[i] += std::uniform_real_distribution<float>(0.01f, 0.03f)(rng);
    direction.push_back(random_tensor(rng, t.shape, -1, 1));
  }
  all = x;
  for (ValueId o : d.forward.outputs) weights.push_back(random_tensor(rng, d.forward.value(o).shape, -1, 1)), all.push_back(weights.back());
  const auto value = [&](double by) {
    auto at = x;
    for (size_t k = 0; k < x.size(); ++k) {
      for (int64_t i = 0; i < x[k].count(); ++i) at[k].data<float>()[i] += static_cast<float>(by) * direction[k].load<float>(i);
    }
    double sum = 0;
    const auto y = run(d.forward, at);
    for (size_t k = 0; k < y.size(); ++k) sum += dot(y[k], weights[k]);
    return sum;
  };
  constexpr double kStep = 4e-3;
  const double wide = (value(kStep) - value(-kStep)) / (2 * kStep), narrow = (value(kStep / 2) - value(-kStep / 2)) / kStep;
  if (d.there.empty()) return std::fabs(wide) < 1e-6 ? Outcome{Outcome::kFlat} : Outcome{Outcome::kWrong, "no gradient, but a slope of " + std::to_string(wide)};
  const auto g = run(d.both, all);
  double slope = 0, size = 0;
  for (size_t i = 0; i < g.size(); ++i) {
    const size_t k = d.there[i];
    if (g[i].shape != x[k].shape) return {Outcome::kWrong, "a gradient of shape " + to_string(g[i].shape) + " for " + to_string(x[k].shape)};
    slope += dot(g[i], direction[k]), size += dot(g[i], g[i]) * dot(direction[k], direction[k]);
  }
  const double tolerance = 5e-3 * (std::sqrt(size) + 1e-3 * std::fabs(value(0)) + 1e-6);
  if (std::fabs(slope - (4 * narrow - wide) / 3) <= tolerance) return {Outcome::kAgrees};
  if (!(std::fabs(wide - narrow) <= tolerance)) return {Outcome::kNotSmooth, "no slope at its inputs"};
  return {Outcome::kWrong, std::to_string(slope) + " against " + std::to_string(wide)};
}

Outcome check(const std::string& folder, By by) {
  const Function f = function_of(folder, by);
  if (f.x.empty()) return {Outcome::kNoFloats};
  const auto d = differentiate(f);
  if (!d) return {Outcome::kNoFloats};
  Outcome o{Outcome::kNotSmooth};
  for (uint32_t seed = 1; seed <= 3 && o.kind >= Outcome::kNotSmooth; ++seed) o = compare(f, *d, seed);
  return o;
}

/// By all floats, or, where those cannot vary together, by the first.
Outcome best_of(const std::string& folder) {
  std::optional<Outcome> first;
  for (By by : {By::kAllFloats, By::kFirst}) {
    Outcome o{Outcome::kRefused};
    try {
      o = check(folder, by);
    } catch (const Failure& f) {
      o.reason = f.error().found;
    }
    if (o.kind == Outcome::kWrong || o.kind < Outcome::kNotSmooth) return o;
    if (!first) first = o;
  }
  return *first;
}

/// What differs on purpose: Round passes gradients on (quantisation), and a dropout that draws its own masks is another function each time.
bool expected(const std::string& name) { return name == "test_round" || name.starts_with("test_training_dropout"); }

std::string without_names(std::string reason) {
  for (size_t at; (at = reason.find(" ('")) != std::string::npos;) reason.erase(at, reason.find("')", at) + 2 - at);
  for (size_t at; (at = reason.find("value '")) != std::string::npos;) reason.replace(at, reason.find('\'', at + 7) + 1 - at, "a value that");
  std::replace(reason.begin(), reason.end(), '\n', ' ');
  if (reason.starts_with("a value that has")) reason = "a shape that follows from data";
  return reason.substr(0, 120);
}

std::string page_of(const std::map<Outcome::Kind, int>& count, const std::map<std::string, std::vector<std::string>>& reasons, size_t cases) {
  const auto n = [&](Outcome::Kind k) { return count.count(k) ? count.at(k) : 0; };
  std::string page = "# Gradients of the ONNX node tests\n\nWritten by the test `gradient_cases`: ONNX's own backend tests as functions of their float inputs, differentiated as training does it, against finite\ndifferences in fp32 (relative error 5e-3, "
                     "one of three random directions near the case's inputs). Of " + std::to_string(cases) + " cases\n\n- " + std::to_string(n(Outcome::kAgrees)) + " have a gradient that agrees;\n- " + std::to_string(n(Outcome::kFlat)) +
                     " are flat, and have none;\n- " + std::to_string(n(Outcome::kNoFloats)) + " have no fp32 input or no fp32 output;\n- " + std::to_string(n(Outcome::kNotSmooth)) + " have no slope where they are asked (square roots of negative numbers, sums of 1e4 in fp32);\n- " +
                     std::to_string(n(Outcome::kWrong)) + " differ on purpose: `Round` passes gradients on, which quantisation-aware training asks for, and a `Dropout` that draws its own masks is another function each time;\n- " + std::to_string(n(Outcome::kRefused)) +
                     " are refused, by reason:\n\n| cases | reason | such as |\n|---|---|---|\n";
  std::vector<std::tuple<int, std::string, std::string>> order;
  for (const auto& [reason, names] : reasons) order.emplace_back(-static_cast<int>(names.size()), reason, names[0]);
  std::sort(order.begin(), order.end());
  for (const auto& [k, reason, name] : order) page += "| " + std::to_string(-k) + " | " + reason + " | " + name + " |\n";
  return page;
}

TEST(GradientCases, AllOfThem) {
  const auto root = unpacked_node_tests("gradient-cases");
  if (!root) return;
  const bool only = std::getenv(kOnlyCase) != nullptr;
  const auto folders = case_folders(*root);
  std::map<Outcome::Kind, int> count;
  std::map<std::string, std::vector<std::string>> reasons;
  for (const auto& folder : folders) {
    const std::string name = fs::path(folder).filename();
    const Outcome o = best_of(folder);
    ++count[o.kind];
    EXPECT_TRUE(o.kind != Outcome::kWrong || expected(name)) << name << ": " << o.reason;
    if (o.kind == Outcome::kRefused) reasons[without_names(o.reason)].push_back(name);
    if (only) std::printf("%d %s: %s\n", o.kind, name.c_str(), o.reason.c_str());
  }
  if (only) return;
  const std::string page = page_of(count, reasons, folders.size());
  write_file(std::string(SYSTOLE_BUILD) + "/gradient-cases.md", page);
  const auto kept = read_file(std::string(SYSTOLE_DOCS) + "/gradient-cases.md");
  EXPECT_EQ(std::string(kept.begin(), kept.end()), page) << "docs/gradient-cases.md is not what this test wrote: copy " << SYSTOLE_BUILD << "/gradient-cases.md";
}

}  // namespace
}  // namespace systole
