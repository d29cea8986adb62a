#include "architectures/transformers.h"

#include <array>
#include <cmath>
#include <random>

#include "base/error.h"
#include "import/writer.h"
#include "numerics/formats.h"

namespace systole {
namespace {

/// Sizes of one network.
struct Config {
  const char* name;
  int64_t layers, width, heads, kv_heads, inner, vocabulary, positions;
};
constexpr Config kBert{"bert-base", 12, 768, 12, 12, 3072, 30522, 512};
constexpr Config kGpt2{"gpt2", 12, 768, 12, 12, 3072, 50257, 1024};
constexpr Config kLlamaSmall{"llama-110m", 12, 768, 12, 12, 2048, 32000, 1024};
constexpr Config kLlama{"llama-1b", 22, 2048, 32, 4, 5632, 32000, 2048};
constexpr Config kLlamaTiny{"llama-tiny", 2, 64, 4, 2, 192, 512, 256};
constexpr Config kTiny{"gpt2-tiny", 2, 64, 4, 4, 256, 512, 256};
constexpr Config kLetters{"letters", 2, 48, 3, 3, 192, 64, 64};

class TransformerWriter {
 public:
  TransformerWriter(const Config& config, uint64_t seed, int64_t opset)
      : c(config), writer_(config.name, "Written by systole model: the real architecture with random weights of seed " + std::to_string(seed) + "; outputs mean nothing.", opset), rng_(seed) {}

  const Config& c;
  using Attributes = std::vector<ModelWriter::NamedAttribute>;
  std::string node(const char* op, const std::vector<std::string>& in, const Attributes& attributes = {}, const std::string& out = {}) { return writer_.node(op, in, attributes, out); }
  /// With outputs of these names; "" for one that has any.
  std::string node_n(const char* op, const std::vector<std::string>& in, const std::vector<std::string>& out, const Attributes& attributes) { return writer_.node_n(op, in, out, attributes); }
  ModelWriter& writer() { return writer_; }

  std::string weights(const Shape& shape, double deviation) {
    Tensor t(DType::kF32, shape);
    // Four uniforms from one draw: close to normal, quick enough for a billion weights, the same everywhere.
    for (int64_t i = 0, n = t.count(); i < n; ++i) {
      const uint64_t r = rng_();
      const double sum = static_cast<double>((r & 0xFFFF) + (r >> 16 & 0xFFFF) + (r >> 32 & 0xFFFF) + (r >> 48)) / 65536 - 2;
      t.data<float>()[i] = static_cast<float>(sum * deviation * 1.732);
    }
    return writer_.constant("w" + std::to_string(next_++), t);
  }
  std::string filled(int64_t n, float value) { return writer_.constant("v" + std::to_string(next_++), Tensor::from_floats(std::vector<float>(static_cast<size_t>(n), value), {n})); }
  std::string ints(const std::vector<int64_t>& v) { return writer_.constant("i" + std::to_string(next_++), Tensor::from_ints(v, {static_cast<int64_t>(v.size())})); }
  std::string matrix(int64_t in, int64_t out, double deviation) { return int4_ ? int4_weights(in, out, deviation) : weights({in, out}, deviation); }
  /// From here on matrices are int4 in groups of 32 along the inputs, with fp16 scales.
  void use_int4() { int4_ = true; }
  std::string linear(const std::string& x, int64_t in, int64_t out, bool bias = true, double gain = 1) {
    const std::string y = node("MatMul", {x, matrix(in, out, gain / std::sqrt(static_cast<double>(in)))});
    return bias ? node("Add", {y, weights({out}, 0.02)}) : y;
  }
  std::string layer_norm(const std::string& x) { return node("LayerNormalization", {x, filled(c.width, 1), filled(c.width, 0)}, {{"axis", int64_t{-1}}, {"epsilon", 1e-5f}}); }
  std::string gelu(const std::string& x, bool tanh) {
    if (tanh) {
      const std::string cube = node("Mul", {node("Mul", {x, x}), x});
      const std::string inside = node("Mul", {node("Add", {x, node("Mul", {cube, scalar(0.044715f)})}), scalar(0.79788456f)});
      return node("Mul", {node("Mul", {x, scalar(0.5f)}), node("Add", {node("Tanh", {inside}), scalar(1)})});
    }
    return node("Mul", {node("Mul", {x, scalar(0.5f)}), node("Add", {node("Erf", {node("Mul", {x, scalar(0.70710678f)})}), scalar(1)})});
  }
  std::string scalar(float v) { return writer_.constant("s" + std::to_string(next_++), Tensor::scalar_f32(v)); }
  /// [B, S, width] to [B, heads, S, size].
  std::string heads(const std::string& x, int64_t length, int64_t n) {
    return node("Transpose", {node("Reshape", {x, ints({0, length, n, c.width / c.heads})})}, {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
  }
  /// softmax(Q K^T / sqrt(size) + mask) V; an absent mask is "".
  std::string attend(const std::string& q, const std::string& k, const std::string& v, const std::string& mask, int64_t length) {
    const std::string kt = node("Transpose", {k}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
    std::string scores = node("Mul", {node("MatMul", {q, kt}), scalar(1 / std::sqrt(static_cast<float>(c.width / c.heads)))});
    if (!mask.empty()) scores = node("Add", {scores, mask});
    const std::string y = node("MatMul", {node("Softmax", {scores}, {{"axis", int64_t{-1}}}), v});
    return node("Reshape", {node("Transpose", {y}, {{"perm", std::vector<int64_t>{0, 2, 1, 3}}}), ints({0, length, c.width})});
  }

 private:
  /// Codes -7 to 7, the sum of two uniform draws: deviation 3.24 codes.
  std::string int4_weights(int64_t in, int64_t out, double deviation) {
    constexpr int64_t kGroup = 32;
    Tensor codes(DType::kI4, {in, out}), scales(DType::kF32, {in / kGroup, out});
    for (int64_t i = 0, n = codes.count(); i < n; i += 8) {
      const uint64_t r = rng_();
      for (int64_t k = 0; k < std::min<int64_t>(8, n - i); ++k) codes.data<int8_t>()[i + k] = static_cast<int8_t>(static_cast<int64_t>((r >> (8 * k) & 7) + (r >> (8 * k + 4) & 7)) - 7);
    }
    for (int64_t i = 0, n = scales.count(); i < n; ++i) {
      const double spread = 0.8 + 0.4 * static_cast<double>(rng_() >> 40) / (1 << 24);
      scales.data<float>()[i] = f16_to_f32(f32_to_f16(static_cast<float>(deviation / 3.24 * spread)));
    }
    const std::string name = std::to_string(next_++);
    return node("DequantizeLinear", {writer_.constant("w" + name, codes), writer_.constant("w" + name + "_scale", scales)}, {{"axis", int64_t{0}}, {"block_size", kGroup}});
  }

  ModelWriter writer_;
  std::mt19937_64 rng_;
  int next_ = 0;
  bool int4_ = false;
};

void check_length(const Config& c, int64_t length) {
  if (length > c.positions) fail(ErrorCode::kBadInput, "--size", std::to_string(length), "at most " + std::to_string(c.positions) + " tokens for " + c.name);
}

/// -inf above the diagonal.
Tensor causal_mask(int64_t n) {
  Tensor t(DType::kF32, {n, n});
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i + 1; j < n; ++j) t.data<float>()[i * n + j] = -INFINITY;
  }
  return t;
}

/// Devlin et al. 2018: token ids, segment ids and an attention mask (1: a real token) to the last hidden states.
void write_bert(const std::string& path, uint64_t seed, int64_t length) {
  check_length(kBert, length);
  TransformerWriter w(kBert, seed, 17);
  const int64_t d = w.c.width;
  for (const char* name : {"input_ids", "token_type_ids", "attention_mask"}) w.writer().input(name, DType::kI64, {1, length});
  const std::string words = w.node("Gather", {w.weights({w.c.vocabulary, d}, 0.02), "input_ids"}), segments = w.node("Gather", {w.weights({2, d}, 0.02), "token_type_ids"});
  std::string x = w.layer_norm(w.node("Add", {w.node("Add", {words, segments}), w.weights({length, d}, 0.02)}));
  const std::string mask = w.node("Mul", {w.node("Sub", {w.scalar(1), w.node("Reshape", {w.node("Cast", {"attention_mask"}, {{"to", int64_t{1}}}), w.ints({1, 1, 1, length})})}), w.scalar(-10000)});
  for (int64_t i = 0; i < w.c.layers; ++i) {
    const std::string q = w.heads(w.linear(x, d, d), length, w.c.heads), k = w.heads(w.linear(x, d, d), length, w.c.heads), v = w.heads(w.linear(x, d, d), length, w.c.heads);
    x = w.layer_norm(w.node("Add", {x, w.linear(w.attend(q, k, v, mask, length), d, d)}));
    x = w.layer_norm(w.node("Add", {x, w.linear(w.gelu(w.linear(x, d, w.c.inner), false), w.c.inner, d)}));
  }
  w.node("Identity", {x}, {}, "last_hidden_state");
  w.writer().output("last_hidden_state", DType::kF32, {1, length, d});
  w.writer().save(path);
}

/// One block of GPT-2 on keys and values that `extend` returns for the new ones.
template <class Extend>
std::string gpt2_block(TransformerWriter& w, const std::string& x, int64_t length, const std::string& mask, Extend&& extend) {
  const int64_t d = w.c.width;
  const std::string normal = w.layer_norm(x);
  const std::string q = w.heads(w.linear(normal, d, d), length, w.c.heads), k = extend(w.heads(w.linear(normal, d, d), length, w.c.heads), "key"), v = extend(w.heads(w.linear(normal, d, d), length, w.c.heads), "value");
  const std::string y = w.node("Add", {x, w.linear(w.attend(q, k, v, mask, length), d, d, true, 0.3)});
  return w.node("Add", {y, w.linear(w.gelu(w.linear(w.layer_norm(y), d, w.c.inner), true), w.c.inner, d, true, 0.3)});
}

/// Radford et al. 2019: token ids to logits over all positions.
void write_gpt2_as(const Config& config, const std::string& path, uint64_t seed, int64_t length) {
  check_length(config, length);
  TransformerWriter w(config, seed, 17);
  const int64_t d = w.c.width;
  w.writer().input("input_ids", DType::kI64, {1, length});
  const std::string table = w.weights({w.c.vocabulary, d}, 0.04), positions = w.weights({w.c.positions, d}, 0.01);
  std::vector<int64_t> order(static_cast<size_t>(length));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  std::string x = w.node("Add", {w.node("Gather", {table, "input_ids"}), w.node("Gather", {positions, w.ints(order)})});
  const std::string mask = w.writer().constant("mask", causal_mask(length));
  for (int64_t i = 0; i < w.c.layers; ++i) x = gpt2_block(w, x, length, mask, [](const std::string& now, const char*) { return now; });
  w.node("MatMul", {w.layer_norm(x), w.node("Transpose", {table}, {{"perm", std::vector<int64_t>{1, 0}}})}, {}, "logits");
  w.writer().output("logits", DType::kF32, {1, length, w.c.vocabulary});
  w.writer().save(path);
}

/// One token at `position` against caches of `capacity` keys and values, which come back with the token's own in place.
void write_gpt2_cached_as(const Config& config, const std::string& path, uint64_t seed, int64_t capacity) {
  check_length(config, capacity);
  TransformerWriter w(config, seed, 17);
  const int64_t d = w.c.width, size = d / w.c.heads;
  w.writer().input("input_ids", DType::kI64, {1, 1});
  w.writer().input("position", DType::kI64, {1, 1});
  const std::string table = w.weights({w.c.vocabulary, d}, 0.04), positions = w.weights({w.c.positions, d}, 0.01);
  std::string x = w.node("Add", {w.node("Gather", {table, "input_ids"}), w.node("Gather", {positions, "position"})});
  std::vector<int64_t> slots(static_cast<size_t>(capacity));
  for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<int64_t>(i);
  const std::string slot = w.ints(slots);
  const std::string later = w.node("Cast", {w.node("Less", {"position", slot})}, {{"to", int64_t{1}}});       // [1, capacity]
  const std::string here = w.node("Cast", {w.node("Equal", {"position", slot})}, {{"to", int64_t{1}}});
  const std::string far = w.writer().constant("far", Tensor::scalar_f32(-INFINITY)), zero = w.scalar(0);
  const std::string mask = w.node("Where", {w.node("Cast", {later}, {{"to", int64_t{9}}}), far, zero});
  const std::string mine = w.node("Cast", {w.node("Reshape", {here, w.ints({1, 1, capacity, 1})})}, {{"to", int64_t{9}}});
  for (int64_t i = 0; i < w.c.layers; ++i) {
    x = gpt2_block(w, x, 1, mask, [&](const std::string& now, const char* kind) {
      const std::string past = std::string("past_") + kind + "_" + std::to_string(i), present = std::string("present_") + kind + "_" + std::to_string(i);
      w.writer().input(past, DType::kF32, {1, w.c.heads, capacity, size});
      w.writer().output(present, DType::kF32, {1, w.c.heads, capacity, size});
      return w.node("Where", {mine, now, past}, {}, present);
    });
  }
  w.node("MatMul", {w.layer_norm(x), w.node("Transpose", {table}, {{"perm", std::vector<int64_t>{1, 0}}})}, {}, "logits");
  w.writer().output("logits", DType::kF32, {1, 1, w.c.vocabulary});
  w.writer().save(path);
}

/// Angles of rotary positions (Su et al. 2021): [positions, size / 2] of cosines or sines.
Tensor rotary_table(int64_t positions, int64_t size, bool sine) {
  Tensor t(DType::kF32, {positions, size / 2});
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t i = 0; i < size / 2; ++i) {
      const double angle = static_cast<double>(p) * std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(size));
      t.data<float>()[p * (size / 2) + i] = static_cast<float>(sine ? std::sin(angle) : std::cos(angle));
    }
  }
  return t;
}

/// Touvron et al. 2023: RMS normalisation, rotary positions, grouped heads, SwiGLU; opset 23. One block's queries, keys and values
/// go through `attend`.
template <class Attend>
std::string llama_block(TransformerWriter& w, const std::string& x, Attend&& attend) {
  const int64_t d = w.c.width, kv = w.c.kv_heads * (d / w.c.heads);
  auto norm = [&](const std::string& v) { return w.node("RMSNormalization", {v, w.filled(d, 1)}, {{"axis", int64_t{-1}}, {"epsilon", 1e-5f}}); };
  const std::string a = norm(x), q = w.linear(a, d, d, false), k = w.linear(a, d, kv, false), v = w.linear(a, d, kv, false);
  const std::string y = w.node("Add", {x, w.linear(attend(q, k, v), d, d, false, 0.3)}), b = norm(y), gate = w.linear(b, d, w.c.inner, false);
  return w.node("Add", {y, w.linear(w.node("Mul", {w.node("Mul", {gate, w.node("Sigmoid", {gate})}), w.linear(b, d, w.c.inner, false)}), w.c.inner, d, false, 0.3)});
}

std::string llama_logits(TransformerWriter& w, const std::string& x) {
  const std::string normal = w.node("RMSNormalization", {x, w.filled(w.c.width, 1)}, {{"axis", int64_t{-1}}, {"epsilon", 1e-5f}});
  return w.node("MatMul", {normal, w.matrix(w.c.width, w.c.vocabulary, 0.04)}, {}, "logits");
}

/// Queries and keys turned by their positions.
std::pair<std::string, std::string> rotate(TransformerWriter& w, const std::string& q, const std::string& k, const std::array<std::string, 3>& angles) {
  auto turned = [&](const std::string& v, int64_t heads) { return w.node("RotaryEmbedding", {v, angles[0], angles[1], angles[2]}, {{"num_heads", heads}}); };
  return {turned(q, w.c.heads), turned(k, w.c.kv_heads)};
}

/// Token ids to logits over all positions.
void write_llama_as(const Config& config, bool int4, const std::string& path, uint64_t seed, int64_t length) {
  check_length(config, length);
  TransformerWriter w(config, seed, 23);
  w.writer().external_data(path);
  w.writer().input("input_ids", DType::kI64, {1, length});
  std::string x = w.node("Gather", {w.weights({w.c.vocabulary, w.c.width}, 0.04), "input_ids"});
  if (int4) w.use_int4();
  const int64_t size = w.c.width / w.c.heads;
  std::vector<int64_t> order(static_cast<size_t>(length));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  const std::string cosine = w.writer().constant("cos", rotary_table(length, size, false)), sine = w.writer().constant("sin", rotary_table(length, size, true));
  const std::array<std::string, 3> angles = {cosine, sine, w.writer().constant("positions", Tensor::from_ints(order, {1, length}))};
  for (int64_t i = 0; i < w.c.layers; ++i) {
    x = llama_block(w, x, [&](const std::string& q, const std::string& k, const std::string& v) {
      const auto [qr, kr] = rotate(w, q, k, angles);
      return w.node("Attention", {qr, kr, v}, {{"q_num_heads", w.c.heads}, {"kv_num_heads", w.c.kv_heads}, {"is_causal", int64_t{1}}});
    });
  }
  llama_logits(w, x);
  w.writer().output("logits", DType::kF32, {1, length, w.c.vocabulary});
  w.writer().save(path);
}

/// As exporters write decoders: `length` tokens at position_ids after `past` cached ones, which attention_mask [1, total] may hide;
/// present.* are the caches with the new tokens appended.
void write_llama_cached_as(const Config& config, bool int4, const std::string& path, uint64_t seed, int64_t) {
  TransformerWriter w(config, seed, 23);
  w.writer().external_data(path);
  w.writer().input("input_ids", DType::kI64, {1, "length"});
  w.writer().input("attention_mask", DType::kI64, {1, "total"});
  w.writer().input("position_ids", DType::kI64, {1, "length"});
  std::string x = w.node("Gather", {w.weights({w.c.vocabulary, w.c.width}, 0.04), "input_ids"});
  if (int4) w.use_int4();
  const int64_t size = w.c.width / w.c.heads, kv = w.c.kv_heads;
  const std::array<std::string, 3> angles = {w.writer().constant("cos", rotary_table(w.c.positions, size, false)), w.writer().constant("sin", rotary_table(w.c.positions, size, true)), "position_ids"};
  const std::string shown = w.node("Cast", {w.node("Unsqueeze", {"attention_mask", w.ints({1, 2})})}, {{"to", int64_t{9}}});
  const std::string far = w.writer().constant("far", Tensor::scalar_f32(-1e30f)), mask = w.node("Where", {shown, w.scalar(0), far});
  for (int64_t i = 0; i < w.c.layers; ++i) {
    x = llama_block(w, x, [&](const std::string& q, const std::string& k, const std::string& v) {
      const auto [qr, kr] = rotate(w, q, k, angles);
      const std::string layer = "." + std::to_string(i) + ".";
      for (const char* kind : {"key", "value"}) {
        w.writer().input("past_key_values" + layer + kind, DType::kF32, {1, kv, "past", size});
        w.writer().output("present" + layer + kind, DType::kF32, {1, kv, "total", size});
      }
      return w.node_n("Attention", {qr, kr, v, mask, "past_key_values" + layer + "key", "past_key_values" + layer + "value"}, {"", "present" + layer + "key", "present" + layer + "value"},
                      {{"q_num_heads", w.c.heads}, {"kv_num_heads", kv}, {"is_causal", int64_t{1}}});
    });
  }
  llama_logits(w, x);
  w.writer().output("logits", DType::kF32, {1, "length", w.c.vocabulary});
  w.writer().save(path);
}

template <const Config& config>
void write_gpt2(const std::string& path, uint64_t seed, int64_t length) { write_gpt2_as(config, path, seed, length); }
template <const Config& config>
void write_gpt2_cached(const std::string& path, uint64_t seed, int64_t length) { write_gpt2_cached_as(config, path, seed, length); }
template <const Config& config, bool int4>
void write_llama(const std::string& path, uint64_t seed, int64_t length) { write_llama_as(config, int4, path, seed, length); }
template <const Config& config, bool int4>
void write_llama_cached(const std::string& path, uint64_t seed, int64_t length) { write_llama_cached_as(config, int4, path, seed, length); }

constexpr Architecture kList[] = {
    {"bert-base", "text encoder, 110 M parameters, 128 tokens (Devlin et al. 2018)", write_bert, 128},
    {"gpt2", "text decoder, 124 M parameters, 128 tokens at once (Radford et al. 2019)", write_gpt2<kGpt2>, 128},
    {"gpt2-cached", "the same weights, one token against a cache of 128", write_gpt2_cached<kGpt2>, 128},
    {"gpt2-tiny", "two layers of width 64, 32 tokens at once", write_gpt2<kTiny>, 32},
    {"gpt2-tiny-cached", "the same weights, one token against a cache of 32", write_gpt2_cached<kTiny>, 32},
    {"letters", "to train: a decoder of two layers of width 48 over 64 characters, 48 at once", write_gpt2<kLetters>, 48},
    {"llama-110m", "text decoder with rotary positions and SwiGLU, 128 tokens", write_llama<kLlamaSmall, false>, 128},
    {"llama-1b", "the same with grouped heads, 1.1 G parameters (4.4 GB), 128 tokens", write_llama<kLlama, false>, 128},
    {"llama-1b-int4", "the same with int4 weights in groups of 32 (0.9 GB, of which a quarter is the fp32 embedding)", write_llama<kLlama, true>, 128},
    {"llama-1b-int4-cached", "the same against a cache; dims length, past, total = past + length", write_llama_cached<kLlama, true>, 128},
    {"llama-tiny", "two layers of width 64 with int4 weights, 32 tokens at once", write_llama<kLlamaTiny, true>, 32},
    {"llama-tiny-cached", "the same weights against a cache", write_llama_cached<kLlamaTiny, true>, 32},
};

}  // namespace

std::span<const Architecture> transformer_architectures() { return kList; }

}  // namespace systole
