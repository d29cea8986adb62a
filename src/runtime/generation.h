// What decoding by each kind of cache shares: picking tokens, and the account of what they cost.
#pragma once
#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "systole/systole.h"

namespace systole {

inline double seconds_since(std::chrono::steady_clock::time_point t) { return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count(); }

/// The next token from one row of logits: the greatest, or drawn from softmax(logits / temperature) over the top k.
class Sampler {
 public:
  explicit Sampler(const GenerateTokens& o) : temperature_(o.temperature), top_k_(o.top_k), rng_(o.seed) {}
  int64_t pick(const Tensor& logits, int64_t row) {
    const int64_t n = logits.shape.back();
    auto at = [&](int64_t i) { return logits.at(row * n + i); };
    int64_t best = 0;
    for (int64_t i = 1; i < n; ++i) best = at(i) > at(best) ? i : best;
    if (temperature_ <= 0) return best;
    std::vector<int64_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    const size_t k = top_k_ > 0 ? std::min<size_t>(static_cast<size_t>(top_k_), order.size()) : order.size();
    std::partial_sort(order.begin(), order.begin() + static_cast<long>(k), order.end(), [&](int64_t a, int64_t b) { return at(a) != at(b) ? at(a) > at(b) : a < b; });
    double sum = 0;
    for (size_t i = 0; i < k; ++i) sum += std::exp((at(order[i]) - at(best)) / temperature_);
    double left = static_cast<double>(rng_() >> 11) * 0x1p-53 * sum;
    for (size_t i = 0; i < k; ++i) {
      if ((left -= std::exp((at(order[i]) - at(best)) / temperature_)) <= 0) return order[i];
    }
    return order[k - 1];
  }

 private:
  double temperature_;
  int top_k_;
  std::mt19937_64 rng_;
};

/// One call of generate_tokens.
struct Session {
  const GenerateTokens& o;
  const TokenSink& sink;
  Generation result;
  Sampler sampler;

  Session(const GenerateTokens& options, const TokenSink& s) : o(options), sink(s), sampler(options) { result.ids = options.prompt; }

  bool add(int64_t token) {
    result.ids.push_back(token);
    ++result.decoded;
    const bool stop = token == o.end_token;
    return (!sink || sink(token)) && !stop && result.decoded < o.tokens;
  }
  /// Adds one run of the model to the prompt's cost or to the new tokens'.
  void charge(const Report& r, bool prompt) {
    (prompt ? result.prefill_cycles : result.decode_cycles) += r.cycles;
    (prompt ? result.prefill_j : result.decode_j) += r.energy.system_j;
  }
};

/// A model as exporters write decoders: input_ids [1, t], position_ids, attention_mask [1, past + t], and caches past* [1, heads,
/// past, size] that come back as present* with t more entries.
void run_growing(Session& s, const std::string& path, const CompileOptions& base, const std::vector<std::string>& inputs);

}  // namespace systole
