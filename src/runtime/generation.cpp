// Greedy or sampled decoding with a language model, prefill and decode apart.
#include "runtime/generation.h"

#include "base/file.h"
#include "import/onnx.h"
#include "runtime/compiled.h"

namespace systole {
namespace {

using Clock = std::chrono::steady_clock;

/// The whole sequence for each token, padded to a bucket on the right: causal models do not see what follows.
void run_recomputing(Session& s, const std::string& path, const CompileOptions& base, const std::string& input, int64_t fixed) {
  Compiled model;
  int64_t bucket = 0;
  bool more = true;
  while (more) {
    const int64_t length = static_cast<int64_t>(s.result.ids.size());
    if (length > bucket) {
      if (fixed && length > fixed) return;  // the model's own limit
      bucket = fixed ? fixed : std::max<int64_t>(s.o.bucket, (length + s.o.bucket - 1) / s.o.bucket * s.o.bucket);
      CompileOptions options = base;
      options.input_shapes[input] = {1, bucket};
      CompileResult r = compile(path, options).value();
      s.result.compile_s += r.seconds;
      model = r.model;
      s.result.clock_hz = profile(model).value().clock_hz;
    }
    std::vector<int64_t> padded = s.result.ids;
    padded.resize(static_cast<size_t>(bucket), 0);
    const auto begin = Clock::now();
    const auto out = run(model, {Tensor::from_ints(padded, {1, bucket})}).value();
    if (out[0].shape.size() != 3 || out[0].shape[1] != bucket) fail(ErrorCode::kMismatch, path, "first output of shape " + to_string(out[0].shape), "logits [1, length, vocabulary]");
    const bool first = s.result.decoded == 0;
    (first ? s.result.prefill_host_s : s.result.decode_host_s) += seconds_since(begin);
    s.charge(profile(model).value(), first);
    more = s.add(s.sampler.pick(out[0], length - 1));
  }
}

/// One token at a time against caches that the model returns (inputs past_*, outputs present_* of one shape, and position).
void run_cached(Session& s, const Compiled& model) {
  const auto inputs = inputs_of(model), outputs = outputs_of(model);
  std::vector<Tensor> values;
  std::vector<int> from(inputs.size(), -1);
  size_t ids = 0, position = 0, logits = 0;
  int64_t capacity = INT64_MAX;
  for (size_t k = 0; k < inputs.size(); ++k) {
    values.emplace_back(inputs[k].type, inputs[k].shape);
    if (inputs[k].name == "input_ids") ids = k;
    else if (inputs[k].name == "position") position = k;
    else {
      for (size_t j = 0; j < outputs.size(); ++j) {
        if (outputs[j].name == "present" + inputs[k].name.substr(4)) from[k] = static_cast<int>(j);
      }
      if (from[k] < 0 || inputs[k].shape.size() != 4) fail(ErrorCode::kMismatch, "input '" + inputs[k].name + "'", "no output present" + inputs[k].name.substr(4), "a cache of shape [1, heads, capacity, size] on both sides");
      capacity = std::min(capacity, inputs[k].shape[2]);
      s.result.cache_bytes += static_cast<int64_t>(values.back().bytes.size());
    }
  }
  for (size_t j = 0; j < outputs.size(); ++j) logits = outputs[j].name == "logits" ? j : logits;
  const Report step = profile(model).value();
  bool more = true;
  for (int64_t at = 0; more && at < capacity; ++at) {
    values[ids].set_int(0, s.result.ids[static_cast<size_t>(at)]);
    values[position].set_int(0, at);
    const auto begin = Clock::now();
    auto out = run(model, values).value();
    for (size_t k = 0; k < inputs.size(); ++k) {
      if (from[k] >= 0) values[k] = std::move(out[static_cast<size_t>(from[k])]);
    }
    const bool prompt = at + 1 < static_cast<int64_t>(s.o.prompt.size()) || s.result.decoded == 0;
    (prompt ? s.result.prefill_host_s : s.result.decode_host_s) += seconds_since(begin);
    s.charge(step, prompt);
    if (at + 1 >= static_cast<int64_t>(s.o.prompt.size())) more = s.add(s.sampler.pick(out[logits], 0));
  }
}

}  // namespace

Result<Generation> generate_tokens(const std::string& onnx_path, const CompileOptions& compile_options, const GenerateTokens& options, const TokenSink& sink) {
  return catch_failures([&] {
    if (options.prompt.empty()) fail(ErrorCode::kBadInput, "prompt", "no tokens", "one or more");
    if (options.bucket < 1) fail(ErrorCode::kBadInput, "--bucket", std::to_string(options.bucket), "1 or more");
    const Bytes bytes = map_file(onnx_path);
    const auto names = input_names(bytes.data(), bytes.size(), onnx_path);
    Session s(options, sink);
    const bool cached = std::count(names.begin(), names.end(), "position") > 0;
    const bool grows = !cached && std::any_of(names.begin(), names.end(), [](const std::string& n) { return n.rfind("past", 0) == 0; });
    if (cached) {
      CompileResult r = compile(onnx_path, compile_options).value();
      s.result.compile_s = r.seconds;
      s.result.clock_hz = profile(r.model).value().clock_hz;
      run_cached(s, r.model);
    } else if (grows) {
      run_growing(s, onnx_path, compile_options, names);
    } else {
      if (names.size() != 1) fail(ErrorCode::kUnsupported, onnx_path, std::to_string(names.size()) + " inputs", "token ids alone; input_ids, position and past_*; or input_ids with attention_mask, position_ids and past_key_values.*");
      const int64_t fixed = fixed_extent(bytes.data(), bytes.size(), onnx_path, names[0], 1);
      run_recomputing(s, onnx_path, compile_options, names[0], fixed);
    }
    s.result.recomputes = !cached && !grows;
    return s.result;
  });
}

}  // namespace systole
