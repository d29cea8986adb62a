// The ONNX backend tests (../shared/models/onnx-node-tests.tar.zst), all of them, at ONNX's own tolerances (rtol 1e-3,
// atol 1e-7) in fp32 on edge. A case counts for the NPU when no node of it runs on the host: with all inputs given at run
// time, or else with int64 and scalar side inputs (shapes, axes, bounds) bound at compile time, or else with all inputs but
// the first bound (weights, which models hold as constants); there the reference evaluator must give the same bits. Writes
// node-tests.md, which lists every case that fails. Beside them the operators of com.microsoft, against what ONNX Runtime made
// of the same inputs (tests/contrib, written by scripts/record_contrib.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "import/onnx.h"
#include "import/tensor_file.h"
#include "passes/pipeline.h"
#include "runtime/plan.h"
#include "node_cases.h"

namespace systole {
namespace {
namespace fs = std::filesystem;

HostValue host_value(FileValue v) {
  if (!v.present) return {};
  if (!v.is_sequence) return HostValue(std::move(v.tensors[0]));
  std::vector<HostValue> list;
  for (Tensor& t : v.tensors) list.emplace_back(std::move(t));
  return HostValue::list(std::move(list));
}

std::vector<HostValue> read_all(const std::string& folder, const char* kind, const std::vector<ValueKind>& kinds) {
  std::vector<HostValue> list;
  for (size_t i = 0; i < kinds.size(); ++i) {
    const std::string path = folder + "/test_data_set_0/" + kind + "_" + std::to_string(i) + ".pb";
    if (!fs::exists(path)) return list;
    list.push_back(host_value(read_value_file(path, kinds[i])));
  }
  return list;
}

/// ONNX's own, but for pictures from another JPEG decoder than the one that wrote the expectation, and for an inverse DFT
/// whose expectation is noise of a single-precision FFT where ours is 0.
/// The tails of GELU cancel in fp32; quantised results may lie one level beside ONNX Runtime's, whose sums round in another order.
double absolute_tolerance(const std::string& folder) { return folder.find("contrib/q") != std::string::npos ? 1.0 : folder.find("contrib/fast_gelu") != std::string::npos ? 1e-6 : folder.find("image_decoder_decode_jpeg") != std::string::npos ? 10.0 : folder.find("dft_inverse") != std::string::npos ? 1e-6 : 1e-7; }

std::string difference(const HostValue& got, const HostValue& want, double tolerance) {
  if (want.sequence) {
    if (!got.sequence || got.sequence->size() != want.sequence->size()) return "no sequence of " + std::to_string(want.sequence->size());
    for (size_t i = 0; i < want.sequence->size(); ++i) {
      if (const std::string d = difference((*got.sequence)[i], (*want.sequence)[i], tolerance); !d.empty()) return d;
    }
    return "";
  }
  if (want.empty()) return got.empty() ? "" : "a value";
  if (!got.tensor) return "no tensor";
  const Tensor &a = *want.tensor, &b = *got.tensor;
  if (a.shape != b.shape) return "shape " + to_string(b.shape) + " for " + to_string(a.shape);
  if (a.type == DType::kString || b.type == DType::kString) return a.type == b.type && a.strings == b.strings ? "" : "other strings";
  if (is_float(a.type) != is_float(b.type)) return std::string("type ") + to_string(b.type) + " for " + to_string(a.type);
  for (int64_t i = 0; i < a.count(); ++i) {
    const double x = a.at(i), y = b.at(i);
    if (x == y || (std::isnan(x) && std::isnan(y)) || std::fabs(x - y) <= tolerance + 1e-3 * std::fabs(x)) continue;
    return "element " + std::to_string(i) + " is " + std::to_string(y) + ", expected " + std::to_string(x);
  }
  return "";
}

std::string difference(const std::vector<HostValue>& got, const std::vector<HostValue>& want, double tolerance) {
  for (size_t k = 0; k < want.size(); ++k) {
    if (k >= got.size()) return "too few outputs";
    if (const std::string d = difference(got[k], want[k], tolerance); !d.empty()) return "output " + std::to_string(k) + ": " + d;
  }
  return "";
}

/// Outputs that are random by definition: their shape and type are what can be right.
bool random_outputs(const std::string& folder) { return folder.find("bernoulli") != std::string::npos || folder.find("training_dropout") != std::string::npos; }

enum class Bind { kNothing, kSides, kAllButFirst };

struct Outcome {
  std::string wrong;   ///< empty when the outputs agree
  size_t host_nodes = 0;
  bool folded = false;  ///< nothing was left to run
  std::string reason;   ///< of the first host node
  std::vector<HostValue> outputs;
};

bool same_bits(const HostValue& a, const HostValue& b) {
  if (!a.tensor || !b.tensor) return !a.tensor == !b.tensor;
  return a.tensor->type == b.tensor->type && a.tensor->bytes == b.tensor->bytes;
}

Outcome run_case(const std::string& folder, const std::shared_ptr<const PlanContext>& context, Bind bind) {
  const auto bytes = read_file(folder + "/model.onnx");
  const BoundaryKinds kinds = boundary_kinds(bytes.data(), bytes.size(), folder);
  const auto inputs = read_all(folder, "input", kinds.inputs), expected = read_all(folder, "output", kinds.outputs);
  ImportOptions options;
  const auto names = input_names(bytes.data(), bytes.size(), folder);
  std::map<std::string, HostValue> run_time;
  for (size_t i = 0; i < inputs.size() && i < names.size(); ++i) {
    const TensorPtr& t = inputs[i].tensor;
    const bool side = t && (t->type == DType::kI64 || t->count() == 0 || (i > 0 && t->count() == 1));
    if (t && (bind == Bind::kAllButFirst ? i > 0 || t->count() == 0 : bind == Bind::kSides && side)) {
      options.constant_inputs[names[i]] = t;
    } else {
      if (t) options.input_shapes[names[i]] = t->shape;
      run_time[names[i]] = inputs[i];
    }
  }
  Plan plan(run_onnx_passes(import_onnx_bytes(bytes.data(), bytes.size(), folder, folder, options), "fp32").graph, context);
  std::vector<HostValue> data;
  for (const auto& b : plan.inputs()) data.push_back(run_time[b.name]);
  Outcome o;
  const auto got = plan.run(data);
  o.wrong = random_outputs(folder) && !got.empty() && got[0].tensor && expected[0].tensor && got[0].tensor->shape == expected[0].tensor->shape ? "" : difference(got, expected, absolute_tolerance(folder));
  plan.visit_host_nodes([&](HostNodeInfo& n) {
    if (o.host_nodes++ == 0) o.reason = n.type + ": " + n.reason;
  });
  if (!context->reference && plan.npu_nodes() > 0) plan.serialise("node");  // what compiles can be kept
  o.folded = run_time.empty() && !inputs.empty();
  o.outputs = got;
  return o;
}

struct Tally {
  int npu = 0, host = 0, failed = 0;
  std::map<std::string, int> host_reasons;
  std::vector<std::pair<std::string, std::string>> failures;
};

/// The best of the three ways to give the inputs.
void run_best(const std::string& folder, const std::shared_ptr<const PlanContext>& context, const std::shared_ptr<const PlanContext>& reference, Tally& tally) {
  std::optional<Outcome> host;
  std::string failure;
  for (Bind bind : {Bind::kNothing, Bind::kSides, Bind::kAllButFirst}) {
    try {
      Outcome o = run_case(folder, context, bind);
      EXPECT_EQ(o.wrong, "") << fs::path(folder).filename();
      if (!o.wrong.empty()) {
        failure = "wrong: " + o.wrong;
        break;
      }
      if (o.host_nodes == 0 && !o.folded) {
        // Over the whole operator table: the functional model gives the bits of the reference evaluator.
        const Outcome by_definition = run_case(folder, reference, bind);
        for (size_t k = 0; k < o.outputs.size(); ++k) EXPECT_TRUE(same_bits(o.outputs[k], by_definition.outputs.at(k))) << fs::path(folder).filename() << " output " << k;
        return static_cast<void>(++tally.npu);
      }
      if (!host) host = o;
    } catch (const Failure& f) {
      failure = f.error().found;
    }
  }
  if (host && failure.rfind("wrong", 0) != 0) {
    ++tally.host;
    ++tally.host_reasons[host->host_nodes ? host->reason.substr(0, host->reason.find('\n')) : "everything folds"];
  } else {
    ++tally.failed;
    const size_t line = failure.find(": no rule");
    std::string reason = line == std::string::npos ? failure : failure.substr(failure.find("\n    ") + 5, line - failure.find("\n    ") - 5) + ": no rule";
    std::replace(reason.begin(), reason.end(), '\n', ' ');
    if (const size_t at = reason.find(std::string(SYSTOLE_BUILD)); at != std::string::npos) reason = reason.substr(0, at) + reason.substr(reason.find("data/", at) + 5);
    tally.failures.emplace_back(fs::path(folder).filename(), reason.substr(0, 160));
  }
}

std::string page_of(const Tally& t, size_t cases) {
  auto percent = [&](int n) { return std::to_string(static_cast<double>(n) * 100 / static_cast<double>(cases)).substr(0, 4) + " %"; };
  std::string page = "# ONNX node tests\n\nWritten by the test `node_tests` from ONNX's own backend tests (fp32 policy, edge, rtol 1e-3, atol 1e-7; but 10 levels for JPEG pictures, whose decoders differ, and 1e-6 for the inverse DFT, whose expectation is noise near 0). Of " + std::to_string(cases) + " cases\n\n- " + std::to_string(t.npu + t.host) + " (" +
                     percent(t.npu + t.host) + ") pass;\n- " + std::to_string(t.npu) + " (" + percent(t.npu) + ") pass without a node on the host;\n- " + std::to_string(t.failed) + " do not pass.\n\n## Cases that do not pass\n\n| case | reason |\n|---|---|\n";
  for (const auto& [name, reason] : t.failures) page += "| " + name + " | " + reason + " |\n";
  page += "\n## Cases with nodes on the host, by the first of them\n\n| cases | node and reason |\n|---|---|\n";
  std::vector<std::pair<int, std::string>> order;
  for (const auto& [reason, n] : t.host_reasons) order.emplace_back(-n, reason);
  std::sort(order.begin(), order.end());
  for (const auto& [n, reason] : order) page += "| " + std::to_string(-n) + " | " + reason + " |\n";
  return page;
}

std::shared_ptr<const PlanContext> fp32_on_edge(bool by_definition) { return std::make_shared<const PlanContext>(PlanContext{load_machine("edge"), {DType::kF32, MacFormat::kF32}, "fp32", {}, {}, by_definition}); }

TEST(NodeTests, Microsoft) {
  const auto context = fp32_on_edge(false), reference = fp32_on_edge(true);
  const auto folders = case_folders(std::string(SYSTOLE_TESTS) + "/contrib");
  EXPECT_FALSE(folders.empty());
  Tally tally;
  for (const auto& folder : folders) run_best(folder, context, reference, tally);
  for (const auto& [name, reason] : tally.failures) ADD_FAILURE() << name << ": " << reason;
  for (const auto& [reason, n] : tally.host_reasons) std::printf("  %d with a host node, %s\n", n, reason.c_str());
  std::printf("  %d of %zu pass, %d of them without the host\n", tally.npu + tally.host, folders.size(), tally.npu);
}

TEST(NodeTests, AllOfThem) {
  const auto root = unpacked_node_tests("node-tests");
  if (!root) return;
  const bool only = std::getenv(kOnlyCase) != nullptr;
  const auto folders = case_folders(*root);
  const auto context = fp32_on_edge(false), reference = fp32_on_edge(true);
  Tally tally;
  for (const auto& folder : folders) run_best(folder, context, reference, tally);
  write_file(std::string(SYSTOLE_BUILD) + "/node-tests.md", page_of(tally, folders.size()));
  std::printf("  %d of %zu pass, %d of them without the host; %d fail\n", tally.npu + tally.host, folders.size(), tally.npu, tally.failed);
  if (!only) EXPECT_GE((tally.npu + tally.host) * 100, static_cast<int>(folders.size()) * 97);
  const auto page = read_file(std::string(SYSTOLE_TESTS) + "/../docs/node-tests.md");
  if (!only) EXPECT_EQ(page_of(tally, folders.size()), std::string(page.begin(), page.end())) << "docs/node-tests.md is not what this test wrote: copy " << SYSTOLE_BUILD << "/node-tests.md";
}

}  // namespace
}  // namespace systole
