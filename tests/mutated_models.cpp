// Damaged models through the whole compiler and the functional model: 20 seeded mutations of each ONNX node test that fits;
// every one must end in an error or in a result, never in a crash or a broken invariant.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "base/error.h"
#include "base/file.h"
#include "import/onnx.h"
#include "import/tensor_file.h"
#include "passes/pipeline.h"
#include "runtime/plan.h"

namespace systole {
namespace {
namespace fs = std::filesystem;

bool large(const Graph& g, int64_t limit) {
  return std::any_of(g.values.begin(), g.values.end(), [&](const Value& v) { return v.shape_known && element_count(v.shape) > limit; });
}

/// The case's own data where it still fits, otherwise zeros.
HostValue input_for(const std::string& folder, size_t k, const Plan::Boundary& b) {
  const std::string path = folder + "/test_data_set_0/input_" + std::to_string(k) + ".pb";
  if (fs::exists(path)) {
    try {
      Tensor t = read_tensor_file(path);
      if (t.type == b.type && t.shape == b.shape) return HostValue(std::move(t));
    } catch (const Failure&) {
    }
  }
  return b.known ? HostValue(blank(b.type, b.shape)) : HostValue();
}

/// True when the damaged model still compiles and runs, host operators included.
bool survives(const std::vector<uint8_t>& bytes, const std::string& folder, const std::shared_ptr<const PlanContext>& context) {
  try {
    Graph graph = import_onnx_bytes(bytes.data(), bytes.size(), "mutated", "", {});
    if (large(graph, 1 << 16)) return false;  // slow, not wrong
    graph = run_onnx_passes(std::move(graph), "bf16").graph;
    const Partition p = partition(graph, context->policy);
    if (large(p.primitives, 1 << 18) || p.graph.nodes.size() > 200) return false;
    for (const auto& step : p.steps) {
      if (const auto* r = std::get_if<Region>(&step); r && large(r->graph, 1 << 16)) return false;
    }
    Plan plan(std::move(graph), context);
    std::vector<HostValue> inputs;
    for (size_t k = 0; k < plan.inputs().size(); ++k) inputs.push_back(input_for(folder, k, plan.inputs()[k]));
    plan.run(inputs);
    return true;
  } catch (const Failure&) {
    return false;
  }
}

TEST(MutatedModels, EndInErrorsOrResults) {
  const std::string archive = std::string(SYSTOLE_SHARED) + "/models/onnx-node-tests.tar.zst", root = std::string(SYSTOLE_BUILD) + "/mutated-models";
  std::vector<std::string> files;
  auto collect = [&](const std::string& from) {
    for (const auto& e : fs::recursive_directory_iterator(from)) {
      if (e.path().extension() == ".onnx" && fs::file_size(e.path()) < 200000) files.push_back(e.path().string());
    }
  };
  collect(std::string(SYSTOLE_TESTS) + "/contrib");
  const bool shared = file_exists(archive);
  if (shared) {
    fs::create_directories(root);
    ASSERT_EQ(std::system(("tar --zstd -xf '" + archive + "' -C '" + root + "'").c_str()), 0);
    collect(root);
  } else {
    std::printf("  no ../shared/models here: the models of tests/contrib alone\n");
  }
  std::sort(files.begin(), files.end());
  const auto context = std::make_shared<const PlanContext>(PlanContext{load_machine("nano"), {DType::kBF16, MacFormat::kBF16}, "bf16", {}});
  host_limits() = {1 << 16, 1000};
  std::mt19937_64 rng(std::getenv("SYSTOLE_SEED") ? std::strtoull(std::getenv("SYSTOLE_SEED"), nullptr, 10) : 1);
  int tried = 0, ran = 0;
  for (const auto& file : files) {
    const auto bytes = read_file(file);
    const int mutations = file.find("/contrib/") != std::string::npos ? 200 : 20;
    for (int k = 0; k < mutations; ++k, ++tried) {
      auto damaged = bytes;
      for (uint64_t i = 0, n = 1 + rng() % 3; i < n; ++i) {
        uint8_t& at = damaged[rng() % damaged.size()];
        switch (rng() % 3) {
          case 0: at = static_cast<uint8_t>(at ^ (1u << (rng() % 8))); break;
          case 1: at = static_cast<uint8_t>(rng()); break;
          default: at = rng() % 2 ? 0 : 255;
        }
      }
      try {
        ran += survives(damaged, fs::path(file).parent_path().string(), context);
      } catch (const std::exception& e) {
        ADD_FAILURE() << file << " mutation " << k << ": " << e.what();
      }
    }
  }
  std::printf("  %d mutations of %zu models: %d still run, the others give errors\n", tried, files.size(), ran);
  EXPECT_GT(ran, shared ? 500 : 50);
}

}  // namespace
}  // namespace systole
