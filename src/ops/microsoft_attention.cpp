// com.microsoft's Attention, QAttention, MultiHeadAttention, GroupQueryAttention and RotaryEmbedding, as ONNX Runtime's
// ContribOperators.md defines them, written through the core of src/ops/attention.h.
#include <algorithm>
#include <cmath>

#include "ops/attention.h"
#include "ops/operator.h"

namespace systole {
namespace {

double scale_of(const OnnxOp& op, int64_t head_size) {
  const float given = op.real("scale", 0);
  return static_cast<double>(given != 0 ? given : 1 / std::sqrt(static_cast<float>(head_size)));
}

/// 0 where the mask is set, `hidden` elsewhere.
ValueId mask_bias(Expander& x, ValueId mask, const Shape& to, double hidden) {
  const ValueId set = x.call("Greater", {x.cast(mask, DType::kF32), x.scalar(0)});
  return x.reshape(x.call("Where", {set, x.scalar(0), x.scalar(hidden)}), to);
}

/// The bias of a mask of any of the documented shapes: [B] lengths, [2 B] ends and starts, [B, T], [B, S, T].
ValueId key_mask_bias(Expander& x, size_t k, int64_t batch, int64_t rows, int64_t columns, double hidden) {
  const Shape& s = x.shape(k);
  if (s == Shape{batch, columns}) return mask_bias(x, x.in(k), {batch, 1, 1, columns}, hidden);
  if (s == Shape{batch, rows, columns}) return mask_bias(x, x.in(k), {batch, 1, rows, columns}, hidden);
  if (s == Shape{batch}) return length_bias(x, x.in(k), batch, columns, hidden);
  if (s == Shape{2 * batch}) {
    const ValueId ends = length_bias(x, x.slice(x.in(k), 0, 0, batch), batch, columns, hidden);
    const ValueId before = length_bias(x, x.slice(x.in(k), 0, batch, 2 * batch), batch, columns, hidden);
    const ValueId starts = x.sub(x.scalar(hidden), before);  // hidden before the start, 0 from it on
    return x.call("Min", {ends, starts});
  }
  Lowering::unsupported(x.node, "a mask of shape " + to_string(s));
}

/// Adds the past to keys and values of [B, N, S, H]; gives its length.
int64_t prepend(Expander& x, ValueId& k, ValueId& v, ValueId past_k, ValueId past_v, int64_t length) {
  k = x.call("Concat", {past_k, k}, {{"axis", int64_t{2}}}), v = x.call("Concat", {past_v, v}, {{"axis", int64_t{2}}});
  return length;
}

struct PackedInputs {
  size_t mask, past, bias;  ///< inputs: mask_index, past, attention bias
};

/// One projection [B, S, D + D + Dv] to the output: what Attention and QAttention share.
void attend_packed(Expander& x, ValueId projected, const std::vector<int64_t>& sizes, const PackedInputs& at) {
  const OnnxOp& op = x.op();
  const int64_t heads = op.integer("num_heads", 0), batch = x.shape(0)[0], rows = x.shape(0)[1];
  if (heads < 1 || sizes[0] != sizes[1] || sizes[0] % heads || sizes[2] % heads) malformed(x.node, std::to_string(heads) + " heads for sizes " + to_string(Shape(sizes)), "num_heads that divides equal q and k sizes, and v's");
  const Shape q{batch, heads, rows, sizes[0] / heads}, v{batch, heads, rows, sizes[2] / heads};
  auto part = [&](int64_t from, const Shape& s) { return split_heads(x, x.slice(projected, 2, from, from + s[1] * s[3]), {batch, rows, s[1] * s[3]}, heads); };
  AttentionCore core{part(0, q), part(sizes[0], q), part(2 * sizes[0], v)};
  int64_t past = 0;
  if (x.has(at.past)) {
    const Shape& p = x.shape(at.past);  // [2, B, N, P, H]
    if (p.size() != 5 || p[0] != 2 || v[3] != q[3]) malformed(x.node, "past of shape " + to_string(p), "[2, batch, heads, length, size]");
    auto half = [&](int64_t k) { return x.reshape(x.slice(x.in(at.past), 0, k, k + 1), {p[1], p[2], p[3], p[4]}); };
    past = prepend(x, core.k, core.v, half(0), half(1), p[3]);
  }
  const int64_t columns = past + rows;
  if (x.wants(1)) {
    const Shape one{1, batch, heads, columns, q[3]};
    x.result(1, x.call("Concat", {x.reshape(core.k, one), x.reshape(core.v, one)}, {{"axis", int64_t{0}}}));
  }
  core.scale = scale_of(op, q[3]);
  if (x.has(at.mask)) core.biases.push_back(key_mask_bias(x, at.mask, batch, rows, columns, static_cast<double>(op.real("mask_filter_value", -10000))));
  if (op.integer("unidirectional", 0)) core.biases.push_back(x.constant_tensor(causal_bias(rows, columns, past)));
  if (at.bias && x.has(at.bias)) core.biases.push_back(x.in(at.bias));
  x.result(0, join_heads(x, core.write(x).y, v));
}

/// input, weights, bias, mask_index, past, attention_bias, past_sequence_length
bool expand_packed_attention(Expander& x) {
  const OnnxOp& op = x.op();
  if (x.shape(0).size() != 3 || x.shape(1).size() != 2) malformed(x.node, "shapes " + to_string(x.shape(0)) + " and " + to_string(x.shape(1)), "[batch, length, width] and a matrix");
  if (op.integer("do_rotary", 0) || x.has(6)) Lowering::unsupported(x.node, "do_rotary, or a past in a shared buffer");
  auto sizes = op.integers("qkv_hidden_sizes");
  if (sizes.empty()) sizes.assign(3, x.shape(1)[1] / 3);
  if (sizes.size() != 3 || sizes[0] + sizes[1] + sizes[2] != x.shape(1)[1]) malformed(x.node, "qkv_hidden_sizes " + to_string(Shape(sizes)), "three that add up to " + std::to_string(x.shape(1)[1]));
  ValueId projected = x.call("MatMul", {x.in(0), x.in(1)});
  if (x.has(2)) projected = x.add(projected, x.in(2));
  attend_packed(x, projected, sizes, {3, 4, 5});
  return true;
}

/// input, weight, bias, input_scale, weight_scale, mask_index, input_zero, weight_zero, past
bool expand_quantized_attention(Expander& x) {
  if (x.shape(0).size() != 3 || x.shape(1).size() != 2) malformed(x.node, "shapes " + to_string(x.shape(0)) + " and " + to_string(x.shape(1)), "[batch, length, width] and a matrix");
  const ValueId sums = x.call("MatMulInteger", {x.in(0), x.in(1), x.in(6), x.in(7)});
  const ValueId projected = x.add(x.mul(x.cast(sums, DType::kF32), x.mul(x.in(3), x.in(4))), x.in(2));
  attend_packed(x, projected, std::vector<int64_t>(3, x.shape(1)[1] / 3), {5, 8, 0});
  return true;
}

/// query, key, value, bias, key_padding_mask, attention_bias, past_key, past_value. Key [B, T, D], or [B, N, T, H] with the value alike.
bool expand_multi_head_attention(Expander& x) {
  const OnnxOp& op = x.op();
  const int64_t heads = op.integer("num_heads", 0);
  const Shape sq = x.shape(0);
  const bool packed = sq.size() == 5;  // [B, S, N, 3, H]
  if (heads < 1 || (!packed && (sq.size() != 3 || !x.has(1) || (!x.has(2) && x.shape(1).size() != 5)))) malformed(x.node, "query of shape " + to_string(sq), "[batch, length, width] with num_heads, key and value, or a packed projection");
  const int64_t batch = sq[0], rows = sq[1], size = packed ? sq[4] : sq[2] / heads;
  auto unpack = [&](size_t k, int64_t of) {  // [B, L, N, parts, H] to [B, N, L, H]
    const Shape& s = x.shape(k);
    return x.transpose(x.reshape(x.slice(x.in(k), 3, of, of + 1), {s[0], s[1], s[2], s[4]}), {0, 2, 1, 3});
  };
  auto biased = [&](size_t k, int64_t from, int64_t width) { return x.has(3) ? x.add(x.in(k), x.slice(x.in(3), 0, from, from + width)) : x.in(k); };
  AttentionCore core{};
  int64_t keys = rows, value_size = size;
  if (packed) {
    if (x.has(3)) Lowering::unsupported(x.node, "a bias on a packed projection");
    core.q = unpack(0, 0), core.k = unpack(0, 1), core.v = unpack(0, 2);
  } else {
    const Shape sk = x.shape(1);
    core.q = split_heads(x, biased(0, 0, heads * size), sq, heads);
    if (sk.size() == 5) {
      keys = sk[1], core.k = unpack(1, 0), core.v = unpack(1, 1);
    } else {
      const Shape sv = x.shape(2);
      if (sk.size() != sv.size() || (sk.size() != 3 && sk.size() != 4)) malformed(x.node, "key " + to_string(sk) + ", value " + to_string(sv), "both of rank 3 or of rank 4");
      keys = sk.size() == 4 ? sk[2] : sk[1], value_size = sv.size() == 4 ? sv[3] : sv[2] / heads;
      core.k = sk.size() == 4 ? x.in(1) : split_heads(x, biased(1, heads * size, heads * size), sk, heads);
      core.v = sv.size() == 4 ? x.in(2) : split_heads(x, biased(2, 2 * heads * size, heads * value_size), sv, heads);
    }
  }
  const int64_t past = x.has(6) && x.has(7) ? prepend(x, core.k, core.v, x.in(6), x.in(7), x.shape(6).at(2)) : 0, columns = past + keys;
  x.result(1, core.k), x.result(2, core.v);
  core.scale = scale_of(op, size);
  if (x.has(4)) core.biases.push_back(key_mask_bias(x, 4, batch, rows, columns, static_cast<double>(op.real("mask_filter_value", -10000))));
  if (x.has(5)) core.biases.push_back(x.in(5));
  if (op.integer("unidirectional", 0)) core.biases.push_back(x.constant_tensor(causal_bias(rows, columns, past)));
  x.result(0, join_heads(x, core.write(x).y, {batch, heads, rows, value_size}));
  return true;
}

/// A table's rows at each batch's positions: [1, S, 1, half] from constants, [B, S, 1, half] otherwise.
ValueId angles_at(Expander& x, size_t table, ValueId positions, int64_t batch, int64_t rows, int64_t half) {
  const ValueId all = x.slice(x.in(table), -1, 0, half);
  return x.reshape(x.call("Gather", {all, positions}, {{"axis", int64_t{0}}}), {batch, rows, 1, half});
}

/// query, key, value, past_key, past_value, seqlens_k [B] (keys in all - 1), total_sequence_length, cos_cache, sin_cache, position_ids,
/// attention_bias. The past is a buffer of which seqlens_k + 1 - S entries count; `present` has room for S more unless the total says
/// that the buffer is shared.
bool expand_group_query_attention(Expander& x) {
  const OnnxOp& op = x.op();
  const int64_t heads = op.integer("num_heads", 0), groups = op.integer("kv_num_heads", 0), window = op.integer("local_window_size", -1);
  if (heads < 1 || groups < 1 || heads % groups || x.shape(0).size() != 3) malformed(x.node, std::to_string(heads) + " heads, " + std::to_string(groups) + " of keys, query " + to_string(x.shape(0)), "num_heads a multiple of kv_num_heads, query of rank 3");
  if (op.integer("smooth_softmax", 0) || x.has(11) || op.integer("qk_output", 0)) Lowering::unsupported(x.node, "smooth_softmax, head_sink or qk_output");
  const int64_t batch = x.shape(0)[0], rows = x.shape(0)[1];
  const bool packed = !x.has(1);
  const int64_t size = x.shape(0)[2] / (packed ? heads + 2 * groups : heads);
  const TensorPtr total = x.constant(6);
  const int64_t room = x.has(3) ? x.shape(3).at(2) : 0;
  const int64_t columns = total && total->count() == 1 ? std::max(room, total->int_at(0)) : room + rows;
  if (columns > room + rows) malformed(x.node, "total_sequence_length " + std::to_string(columns), "at most the past's " + std::to_string(room) + " and the query's " + std::to_string(rows));
  auto part = [&](size_t k, int64_t from, int64_t n) {  // [B, S, n, H]
    return x.reshape(packed ? x.slice(x.in(0), 2, from * size, (from + n) * size) : x.in(k), {batch, rows, n, size});
  };
  ValueId q = part(0, 0, heads), k = part(1, heads, groups);
  const ValueId v = part(2, heads + groups, groups);
  // Positions of this call's rows: seqlens_k + 1 - S onward, per batch.
  std::vector<int64_t> offsets;
  for (int64_t i = 0; i < rows; ++i) offsets.push_back(i + 1 - rows);
  const ValueId lengths = x.reshape(x.cast(x.in(5), DType::kI64), {batch, 1}), positions = x.add(lengths, x.ints(offsets));  // [B, S]
  if (op.integer("do_rotary", 0)) {
    if (!x.has(7) || !x.has(8)) malformed(x.node, "do_rotary without tables", "cos_cache and sin_cache");
    const int64_t half = x.shape(7).at(1);
    const ValueId at = x.has(9) ? x.in(9) : positions, cosine = angles_at(x, 7, at, batch, rows, half), sine = angles_at(x, 8, at, batch, rows, half);
    const bool interleaved = op.integer("rotary_interleaved", 0) != 0;
    q = rotate_heads(x, q, {batch, rows, heads, size}, cosine, sine, 2 * half, interleaved), k = rotate_heads(x, k, {batch, rows, groups, size}, cosine, sine, 2 * half, interleaved);
  }
  AttentionCore core{x.transpose(q, {0, 2, 1, 3}), x.transpose(k, {0, 2, 1, 3}), x.transpose(v, {0, 2, 1, 3})};
  if (room > 0) {
    const ValueId first = x.reshape(x.add(lengths, x.ints({1 - rows})), {batch});
    auto write = [&](size_t past, ValueId fresh) {
      ValueId buffer = x.in(past);
      if (columns > room) buffer = x.call("Concat", {buffer, x.constant_tensor(Tensor(DType::kF32, {batch, groups, columns - room, size}))}, {{"axis", int64_t{2}}});
      return x.call("TensorScatter", {buffer, fresh, first}, {{"axis", int64_t{2}}});
    };
    core.k = write(3, core.k), core.v = write(4, core.v);
  } else if (columns != rows) {
    Lowering::unsupported(x.node, "a total_sequence_length above the query's without a past");
  }
  x.result(1, core.k), x.result(2, core.v);
  const Shape kv{batch, groups, columns, size};
  core.k = repeat_heads(x, core.k, kv, heads / groups), core.v = repeat_heads(x, core.v, kv, heads / groups);
  core.scale = scale_of(op, size), core.softcap = static_cast<double>(op.real("softcap", 0));
  std::vector<int64_t> keys;
  for (int64_t j = 0; j < columns; ++j) keys.push_back(j);
  const ValueId row = x.reshape(positions, {batch, 1, rows, 1}), column = x.ints(keys);
  core.biases.push_back(x.call("Where", {x.call("LessOrEqual", {column, row}), x.scalar(0), x.scalar(-INFINITY)}));
  if (window > 0) core.biases.push_back(x.call("Where", {x.call("Greater", {column, x.sub(row, x.ints({window}))}), x.scalar(0), x.scalar(-INFINITY)}));
  if (x.has(10)) core.biases.push_back(x.in(10));
  x.result(0, join_heads(x, core.write(x).y, {batch, heads, rows, size}));
  return true;
}

/// input [B, S, width] or [B, N, S, H], position_ids [1] (of the first row) or [B, S], cos_cache, sin_cache
bool expand_rotary_embedding(Expander& x) {
  const OnnxOp& op = x.op();
  const Shape s = x.shape(0), table = x.shape(2);
  if ((s.size() != 3 && s.size() != 4) || table.size() != 2 || op.integer("is_packed_batching", 0)) Lowering::unsupported(x.node, "shapes " + to_string(s) + " and " + to_string(table) + ", or packed batching");
  const int64_t half = table[1], given = op.integer("num_heads", 0);
  const int64_t heads = s.size() == 4 ? s[1] : given > 0 ? given : s[2] / (2 * half), batch = s[0], rows = s.size() == 4 ? s[2] : s[1], size = s.size() == 4 ? s[3] : s[2] / heads;
  ValueId positions = x.in(1);
  if (element_count(x.shape(1)) == 1 && rows * batch != 1) {
    std::vector<int64_t> offsets;
    for (int64_t i = 0; i < rows * batch; ++i) offsets.push_back(i % rows);
    positions = x.add(x.in(1), x.ints(offsets));
  }
  const ValueId cosine = angles_at(x, 2, positions, batch, rows, half), sine = angles_at(x, 3, positions, batch, rows, half);
  x.result(0, rotate_input(x, {batch, rows, heads, size}, cosine, sine, 2 * half));
  return true;
}

constexpr Operator kOperators[] = {
    {"com.microsoft", "Attention", nullptr, "expands", 2, expand_packed_attention},
    {"com.microsoft", "QAttention", nullptr, "expands", 5, expand_quantized_attention},
    {"com.microsoft", "MultiHeadAttention", nullptr, "expands", 1, expand_multi_head_attention},
    {"com.microsoft", "GroupQueryAttention", nullptr, "expands", 1, expand_group_query_attention},
    {"com.microsoft", "RotaryEmbedding", nullptr, "expands", 4, expand_rotary_embedding},
};

}  // namespace

std::span<const Operator> microsoft_attention_operators() { return kOperators; }

}  // namespace systole
