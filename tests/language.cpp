// Language models: a step against the KV cache gives the bits of the full recompute at every position, in bf16 and fp32 and
// on machines of any size; greedy tokens are those of the reference evaluator; the whole command agrees with itself.
#include <gtest/gtest.h>

#include <cmath>

#include "import/onnx.h"
#include "passes/pipeline.h"
#include "runtime/plan.h"
#include "systole/systole.h"

namespace systole {
namespace {

std::string path(const char* name) { return std::string(SYSTOLE_BUILD) + "/" + name; }

std::unique_ptr<Plan> plan_of(const std::string& file, const char* machine, const char* precision, bool reference) {
  const FrontResult front = run_onnx_passes(import_onnx(file, {}), precision);
  return std::make_unique<Plan>(front.graph, std::make_shared<const PlanContext>(PlanContext{load_machine(machine), front.policy, front.precision, {}, {}, reference}));
}

/// Row r of [1, n, vocabulary] as bytes.
std::vector<uint8_t> row(const Tensor& logits, int64_t r) {
  const int64_t size = logits.shape.back() * bytes_of(logits.type);
  return {logits.bytes.begin() + r * size, logits.bytes.begin() + (r + 1) * size};
}

int64_t greatest(const std::vector<uint8_t>& bytes) {
  const float* v = reinterpret_cast<const float*>(bytes.data());
  return std::max_element(v, v + bytes.size() / 4) - v;
}

/// Logits of each position, one token at a time.
std::vector<std::vector<uint8_t>> cached_rows(Plan& plan, const std::vector<int64_t>& ids) {
  std::vector<HostValue> values;
  for (const auto& b : plan.inputs()) values.emplace_back(Tensor(b.type, b.shape));
  std::vector<std::vector<uint8_t>> rows;
  for (size_t t = 0; t < ids.size(); ++t) {
    values[0] = HostValue(Tensor::from_ints({ids[t]}, {1, 1})), values[1] = HostValue(Tensor::from_ints({static_cast<int64_t>(t)}, {1, 1}));
    const auto out = plan.run(values);
    for (size_t k = 2; k < values.size(); ++k) values[k] = out[k - 2];
    rows.push_back(row(*out.back().tensor, 0));
  }
  return rows;
}

TEST(Language, CachedStepsAreTheFullRecompute) {
  write_architecture("gpt2-tiny", path("gpt2-tiny.onnx"), 7, 24).value();
  write_architecture("gpt2-tiny-cached", path("gpt2-tiny-cached.onnx"), 7, 24).value();
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < 24; ++i) ids.push_back(i * 97 % 512);
  for (const char* precision : {"bf16", "fp32"}) {
    for (const char* machine : {"nano", "edge"}) {
      const Tensor full = *plan_of(path("gpt2-tiny.onnx"), machine, precision, false)->run({HostValue(Tensor::from_ints(ids, {1, 24}))})[0].tensor;
      const auto rows = cached_rows(*plan_of(path("gpt2-tiny-cached.onnx"), machine, precision, false), ids);
      for (int64_t t = 0; t < 24; ++t) EXPECT_EQ(rows[static_cast<size_t>(t)], row(full, t)) << precision << " on " << machine << ", position " << t;
    }
  }
}

TEST(Language, GreedyTokensAreTheReferences) {
  write_architecture("gpt2-tiny", path("gpt2-greedy.onnx"), 3, 24).value();
  GenerateTokens options;
  options.prompt = {11, 400, 23, 5};
  options.tokens = 12;
  const Generation g = generate_tokens(path("gpt2-greedy.onnx"), {}, options).value();
  EXPECT_EQ(g.decoded, 12);
  EXPECT_TRUE(g.recomputes);
  const auto reference = plan_of(path("gpt2-greedy.onnx"), "edge", "bf16", true);
  std::vector<int64_t> ids = options.prompt;
  while (ids.size() < g.ids.size()) {
    auto padded = ids;
    padded.resize(24, 0);
    ids.push_back(greatest(row(*reference->run({HostValue(Tensor::from_ints(padded, {1, 24}))})[0].tensor, static_cast<int64_t>(ids.size()) - 1)));
  }
  EXPECT_EQ(g.ids, ids);
}

TEST(Language, StopsWhereItIsTold) {
  write_architecture("gpt2-tiny-cached", path("gpt2-stop.onnx"), 3, 16).value();
  GenerateTokens options;
  options.prompt = {1, 2, 3};
  options.tokens = 100;
  EXPECT_EQ(generate_tokens(path("gpt2-stop.onnx"), {}, options).value().ids.size(), 17u);  // the cache is full
  int count = 0;
  EXPECT_EQ(generate_tokens(path("gpt2-stop.onnx"), {}, options, [&](int64_t) { return ++count < 3; }).value().decoded, 3);
  options.prompt.clear();
  EXPECT_FALSE(generate_tokens(path("gpt2-stop.onnx"), {}, options));
  options.prompt = {100000};
  EXPECT_FALSE(generate_tokens(path("gpt2-stop.onnx"), {}, options));  // no such token
}

/// A cache that grows with each call, as exporters write decoders: whatever the chunks and buckets, the tokens of the recompute.
TEST(Language, GrowingCachesGiveTheTokensOfTheRecompute) {
  write_architecture("llama-tiny", path("llama-tiny.onnx"), 5, 64).value();
  write_architecture("llama-tiny-cached", path("llama-tiny-cached.onnx"), 5, 32).value();
  CompileOptions compile_options;
  compile_options.precision = "fp32";
  GenerateTokens options;
  for (int64_t i = 0; i < 21; ++i) options.prompt.push_back(i * 89 % 512);
  options.tokens = 30;
  const Generation whole = generate_tokens(path("llama-tiny.onnx"), compile_options, options).value();
  for (const auto& [bucket, chunk] : {std::pair<int64_t, int64_t>{8, 5}, {32, 16}, {64, 1}, {64, 100}}) {
    options.bucket = bucket, options.prefill_chunk = chunk;
    const Generation g = generate_tokens(path("llama-tiny-cached.onnx"), compile_options, options).value();
    EXPECT_EQ(g.ids, whole.ids) << "bucket " << bucket << ", chunk " << chunk;
    EXPECT_FALSE(g.recomputes);
    EXPECT_GT(g.cache_bytes, 0);
  }
}

/// int8 caches: entries that only pass through a step keep their bits; the logits stay near those of the float cache.
TEST(Language, NarrowCachesKeepTheirEntries) {
  write_architecture("gpt2-tiny-cached", path("gpt2-narrow.onnx"), 9, 24).value();
  CompileOptions narrow;
  narrow.int8_cache = true;
  for (const char* precision : {"bf16", "fp32"}) {
    narrow.precision = precision;
    CompileOptions wide = narrow;
    wide.int8_cache = false;
    const Compiled a = compile(path("gpt2-narrow.onnx"), narrow).value().model, b = compile(path("gpt2-narrow.onnx"), wide).value().model;
    auto blank = [](const Compiled& m) {
      std::vector<Tensor> v;
      for (const auto& i : inputs_of(m)) v.emplace_back(i.type, i.shape);
      return v;
    };
    std::vector<Tensor> va = blank(a), vb = blank(b);
    const auto ia = inputs_of(a), ib = inputs_of(b), oa = outputs_of(a), ob = outputs_of(b);
    double worst = 0;
    auto step = [&](const Compiled& m, std::vector<Tensor>& v, const std::vector<TensorInfo>& in, const std::vector<TensorInfo>& out, int64_t t) {
      v[0].set_int(0, t * 97 % 512), v[1].set_int(0, t);
      const auto y = run(m, v).value();
      for (size_t k = 2; k < in.size(); ++k) {
        for (size_t j = 0; j < out.size(); ++j) {
          if (out[j].name != "present" + in[k].name.substr(4)) continue;
          const int64_t row = in[k].shape[3] * bytes_of(in[k].type), heads = in[k].shape[1], capacity = in[k].shape[2];
          for (int64_t h = 0; h < heads; ++h) {
            for (int64_t i = 0; i < t * row; ++i) EXPECT_EQ(y[j].bytes[static_cast<size_t>(h * capacity * row + i)], v[k].bytes[static_cast<size_t>(h * capacity * row + i)]) << in[k].name << " " << precision;
          }
          v[k] = y[j];
        }
      }
      for (size_t j = 0; j < out.size(); ++j) {
        if (out[j].name == "logits") return y[j];
      }
      return Tensor();
    };
    for (int64_t t = 0; t < 24; ++t) {
      const Tensor x = step(a, va, ia, oa, t), y = step(b, vb, ib, ob, t);
      double most = 0;
      for (int64_t i = 0; i < y.count(); ++i) most = std::max(most, std::fabs(y.at(i)));
      for (int64_t i = 0; i < y.count(); ++i) worst = std::max(worst, std::fabs(x.at(i) - y.at(i)) / most);
    }
    EXPECT_LT(worst, 0.05) << precision;
    EXPECT_GT(worst, 0) << precision;  // it is not the float cache
  }
  EXPECT_FALSE(compile(path("gpt2-greedy.onnx"), narrow));  // no cache to narrow
}

}  // namespace
}  // namespace systole
