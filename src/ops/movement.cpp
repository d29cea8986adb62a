#include "ops/movement.h"

namespace systole {

std::vector<int64_t> logical_strides(Lowering& l, const Lowering::Form& form) {
  const auto physical = row_major_strides(l.out.value(form.id).shape);
  std::vector<int64_t> s(physical.size());
  for (size_t i = 0; i < physical.size(); ++i) s[static_cast<size_t>(form.perm[i])] = physical[i];
  return s;
}

CopyRegion to_region(const Piece& p, const Perm& perm) {
  CopyRegion r{p.input, permute(p.extents, perm), p.src_offset, p.dst_offset, {}, {}};
  for (int d : perm) {
    r.src_strides.push_back(p.input < 0 ? 0 : p.src[static_cast<size_t>(d)]);
    r.dst_strides.push_back(p.dst[static_cast<size_t>(d)]);
  }
  return r;
}

std::vector<int64_t> result_strides(const Shape& shape, const Perm& perm) {
  const auto physical = row_major_strides(permute(shape, perm));
  std::vector<int64_t> s(shape.size());
  for (size_t i = 0; i < physical.size(); ++i) s[static_cast<size_t>(perm[i])] = physical[i];
  return s;
}

void define_move(Lowering& l, const Node& node, size_t output, std::vector<ValueId> inputs, const std::vector<Piece>& pieces, const Shape& shape, const Perm& perm, uint64_t fill) {
  Move move;
  move.fill_bits = fill;
  for (const Piece& p : pieces) {
    if (element_count(p.extents) > 0) move.regions.push_back(to_region(p, perm));
  }
  const DType type = l.out.value(inputs[0]).type;
  l.define(node.outputs[output], shape, perm, l.emit(node.name, std::move(move), std::move(inputs), type, permute(shape, perm)));
}

}  // namespace systole
