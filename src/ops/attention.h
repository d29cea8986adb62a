// What the attention operators share: heads, biases that hide keys, and the core of products and softmax, written as other
// operators' nodes.
#pragma once
#include <optional>
#include <vector>

#include "ops/expander.h"

namespace systole {

/// [B, S, heads x size] to [B, heads, S, size]; four-dimensional values stay.
ValueId split_heads(Expander& x, ValueId v, const Shape& shape, int64_t heads);

/// [B, heads, S, size] to [B, S, heads x size].
ValueId join_heads(Expander& x, ValueId v, const Shape& heads);

/// Keys and values [B, heads, S, size] of one head serve `repeat` query heads.
ValueId repeat_heads(Expander& x, ValueId v, const Shape& s, int64_t repeat);

/// [rows, columns]: 0 where query row i + past may see key j, -inf elsewhere; a `window` counts the keys a row sees, its own included.
Tensor causal_bias(int64_t rows, int64_t columns, int64_t past, int64_t window = 0);

/// -inf (or `hidden`) from each batch's own length on: [B, 1, 1, columns]. Lengths may be computed at run time.
ValueId length_bias(Expander& x, ValueId lengths, int64_t batch, int64_t columns, double hidden);

/// softmax(scale q k^T + biases) v for q [B, N, S, H], k [B, N, T, H], v [B, N, T, Hv].
struct AttentionCore {
  ValueId q, k, v;
  double scale = 1, softcap = 0;
  std::vector<ValueId> biases;  ///< broadcast to [B, N, S, T]; added in this order, after the cap

  struct Result {
    ValueId raw, capped, scores, weights, y;
  };
  Result write(Expander& x) const;
};

/// Turns each head's first half (or its even elements) against its second (odd) by the angles of its position, over `rotary`
/// of its `size` elements. x4 [B, S, heads, size]; cosines and sines [B or 1, S, 1, rotary / 2].
ValueId rotate_heads(Expander& x, ValueId x4, const Shape& shape, ValueId cosine, ValueId sine, int64_t rotary, bool interleaved);

/// The node's input 0, [B, heads, S, size] or [B, S, heads x size], turned that way in its own order; `shape` is [B, S, heads, size].
ValueId rotate_input(Expander& x, const Shape& shape, ValueId cosine, ValueId sine, int64_t rotary);

}  // namespace systole
