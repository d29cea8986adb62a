// The ONNX backend tests (../shared/models/onnx-node-tests.tar.zst): whatever compiles must give the expected outputs at
// ONNX's own tolerances (rtol 1e-3, atol 1e-7) in fp32 on edge. What does not compile yet is counted per operator in
// node-tests.md. int64 and scalar side inputs (shapes, axes, bounds) are bound at compile time; where that is not enough,
// all inputs but the first are (weights, which models hold as constants).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "codegen/compile.h"
#include "import/onnx.h"
#include "import/tensor_file.h"
#include "passes/pipeline.h"
#include "sim/functional/executor.h"

namespace systole {
namespace {
namespace fs = std::filesystem;

std::vector<Tensor> read_all(const std::string& folder, const char* kind) {
  std::vector<Tensor> list;
  for (int i = 0;; ++i) {
    const std::string path = folder + "/test_data_set_0/" + kind + "_" + std::to_string(i) + ".pb";
    if (!fs::exists(path)) return list;
    list.push_back(read_tensor_file(path));
  }
}

std::string difference(const std::vector<Tensor>& got, const std::vector<Tensor>& want) {
  if (got.size() < want.size()) return "too few outputs";
  for (size_t k = 0; k < want.size(); ++k) {
    if (got[k].shape != want[k].shape) return "shape " + to_string(got[k].shape) + " for " + to_string(want[k].shape);
    for (int64_t i = 0; i < want[k].count(); ++i) {
      const double a = want[k].at(i), b = got[k].at(i);
      if (a == b || (std::isnan(a) && std::isnan(b)) || std::fabs(a - b) <= 1e-7 + 1e-3 * std::fabs(a)) continue;
      return "element " + std::to_string(i) + " is " + std::to_string(b) + ", expected " + std::to_string(a);
    }
  }
  return "";
}

/// "" when the outputs agree; throws Failure when the model does not compile.
std::string run_case(const std::string& folder, const Machine& machine, bool bind_all) {
  const auto inputs = read_all(folder, "input"), expected = read_all(folder, "output");
  const auto bytes = read_file(folder + "/model.onnx");
  // Names of the inputs, in order, from a first import that may fail on unbound dimensions only.
  ImportOptions options;
  const auto names = input_names(bytes.data(), bytes.size(), folder);
  std::map<std::string, const Tensor*> run_time;
  for (size_t i = 0; i < inputs.size() && i < names.size(); ++i) {
    const Tensor& t = inputs[i];
    if (t.type == DType::kI64 || t.count() == 0 || (i > 0 && (bind_all || t.count() == 1))) options.constant_inputs[names[i]] = std::make_shared<Tensor>(t);
    else options.input_shapes[names[i]] = t.shape, run_time[names[i]] = &t;
  }
  const FrontResult front = run_front(import_onnx_bytes(bytes.data(), bytes.size(), folder, folder, options), "fp32");
  std::vector<Tensor> data;
  for (ValueId v : front.graph.inputs) data.push_back(*run_time.at(front.graph.value(v).name));
  return difference(Functional(generate(front.graph, machine, front.precision), machine).run(data), expected);
}

TEST(NodeTests, WhatCompilesIsRight) {
  const std::string archive = std::string(SYSTOLE_SHARED) + "/models/onnx-node-tests.tar.zst", root = std::string(SYSTOLE_BUILD) + "/node-tests";
  if (!file_exists(archive)) {
    std::printf("no ../shared/models here: nothing to compare with\n");
    return;
  }
  fs::create_directories(root);
  ASSERT_EQ(std::system(("tar --zstd -xf '" + archive + "' -C '" + root + "'").c_str()), 0);
  std::vector<std::string> folders;
  for (const auto& e : fs::recursive_directory_iterator(root)) {
    if (e.path().filename() == "model.onnx") folders.push_back(e.path().parent_path().string());
  }
  std::sort(folders.begin(), folders.end());
  const Machine machine = load_machine("edge");
  int passed = 0, bound = 0;
  std::map<std::string, int> reasons;
  auto attempt = [&](const std::string& folder) {
    try {
      return run_case(folder, machine, false);
    } catch (const Failure& f) {
      if (f.error().code != ErrorCode::kUnsupported) throw;
    }
    const std::string wrong = run_case(folder, machine, true);
    ++bound;
    return wrong;
  };
  for (const auto& folder : folders) {
    try {
      const std::string wrong = attempt(folder);
      EXPECT_EQ(wrong, "") << fs::path(folder).filename();
      passed += wrong.empty();
    } catch (const Failure& f) {
      std::string reason = f.error().found;
      const size_t colon = reason.find("implementation:");
      if (colon != std::string::npos) reason = "no rule for " + reason.substr(colon + 20, reason.find(" x ", colon) - colon - 20);
      else reason = f.error().where.substr(f.error().where.rfind('(') == std::string::npos ? 0 : f.error().where.rfind('(')) + " " + reason;
      if (reason.find(root) != std::string::npos) reason = reason.substr(reason.rfind(root) + root.size());
      ++reasons[reason.substr(0, 120)];
    }
  }
  std::string page = "# ONNX node tests\n\nWritten by the test `node_tests`: " + std::to_string(passed) + " of " + std::to_string(folders.size()) +
                     " cases compile and give the expected outputs (fp32 policy, edge), " + std::to_string(bound) +
                     " of them with all inputs but the first bound at compile time;\nnone gives a wrong one. The others do not compile yet:\n\n| cases | reason |\n|---|---|\n";
  std::vector<std::pair<int, std::string>> order;
  for (const auto& [reason, n] : reasons) order.emplace_back(-n, reason);
  std::sort(order.begin(), order.end());
  for (const auto& [n, reason] : order) page += "| " + std::to_string(-n) + " | " + reason + " |\n";
  write_file(std::string(SYSTOLE_BUILD) + "/node-tests.md", page);
  std::printf("  %d of %zu pass, %zu do not compile\n", passed, folders.size(), folders.size() - static_cast<size_t>(passed));
  EXPECT_GE(passed, 600);
}

}  // namespace
}  // namespace systole
