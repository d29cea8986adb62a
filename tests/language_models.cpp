// GPT-2 small at its real size: greedy tokens against the cache are those of the reference evaluator; a step against the cache gives
// the bits of the full recompute.
#include <gtest/gtest.h>

#include "import/onnx.h"
#include "passes/pipeline.h"
#include "runtime/plan.h"
#include "systole/systole.h"

namespace systole {
namespace {

TEST(LanguageModels, Gpt2SmallDecodesLikeItsReference) {
  const std::string file = std::string(SYSTOLE_BUILD) + "/gpt2-small-cached.onnx";
  write_architecture("gpt2-cached", file, 1, 32).value();
  GenerateTokens options;
  options.prompt = {464, 3290, 318};
  options.tokens = 6;
  const Generation g = generate_tokens(file, {}, options).value();
  ASSERT_EQ(g.decoded, 6);
  const FrontResult front = run_onnx_passes(import_onnx(file, {}), "bf16");
  Plan plan(front.graph, std::make_shared<const PlanContext>(PlanContext{load_machine("edge"), front.policy, front.precision, {}, {}, true}));
  std::vector<HostValue> values;
  for (const auto& b : plan.inputs()) values.emplace_back(Tensor(b.type, b.shape));
  std::vector<int64_t> ids = options.prompt;
  for (int64_t t = 0; ids.size() < g.ids.size(); ++t) {
    values[0] = HostValue(Tensor::from_ints({ids[static_cast<size_t>(t)]}, {1, 1})), values[1] = HostValue(Tensor::from_ints({t}, {1, 1}));
    const auto out = plan.run(values);
    for (size_t k = 2; k < values.size(); ++k) values[k] = out[k - 2];
    if (t + 1 < static_cast<int64_t>(ids.size())) continue;
    const Tensor& logits = *out.back().tensor;
    int64_t best = 0;
    for (int64_t i = 1; i < logits.count(); ++i) best = logits.at(i) > logits.at(best) ? i : best;
    ids.push_back(best);
  }
  EXPECT_EQ(g.ids, ids);
}

TEST(LanguageModels, Gpt2SmallsCachedStepsAreTheFullRecompute) {
  constexpr int64_t kTokens = 12;
  const std::string full = std::string(SYSTOLE_BUILD) + "/gpt2-small-full.onnx", cached = std::string(SYSTOLE_BUILD) + "/gpt2-small-steps.onnx";
  write_architecture("gpt2", full, 2, kTokens).value();
  write_architecture("gpt2-cached", cached, 2, kTokens).value();
  CompileOptions options;
  options.cache = false;
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < kTokens; ++i) ids.push_back(i * 4099 % 50257);
  const Tensor all = run(compile(full, options).value().model, {Tensor::from_ints(ids, {1, kTokens})}).value()[0];
  const Compiled step = compile(cached, options).value().model;
  std::vector<Tensor> values;
  for (const auto& i : inputs_of(step)) values.emplace_back(i.type, i.shape);
  const auto outputs = outputs_of(step);
  ASSERT_EQ(outputs.back().name, "logits");
  const size_t row = static_cast<size_t>(all.shape[2]) * 4;
  for (int64_t t = 0; t < kTokens; ++t) {
    values[0] = Tensor::from_ints({ids[static_cast<size_t>(t)]}, {1, 1}), values[1] = Tensor::from_ints({t}, {1, 1});
    auto out = run(step, values).value();
    EXPECT_EQ(out.back().bytes, std::vector<uint8_t>(all.bytes.begin() + t * static_cast<int64_t>(row), all.bytes.begin() + (t + 1) * static_cast<int64_t>(row))) << "position " << t;
    for (size_t k = 2; k < values.size(); ++k) values[k] = std::move(out[k - 2]);
  }
}

}  // namespace
}  // namespace systole
