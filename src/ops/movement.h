// Data movement over logical extents: the source may lie in any axis order, and the result is dense in one.
#pragma once
#include "ops/lowering.h"

namespace systole {

/// Strides of a value (held in form.perm) by logical dimension.
std::vector<int64_t> logical_strides(Lowering& l, const Lowering::Form& form);
/// Strides by logical dimension of a dense result of logical `shape` held in `perm`.
std::vector<int64_t> result_strides(const Shape& shape, const Perm& perm);

/// A region over logical extents that writes a result held in some axis order.
struct Piece {
  int input;                         ///< -1: the fill element
  Shape extents;                     ///< logical
  int64_t src_offset, dst_offset;
  std::vector<int64_t> src, dst;     ///< strides by logical dimension
};
CopyRegion to_region(const Piece& piece, const Perm& perm);

/// Emits one move of these pieces and defines output k of the node as its result, held in `perm`.
void define_move(Lowering& l, const Node& node, size_t output, std::vector<ValueId> inputs, const std::vector<Piece>& pieces, const Shape& shape, const Perm& perm, uint64_t fill = 0);

}  // namespace systole
