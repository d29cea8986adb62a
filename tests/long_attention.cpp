// Attention whose scores exceed the scratchpad runs in blocks of rows: the bits of the reference evaluator, which knows no blocks;
// and the scores stay on chip.
#include <gtest/gtest.h>

#include <random>

#include "import/onnx.h"
#include "import/writer.h"
#include "passes/pipeline.h"
#include "runtime/plan.h"
#include "sim/check/race_checker.h"
#include "sim/timing/timing.h"

namespace systole {
namespace {

struct Case {
  const char* name;
  int64_t batch, heads, kv_heads, rows, columns, size;
  std::vector<ModelWriter::NamedAttribute> attributes;
  Shape mask;
};

std::string write(const Case& c) {
  const std::string file = std::string(SYSTOLE_BUILD) + "/attention-" + c.name + ".onnx";
  ModelWriter w(c.name, "attention", 23);
  w.input("q", DType::kF32, {c.batch, c.heads, c.rows, c.size});
  w.input("k", DType::kF32, {c.batch, c.kv_heads, c.columns, c.size});
  w.input("v", DType::kF32, {c.batch, c.kv_heads, c.columns, c.size});
  std::vector<std::string> in = {"q", "k", "v"};
  if (!c.mask.empty()) {
    std::mt19937_64 rng(3);
    Tensor mask(DType::kF32, c.mask);
    for (int64_t i = 0; i < mask.count(); ++i) mask.set(i, rng() % 4 ? 0 : -1e4);
    in.push_back(w.constant("mask", mask));
  }
  w.node("Attention", in, c.attributes, "y");
  w.output("y", DType::kF32, {c.batch, c.heads, c.rows, c.size});
  w.save(file);
  return file;
}

Timing timing_of(const isa::Program& p, const char* machine) { return simulate(isa::sequence(p.code, "test"), load_machine(machine)); }

std::unique_ptr<Plan> plan_of(const std::string& file, const char* machine, const char* precision, bool reference) {
  const FrontResult front = run_onnx_passes(import_onnx(file, {}), precision);
  auto context = std::make_shared<PlanContext>(PlanContext{load_machine(machine), front.policy, front.precision, {}, {}, reference});
  context->judge = judge_on(context->machine);
  return std::make_unique<Plan>(front.graph, context);
}

TEST(LongAttention, BlocksGiveTheBitsOfTheWhole) {
  const Case cases[] = {
      {"plain", 1, 3, 3, 260, 260, 16, {}, {}},
      {"causal", 1, 3, 3, 260, 260, 16, {{"is_causal", int64_t{1}}}, {}},
      {"cross", 2, 2, 2, 190, 333, 24, {}, {190, 333}},
      {"grouped", 1, 4, 2, 230, 230, 16, {{"is_causal", int64_t{1}}}, {}},
      {"per-batch", 2, 2, 2, 200, 200, 16, {{"softcap", 5.0f}}, {2, 1, 1, 200}},
      {"per-head", 2, 3, 3, 150, 180, 16, {{"scale", 0.3f}}, {2, 3, 150, 180}},
  };
  for (const Case& c : cases) {
    const std::string file = write(c);
    for (const char* precision : {"bf16", "fp32"}) {
      const std::string what = std::string(c.name) + " " + precision;
      const auto reference = plan_of(file, "nano", precision, true), tiled = plan_of(file, "nano", precision, false);
      std::mt19937_64 rng(11);
      std::vector<HostValue> in;
      for (const auto& b : reference->inputs()) {
        Tensor t(b.type, b.shape);
        for (int64_t i = 0; i < t.count(); ++i) t.set(i, static_cast<double>(static_cast<int64_t>(rng() % 4001) - 2000) * 1e-3);
        in.emplace_back(std::move(t));
      }
      EXPECT_EQ(tiled->run(in)[0].tensor->bytes, reference->run(in)[0].tensor->bytes) << what;
      const isa::Program& p = tiled->whole()->program;
      const int64_t scores = c.batch * c.heads * c.rows * c.columns * 2;
      EXPECT_LT(timing_of(p, "nano").dram_write_bytes, 2 * scores) << what;  // the whole would write scores and weights
      EXPECT_TRUE(check_races(p, load_machine("nano")).races.empty()) << what;
    }
  }
}

}  // namespace
}  // namespace systole
