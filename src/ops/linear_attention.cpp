// LinearAttention and CausalConvWithState (27).
#include <cmath>

#include "ops/operator.h"

namespace systole {
namespace {

constexpr int64_t kMostSteps = 512;

/// A state [B, heads, dk, dv] updated per step: S = exp(decay) S + k (beta (v - S^T k))^T; output scale q^T S. Rules: linear
/// (no decay, no correction), gated (decay), delta (correction), gated_delta.
struct Recurrence {
  Expander& x;
  int64_t batch, length, q_heads, heads, dk, dv;
  bool decays, corrects;
  ValueId scale;

  /// [B, T, heads x size] at step t as [B, heads, size].
  ValueId at(size_t k, int64_t t, int64_t n, int64_t size) { return x.reshape(x.slice(x.in(k), 1, t, t + 1), {batch, n, size}); }

  ValueId step(ValueId state, int64_t t, ValueId* output) {
    const ValueId k = x.reshape(at(1, t, heads, dk), {batch, heads, dk, 1});
    ValueId v = at(2, t, heads, dv);
    if (decays) {
      const int64_t size = x.shape(4).at(2) / heads;
      state = x.mul(state, x.reshape(x.call("Exp", {at(4, t, heads, size)}), {batch, heads, size, 1}));
    }
    if (corrects) {
      const ValueId seen = x.reshape(x.call("MatMul", {x.transpose(state, {0, 1, 3, 2}), k}), {batch, heads, dv});
      const int64_t n = x.shape(5).at(2);
      v = x.mul(x.reshape(x.slice(x.in(5), 1, t, t + 1), {batch, n, 1}), x.sub(v, seen));
    }
    state = x.add(state, x.call("MatMul", {k, x.reshape(v, {batch, heads, 1, dv})}));
    ValueId read = state;
    if (q_heads != heads) {
      const int64_t repeat = q_heads / heads;
      read = x.reshape(x.call("Expand", {x.reshape(state, {batch, heads, 1, dk, dv}), x.ints({batch, heads, repeat, dk, dv})}), {batch, q_heads, dk, dv});
    }
    const ValueId q = x.reshape(at(0, t, q_heads, dk), {batch, q_heads, 1, dk});
    *output = x.reshape(x.mul(x.call("MatMul", {q, read}), scale), {batch, 1, q_heads * dv});
    return state;
  }
};

bool expand_linear_attention(Expander& x) {
  const OnnxOp& op = x.op();
  const int64_t q_heads = op.integer("q_num_heads", 0), heads = op.integer("kv_num_heads", 0);
  const Shape q = x.shape(0), k = x.shape(1), v = x.shape(2);
  if (q.size() != 3 || k.size() != 3 || v.size() != 3 || heads < 1 || q_heads < 1 || q_heads % heads || q[2] % q_heads || k[2] % heads || v[2] % heads || q[2] / q_heads != k[2] / heads) {
    malformed(x.node, "queries " + to_string(q) + ", keys " + to_string(k) + ", values " + to_string(v), "[batch, length, heads x size]");
  }
  const bool shaped = (!x.has(4) || (x.shape(4).size() == 3 && x.shape(4)[2] % heads == 0)) && (!x.has(5) || x.shape(5).size() == 3);
  if (!shaped || q[0] != k[0] || k[0] != v[0] || q[1] != k[1] || k[1] != v[1]) malformed(x.node, "decay or beta of another shape, or other lengths", "[batch, length, ...] alike");
  if (q[1] > kMostSteps) unsupported(x.node, "more than " + std::to_string(kMostSteps) + " steps");
  const std::string rule = op.text("update_rule", "gated_delta");
  const float scale = op.real("scale", 0);
  Recurrence r{x, q[0], q[1], q_heads, heads, q[2] / q_heads, v[2] / heads, x.has(4) && rule.starts_with("gated"), x.has(5) && rule.ends_with("delta"), kNoValue};
  r.scale = x.scalar(scale == 0 ? 1 / std::sqrt(static_cast<double>(r.dk)) : static_cast<double>(scale));
  ValueId state = x.has(3) ? x.in(3) : x.constant_tensor(Tensor(DType::kF32, {r.batch, heads, r.dk, r.dv}));
  std::vector<ValueId> outputs(static_cast<size_t>(r.length));
  for (int64_t t = 0; t < r.length; ++t) state = r.step(state, t, &outputs[static_cast<size_t>(t)]);
  x.result(0, outputs.size() == 1 ? outputs[0] : x.call("Concat", outputs, {{"axis", int64_t{1}}}));
  x.result(1, state);
  return true;
}

/// A depthwise convolution over the past state and the input; the last kernel - 1 columns are the next state.
bool expand_causal_conv(Expander& x) {
  const OnnxOp& op = x.op();
  const Shape s = x.shape(0), w = x.shape(1);
  if (s.size() != 3 || w.size() != 3 || w[0] != s[1] || w[1] != 1) malformed(x.node, "input " + to_string(s) + ", weight " + to_string(w), "[N,C,L] and [C,1,K]");
  const int64_t before = w[2] - 1;
  const ValueId past = x.has(3) ? x.in(3) : x.constant_tensor(Tensor(DType::kF32, {s[0], s[1], before}));
  const ValueId padded = before == 0 ? x.in(0) : x.call("Concat", {past, x.in(0)}, {{"axis", int64_t{2}}});
  ValueId y = x.call("Conv", {padded, x.in(1), x.in(2)}, {{"group", s[1]}});
  const std::string activation = op.text("activation", "none");
  if (activation == "silu" || activation == "swish") y = x.mul(y, x.call("Sigmoid", {y}));
  else if (activation != "none" && !activation.empty()) unsupported(x.node, "activation '" + activation + "'");
  x.result(0, y);
  if (x.wants(1)) x.result(1, before == 0 ? past : x.slice(padded, 2, s[2], s[2] + before));
  return true;
}

constexpr Operator kOperators[] = {
    {"", "LinearAttention", nullptr, "expands", 3, expand_linear_attention},
    {"", "CausalConvWithState", nullptr, "expands", 2, expand_causal_conv},
};

}  // namespace

std::span<const Operator> linear_attention_operators() { return kOperators; }

}  // namespace systole
