// Attention (23, 24), ai.onnx.preview.FlexAttention, RotaryEmbedding (23): written as products, softmax and movement.
#include "ops/attention.h"

#include <algorithm>
#include <cmath>

#include "ops/operator.h"

namespace systole {

ValueId split_heads(Expander& x, ValueId v, const Shape& shape, int64_t heads) {
  if (shape.size() == 4) return v;
  if (shape.size() != 3 || heads < 1 || shape[2] % heads) malformed(x.node, "shape " + to_string(shape) + " for " + std::to_string(heads) + " heads", "[batch, heads, length, size], or [batch, length, heads x size] with the number of heads");
  return x.transpose(x.reshape(v, {shape[0], shape[1], heads, shape[2] / heads}), {0, 2, 1, 3});
}

ValueId join_heads(Expander& x, ValueId v, const Shape& heads) { return x.reshape(x.transpose(v, {0, 2, 1, 3}), {heads[0], heads[2], heads[1] * heads[3]}); }

ValueId repeat_heads(Expander& x, ValueId v, const Shape& s, int64_t repeat) {
  if (repeat == 1) return v;
  const ValueId wide = x.call("Expand", {x.reshape(v, {s[0], s[1], 1, s[2], s[3]}), x.ints({s[0], s[1], repeat, s[2], s[3]})});
  return x.reshape(wide, {s[0], s[1] * repeat, s[2], s[3]});
}

Tensor causal_bias(int64_t rows, int64_t columns, int64_t past, int64_t window) {
  Tensor t(DType::kF32, {rows, columns});
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = i + past + 1; j < columns; ++j) t.set(i * columns + j, -INFINITY);
    for (int64_t j = 0; window > 0 && j <= std::min(i + past - window, columns - 1); ++j) t.set(i * columns + j, -INFINITY);
  }
  return t;
}

ValueId length_bias(Expander& x, ValueId lengths, int64_t batch, int64_t columns, double hidden) {
  std::vector<int64_t> positions;
  for (int64_t j = 0; j < columns; ++j) positions.push_back(j);
  const ValueId inside = x.call("Less", {x.ints(positions), x.reshape(lengths, {batch, 1, 1, 1})});
  return x.call("Where", {inside, x.scalar(0), x.scalar(hidden)});
}

AttentionCore::Result AttentionCore::write(Expander& x) const {
  Result r{};
  r.raw = x.mul(x.call("MatMul", {q, x.transpose(k, {0, 1, 3, 2})}), x.scalar(scale));
  r.capped = softcap == 0 ? r.raw : x.mul(x.call("Tanh", {x.mul(r.raw, x.scalar(1 / softcap))}), x.scalar(softcap));
  r.scores = r.capped;
  for (ValueId bias : biases) r.scores = x.add(r.scores, bias);
  r.weights = x.call("Softmax", {r.scores}, {{"axis", int64_t{-1}}});
  r.y = x.call("MatMul", {r.weights, v});
  return r;
}

ValueId rotate_heads(Expander& x, ValueId x4, const Shape& s, ValueId cosine, ValueId sine, int64_t rotary, bool interleaved) {
  const int64_t size = s[3], half = rotary / 2;
  const ValueId rotated = rotary == size ? x4 : x.slice(x4, 3, 0, rotary);
  ValueId a, b;
  if (interleaved) {
    const ValueId pairs = x.reshape(rotated, {s[0], s[1], s[2], half, 2});
    a = x.reshape(x.slice(pairs, 4, 0, 1), {s[0], s[1], s[2], half}), b = x.reshape(x.slice(pairs, 4, 1, 2), {s[0], s[1], s[2], half});
  } else {
    a = x.slice(rotated, 3, 0, half), b = x.slice(rotated, 3, half, rotary);
  }
  ValueId real = x.sub(x.mul(cosine, a), x.mul(sine, b)), imaginary = x.add(x.mul(sine, a), x.mul(cosine, b));
  ValueId y;
  if (interleaved) {
    real = x.reshape(real, {s[0], s[1], s[2], half, 1}), imaginary = x.reshape(imaginary, {s[0], s[1], s[2], half, 1});
    y = x.reshape(x.call("Concat", {real, imaginary}, {{"axis", int64_t{4}}}), {s[0], s[1], s[2], rotary});
  } else {
    y = x.call("Concat", {real, imaginary}, {{"axis", int64_t{3}}});
  }
  return rotary == size ? y : x.call("Concat", {y, x.slice(x4, 3, rotary, size)}, {{"axis", int64_t{3}}});
}

ValueId rotate_input(Expander& x, const Shape& shape, ValueId cosine, ValueId sine, int64_t rotary) {
  const Shape own = x.shape(0);
  const bool apart = own.size() == 4;
  const ValueId in = apart ? x.transpose(x.in(0), {0, 2, 1, 3}) : x.reshape(x.in(0), shape);
  const ValueId y = rotate_heads(x, in, shape, cosine, sine, rotary, x.op().integer("interleaved", 0) != 0);
  return apart ? x.transpose(y, {0, 2, 1, 3}) : x.reshape(y, own);
}

namespace {

Shape head_shape(const Shape& s, int64_t heads) { return s.size() == 4 ? s : Shape{s[0], heads, s[1], s[2] / heads}; }

/// A mask that is shorter than the keys hides the rest.
ValueId padded_mask(Expander& x, ValueId mask, Shape s, int64_t columns, bool boolean) {
  if (boolean) mask = x.call("Where", {mask, x.scalar(0), x.scalar(-INFINITY)});
  if (s.empty() || s.back() >= columns || s.back() == 1) return mask;
  s.back() = columns - s.back();
  Tensor rest(DType::kF32, s);
  for (int64_t i = 0; i < rest.count(); ++i) rest.set(i, -INFINITY);
  return x.call("Concat", {mask, x.constant_tensor(rest)}, {{"axis", static_cast<int64_t>(s.size()) - 1}});
}

struct Heads {
  Shape q, k, v;        ///< [B, heads, length, size]
  int64_t repeat = 1;
};

Heads check_heads(const Expander& x, int64_t q_heads, int64_t kv_heads) {
  for (size_t k = 0; k < 3; ++k) {
    if (x.shape(k).size() != 4 && (x.shape(k).size() != 3 || (k == 0 ? q_heads : kv_heads) < 1)) malformed(x.node, "shape " + to_string(x.shape(k)), "rank 4, or rank 3 with q_num_heads and kv_num_heads");
  }
  Heads h{head_shape(x.shape(0), q_heads), head_shape(x.shape(1), kv_heads), head_shape(x.shape(2), kv_heads)};
  if (h.k[1] < 1 || h.q[1] % h.k[1] || h.q[3] != h.k[3] || h.k[1] != h.v[1] || h.k[2] != h.v[2]) malformed(x.node, "queries " + to_string(h.q) + ", keys " + to_string(h.k) + ", values " + to_string(h.v), "matching heads and sizes");
  h.repeat = h.q[1] / h.k[1];
  return h;
}

bool expand_attention(Expander& x) {
  const OnnxOp& op = x.op();
  const Heads h = check_heads(x, op.integer("q_num_heads", 0), op.integer("kv_num_heads", 0));
  AttentionCore core{split_heads(x, x.in(0), x.shape(0), h.q[1]), split_heads(x, x.in(1), x.shape(1), h.k[1]), split_heads(x, x.in(2), x.shape(2), h.v[1])};
  int64_t past = 0;
  if (x.has(4) && x.has(5)) {
    past = x.shape(4).at(2);
    core.k = x.call("Concat", {x.in(4), core.k}, {{"axis", int64_t{2}}}), core.v = x.call("Concat", {x.in(5), core.v}, {{"axis", int64_t{2}}});
  }
  x.result(1, core.k), x.result(2, core.v);
  Shape sk = h.k, sv = h.v;
  sk[2] += past, sv[2] += past;
  core.k = repeat_heads(x, core.k, sk, h.repeat), core.v = repeat_heads(x, core.v, sv, h.repeat);
  core.scale = static_cast<double>(op.real("scale", 1 / std::sqrt(static_cast<float>(h.q[3]))));
  core.softcap = static_cast<double>(op.real("softcap", 0));
  if (x.has(3)) core.biases.push_back(padded_mask(x, x.in(3), x.shape(3), sk[2], x.type(3) == DType::kBool));
  if (op.integer("is_causal", 0)) core.biases.push_back(x.constant_tensor(causal_bias(h.q[2], sk[2], past)));
  if (x.has(6)) core.biases.push_back(length_bias(x, x.in(6), h.q[0], sk[2], -INFINITY));
  const auto r = core.write(x);
  const int64_t mode = op.integer("qk_matmul_output_mode", 0);
  x.result(3, mode == 0 ? r.raw : mode == 1 ? r.capped : mode == 2 ? r.scores : r.weights);
  x.result(0, x.shape(0).size() == 3 ? join_heads(x, r.y, {h.q[0], h.q[1], h.q[2], h.v[3]}) : r.y);
  return true;
}

/// Scores and probabilities pass through graphs of the model's own.
bool expand_flex_attention(Expander& x) {
  const OnnxOp& op = x.op();
  const Heads h = check_heads(x, 0, 0);
  const ValueId k = repeat_heads(x, x.in(1), h.k, h.repeat), v = repeat_heads(x, x.in(2), h.v, h.repeat);
  const float scale = op.real("scale", 1 / std::sqrt(static_cast<float>(h.q[3])));
  ValueId scores = x.mul(x.call("MatMul", {x.in(0), x.transpose(k, {0, 1, 3, 2})}), x.scalar(static_cast<double>(scale)));
  if (op.has("score_mod")) scores = x.inline_graph(op.graph("score_mod"), {scores}).at(0);
  ValueId weights = x.call("Softmax", {scores}, {{"axis", int64_t{-1}}});
  if (op.has("prob_mod")) weights = x.inline_graph(op.graph("prob_mod"), {weights}).at(0);
  x.result(0, x.call("MatMul", {weights, v}));
  return true;
}

bool expand_rotary_embedding(Expander& x) {
  const OnnxOp& op = x.op();
  const Shape s = x.shape(0);
  const int64_t heads = s.size() == 4 ? s[1] : op.integer("num_heads", 0);
  if (s.size() != 3 && s.size() != 4) malformed(x.node, "shape " + to_string(s), "rank 3 or 4");
  if (s.size() == 3 && (heads < 1 || s[2] % heads)) malformed(x.node, "shape " + to_string(s) + " for " + std::to_string(heads) + " heads", "rank 4, or rank 3 with num_heads");
  const int64_t batch = s[0], length = s.size() == 4 ? s[2] : s[1], size = s.size() == 4 ? s[3] : s[2] / heads;
  const int64_t rotary = op.integer("rotary_embedding_dim", 0) ? op.integer("rotary_embedding_dim", 0) : size, half = rotary / 2;
  if (rotary < 2 || rotary > size || rotary % 2) malformed(x.node, "rotary_embedding_dim " + std::to_string(rotary), "an even number up to " + std::to_string(size));
  auto angles = [&](size_t k) {
    const ValueId table = x.has(3) ? x.call("Gather", {x.in(k), x.in(3)}, {{"axis", int64_t{0}}}) : x.in(k);
    return x.reshape(x.slice(table, -1, 0, half), {batch, length, 1, half});
  };
  const ValueId cosine = angles(1), sine = angles(2);
  x.result(0, rotate_input(x, {batch, length, heads, size}, cosine, sine, rotary));
  return true;
}

constexpr Operator kOperators[] = {
    {"", "Attention", nullptr, "expands", 3, expand_attention},
    {"ai.onnx.preview", "FlexAttention", nullptr, "expands", 3, expand_flex_attention},
    {"", "RotaryEmbedding", nullptr, "expands", 3, expand_rotary_embedding},
};

}  // namespace

std::span<const Operator> attention_operators() { return kOperators; }

}  // namespace systole
