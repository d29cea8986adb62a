// systole generate: tokens from a language model, streamed.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <sstream>

#include "command.h"
#include "text/tokenizer.h"

namespace systole::cli {
namespace {

struct Options {
  ModelOptions model;
  GenerateTokens generate;
  std::string prompt, ids, tokenizer, json, cache_type = "float";
};

std::vector<int64_t> parse_ids(const std::string& text) {
  std::vector<int64_t> ids;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) {
    char* end = nullptr;
    const long long v = std::strtoll(part.c_str(), &end, 10);
    if (part.empty() || *end || v < 0) fail(ErrorCode::kBadInput, "--ids", "'" + part + "'", "token ids of 0 or more, with commas");
    ids.push_back(v);
  }
  return ids;
}

double rate(int64_t tokens, int64_t cycles, double clock_hz) { return cycles ? static_cast<double>(tokens) * clock_hz / static_cast<double>(cycles) : 0; }

std::string summary(const Generation& g, int64_t prompt) {
  const int64_t decode_steps = std::max<int64_t>(g.decoded - 1, 0);
  std::string t = fmt::format("\n  prefill  {} tokens in {:.3f} ms of the NPU ({:.0f} tokens/s), {:.3g} mJ a token; {:.2f} s of this computer\n", prompt, static_cast<double>(g.prefill_cycles) / g.clock_hz * 1e3, rate(prompt, g.prefill_cycles, g.clock_hz), 1e3 * g.prefill_j / static_cast<double>(std::max<int64_t>(1, prompt)), g.prefill_host_s);
  t += fmt::format("  decode   {} tokens in {:.3f} ms ({:.0f} tokens/s), {:.3g} mJ a token; {:.2f} s of this computer\n", decode_steps, static_cast<double>(g.decode_cycles) / g.clock_hz * 1e3, rate(decode_steps, g.decode_cycles, g.clock_hz), 1e3 * g.decode_j / static_cast<double>(std::max<int64_t>(1, decode_steps)), g.decode_host_s);
  t += g.recomputes ? "  cache    none: each token runs the whole sequence\n" : fmt::format("  cache    {} bytes of keys and values\n", g.cache_bytes);
  return t + fmt::format("  compiled in {:.2f} s\n", g.compile_s);
}

void execute(const Options& options) {
  Options o = options;
  std::unique_ptr<Tokenizer> tokenizer;
  if (!o.tokenizer.empty()) tokenizer = std::make_unique<Tokenizer>(o.tokenizer);
  if (o.prompt.empty() == o.ids.empty()) fail(ErrorCode::kBadInput, "prompt", "no prompt, or two", "--prompt TEXT with --tokenizer, or --ids");
  if (!o.prompt.empty() && !tokenizer) fail(ErrorCode::kBadInput, "--prompt", "no tokenizer", "--tokenizer tokenizer.json", "or give token ids with --ids");
  o.generate.prompt = o.ids.empty() ? tokenizer->encode(o.prompt) : parse_ids(o.ids);
  const bool stream = o.json != "-";
  std::vector<int64_t> fresh;
  size_t printed = 0;
  const auto sink = [&](int64_t token) {
    fresh.push_back(token);
    if (!stream) return true;
    if (!tokenizer) fmt::print("{}{}", fresh.size() > 1 ? " " : "", token);
    else {
      const std::string text = tokenizer->decode(fresh);
      fmt::print("{}", text.substr(std::min(printed, text.size())));
      printed = text.size();
    }
    std::fflush(stdout);
    return true;
  };
  CompileOptions compile_options = o.model.compile_options();
  compile_options.int8_cache = o.cache_type == "int8";
  const Generation g = generate_tokens(o.model.model, compile_options, o.generate, sink).value();
  if (stream) fmt::print("{}", summary(g, static_cast<int64_t>(o.generate.prompt.size())));
  if (o.json.empty()) return;
  std::string ids;
  for (int64_t id : g.ids) ids += (ids.empty() ? "" : ", ") + std::to_string(id);
  write_text(o.json, fmt::format("{{\"ids\": [{}], \"decoded\": {}, \"recomputes\": {}, \"prefill_cycles\": {}, \"decode_cycles\": {}, \"clock_hz\": {}, \"cache_bytes\": {}, \"prefill_j\": {}, \"decode_j\": {}, \"prefill_host_s\": {:.6f}, \"decode_host_s\": {:.6f}, \"compile_s\": {:.6f}}}\n", ids,
                                  g.decoded, g.recomputes, g.prefill_cycles, g.decode_cycles, g.clock_hz, g.cache_bytes, g.prefill_j, g.decode_j, g.prefill_host_s, g.decode_host_s, g.compile_s));
}

}  // namespace

void add_generate(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("generate", "Generate tokens with a language model, prefill and decode timed apart");
  o->model.add_to(*c);
  c->add_option("--prompt,-p", o->prompt, "text to continue (needs --tokenizer)");
  c->add_option("--ids", o->ids, "token ids to continue, with commas");
  c->add_option("--tokenizer", o->tokenizer, "tokenizer.json: BPE or WordPiece");
  c->add_option("--tokens,-n", o->generate.tokens, "new tokens at most")->capture_default_str();
  c->add_option("--end", o->generate.end_token, "token id that ends the text");
  c->add_option("--temperature", o->generate.temperature, "0: the greatest logit; otherwise softmax(logits / T) is sampled")->capture_default_str();
  c->add_option("--top-k", o->generate.top_k, "sample among the k greatest, 0 for all")->capture_default_str();
  c->add_option("--seed", o->generate.seed, "seed of the sampling")->capture_default_str();
  c->add_option("--bucket", o->generate.bucket, "lengths without a cache are rounded up to multiples of this, each compiled once; a growing cache begins with it and doubles")->capture_default_str();
  c->add_option("--prefill-chunk", o->generate.prefill_chunk, "prompt tokens at once into a growing cache")->capture_default_str();
  c->add_option("--kv-cache", o->cache_type, "float, or int8 with a scale per token and head")->capture_default_str()->check(CLI::IsMember({"float", "int8"}));
  c->add_option("--json", o->json, "write ids and times as JSON to a file, or - for standard output");
  c->footer("Examples:\n  systole model gpt2-cached -o gpt2.onnx && systole generate gpt2.onnx --ids 464,3290,318 -n 16\n  systole generate model.onnx --tokenizer tokenizer.json --prompt \"The heart\"");
  c->callback([o] { execute(*o); });
}

}  // namespace systole::cli
