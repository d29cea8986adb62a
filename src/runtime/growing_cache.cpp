// Decoding with models whose cache grows by each call. A program has one size, so the cache is kept in a bucket of fixed capacity,
// its entries at the end and the free places before them hidden by the mask: one compile per bucket, not one per length.
#include <map>

#include "base/file.h"
#include "import/onnx.h"
#include "runtime/compiled.h"
#include "runtime/generation.h"

namespace systole {
namespace {

class GrowingCache {
 public:
  GrowingCache(Session& s, const std::string& path, const CompileOptions& base, const std::vector<std::string>& inputs) : s_(s), path_(path), base_(base), names_(inputs) {
    const Bytes bytes = map_file(path);
    for (const std::string& name : inputs) {
      if (name.rfind("past", 0) != 0) {
        if (name != "input_ids" && name != "attention_mask" && name != "position_ids") fail(ErrorCode::kUnsupported, path, "input '" + name + "'", "input_ids, attention_mask, position_ids and past_key_values.*");
        continue;
      }
      const int64_t heads = fixed_extent(bytes.data(), bytes.size(), path, name, 1), size = fixed_extent(bytes.data(), bytes.size(), path, name, 3);
      if (heads < 1 || size < 1) fail(ErrorCode::kUnsupported, path, "cache '" + name + "' without fixed heads and size", "[batch, heads, past, size] with only batch and past symbolic");
      past_[name] = Tensor(base.int8_cache ? DType::kI8 : DType::kF32, {1, heads, 0, size});
      if (base.int8_cache) past_[name + ".scale"] = Tensor(DType::kF32, {1, heads, 0, 1});
    }
    if (!std::count(names_.begin(), names_.end(), "input_ids") || !std::count(names_.begin(), names_.end(), "attention_mask")) {
      fail(ErrorCode::kUnsupported, path, "a growing cache without input_ids or attention_mask", "both: the mask hides what is free of a bucket");
    }
  }

  /// Feeds tokens; the logits of the last one.
  Tensor feed(const std::vector<int64_t>& tokens, bool prompt) {
    const int64_t t = static_cast<int64_t>(tokens.size());
    reserve(used_ + t);
    const Compiled model = model_for(t);
    std::vector<Tensor> values;
    for (const TensorInfo& in : inputs_of(model)) values.push_back(value_of(in, tokens));
    const auto begin = std::chrono::steady_clock::now();
    auto out = run(model, values).value();
    (prompt ? s_.result.prefill_host_s : s_.result.decode_host_s) += seconds_since(begin);
    s_.charge(profile(model).value(), prompt);
    used_ += t;
    return keep(outputs_of(model), std::move(out));
  }

 private:
  /// The caches, `capacity` long, hold at least `length` entries.
  void reserve(int64_t length) {
    if (length <= capacity_) return;
    const int64_t before = capacity_;
    while (capacity_ < length) capacity_ = std::max(s_.o.bucket, 2 * capacity_);
    models_.clear();
    s_.result.cache_bytes = 0;
    for (auto& [name, t] : past_) {
      Tensor wide(t.type, {1, t.shape[1], capacity_, t.shape[3]});
      copy_entries(t, before - std::min(used_, before), wide, capacity_ - std::min(used_, before), std::min(used_, before));
      t = std::move(wide);
      s_.result.cache_bytes += static_cast<int64_t>(t.bytes.size());
    }
  }
  static void copy_entries(const Tensor& from, int64_t first, Tensor& to, int64_t at, int64_t count) {
    const int64_t entry = from.shape[3] * bytes_of(from.type);
    for (int64_t h = 0; h < from.shape[1]; ++h) {
      std::copy_n(from.bytes.begin() + (h * from.shape[2] + first) * entry, count * entry, to.bytes.begin() + (h * to.shape[2] + at) * entry);
    }
  }

  Compiled model_for(int64_t t) {
    Compiled& model = models_[t];
    if (model) return model;
    CompileOptions options = base_;
    for (const std::string& name : names_) options.input_shapes[name] = name == "attention_mask" ? Shape{1, capacity_ + t} : Shape{1, t};
    for (const auto& [name, cache] : past_) {
      if (std::count(names_.begin(), names_.end(), name)) options.input_shapes[name] = cache.shape;
    }
    CompileResult r = compile(path_, options).value();
    s_.result.compile_s += r.seconds;
    s_.result.clock_hz = profile(r.model).value().clock_hz;
    return model = r.model;
  }

  Tensor value_of(const TensorInfo& in, const std::vector<int64_t>& tokens) {
    const int64_t t = static_cast<int64_t>(tokens.size());
    if (const auto p = past_.find(in.name); p != past_.end()) {
      if (in.type != p->second.type) fail(ErrorCode::kUnsupported, "input '" + in.name + "'", std::string("a cache of ") + to_string(in.type), to_string(p->second.type));
      return p->second;
    }
    Tensor v(in.type, in.shape);
    for (int64_t i = 0; i < v.count(); ++i) v.set(i, static_cast<double>(in.name == "input_ids" ? tokens[static_cast<size_t>(i)] : in.name == "position_ids" ? used_ + i : i >= v.count() - t - used_));
    return v;
  }

  /// Caches without their oldest entries; returns the logits.
  Tensor keep(const std::vector<TensorInfo>& infos, std::vector<Tensor> out) {
    std::map<std::string, size_t> number;
    for (size_t k = 0; k < infos.size(); ++k) number[infos[k].name] = k;
    for (auto& [name, cache] : past_) {
      const std::string rest = name.substr(name.rfind("past_key_values", 0) == 0 ? 15 : 4);
      const auto found = number.count("present" + rest) ? number.find("present" + rest) : number.find("present_key_values" + rest);
      if (found == number.end()) fail(ErrorCode::kMismatch, "input '" + name + "'", "no output present" + rest, "the cache with the new tokens appended");
      const Tensor& now = out[found->second];
      if (now.type != cache.type || now.shape.size() != 4 || now.shape[2] < capacity_ || now.shape[1] != cache.shape[1] || now.shape[3] != cache.shape[3]) fail(ErrorCode::kMismatch, "output '" + found->first + "'", std::string(to_string(now.type)) + to_string(now.shape), "that of '" + name + "' and the new tokens");
      copy_entries(now, now.shape[2] - capacity_, cache, 0, capacity_);
    }
    const auto logits = number.find("logits");
    return std::move(out[logits == number.end() ? 0 : logits->second]);
  }

  Session& s_;
  const std::string& path_;
  const CompileOptions& base_;
  const std::vector<std::string>& names_;
  int64_t used_ = 0, capacity_ = 0;
  std::map<std::string, Tensor> past_;
  std::map<int64_t, Compiled> models_;  ///< by number of tokens at once
};

}  // namespace

void run_growing(Session& s, const std::string& path, const CompileOptions& base, const std::vector<std::string>& inputs) {
  GrowingCache cache(s, path, base, inputs);
  const auto prompt = s.o.prompt;
  const int64_t n = static_cast<int64_t>(prompt.size()), chunk = std::max<int64_t>(1, s.o.prefill_chunk);
  Tensor logits;
  for (int64_t at = 0; at < n;) {
    const int64_t t = n - at >= chunk ? chunk : 1;
    logits = cache.feed({prompt.begin() + at, prompt.begin() + at + t}, true);
    at += t;
  }
  while (s.add(s.sampler.pick(logits, logits.count() / logits.shape.back() - 1))) logits = cache.feed({s.result.ids.back()}, false);
}

}  // namespace systole
