// Concat, Split, Slice, Gather (constant indices), Expand, Tile, DepthToSpace, SpaceToDepth: one move each; the source
// may lie in any axis order, the result keeps it.
#include <algorithm>
#include <numeric>

#include "ops/movement.h"
#include "ops/operator.h"

namespace systole {
namespace {

/// Tensors of shape [0] beside others of more axes are nothing: PyTorch begins lists with them.
std::vector<ValueId> joined_by(const Lowering& l, const Node& node) {
  size_t rank = 0;
  for (ValueId v : node.inputs) rank = std::max(rank, l.shape(v).size());
  std::vector<ValueId> parts;
  for (ValueId v : node.inputs) {
    if (rank == 1 || l.shape(v) != Shape{0}) parts.push_back(v);
  }
  return parts;
}

void lower_concat(Lowering& l, const Node& node) {
  const std::vector<ValueId> parts = joined_by(l, node);
  const Shape first = l.shape(parts.at(0));
  const size_t axis = static_cast<size_t>(normalise_axis(node, std::get<OnnxOp>(node.op).integer("axis", 1), first.size()));
  Shape shape = first;
  shape[axis] = 0;
  Perm perm = identity_perm(first.size());
  DType type = l.out.value(l.best(parts[0]).id).type;
  for (ValueId v : parts) {
    Shape s = l.shape(v);
    if (s.size() != first.size()) Lowering::malformed(node, to_string(first) + " and " + to_string(s), "equal ranks");
    shape[axis] += s[axis];
    s[axis] = first[axis];
    if (s != first) Lowering::malformed(node, to_string(first) + " and " + to_string(l.shape(v)), "equal extents outside the axis");
    if (!l.constant(v)) perm = l.best(v).perm, type = l.out.value(l.best(v).id).type;
  }
  const auto dst = result_strides(shape, perm);
  std::vector<Piece> pieces;
  std::vector<ValueId> inputs;
  int64_t at = 0;
  for (ValueId v : parts) {
    auto form = l.best(v);
    form.id = l.in_type_of_move(node, form.id, type);
    pieces.push_back({static_cast<int>(inputs.size()), l.shape(v), 0, at * dst[axis], logical_strides(l, form), dst});
    inputs.push_back(form.id);
    at += l.shape(v)[axis];
  }
  define_move(l, node, 0, inputs, pieces, shape, perm);
}

/// A box of the input with steps.
void define_slice(Lowering& l, const Node& node, size_t output, const std::vector<int64_t>& starts, const std::vector<int64_t>& steps, const Shape& shape) {
  const auto best = l.best(node.inputs[0]);
  const auto src = logical_strides(l, best);
  Piece p{0, shape, 0, 0, src, result_strides(shape, best.perm)};
  for (size_t d = 0; d < shape.size(); ++d) p.src_offset += starts[d] * src[d], p.src[d] *= steps[d];
  if (shape == l.shape(node.inputs[0]) && std::all_of(steps.begin(), steps.end(), [](int64_t s) { return s == 1; })) return l.alias(node.outputs[output], node.inputs[0]);
  define_move(l, node, output, {best.id}, {p}, shape, best.perm);
}

void lower_split(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const Shape in = l.shape(node.inputs[0]);
  const size_t axis = static_cast<size_t>(normalise_axis(node, op.integer("axis", 0), in.size()));
  auto sizes = Lowering::present(node, 1) ? l.need_ints(node, 1, "split") : op.integers("split");
  const int64_t n = static_cast<int64_t>(node.outputs.size());
  if (sizes.empty()) {
    const int64_t each = (in[axis] + n - 1) / n;
    for (int64_t i = 0; i < n; ++i) sizes.push_back(std::clamp<int64_t>(in[axis] - i * each, 0, each));
  }
  if (static_cast<int64_t>(sizes.size()) != n || std::accumulate(sizes.begin(), sizes.end(), int64_t{0}) != in[axis]) Lowering::malformed(node, "split sizes " + to_string(sizes), "one per output, adding up to " + std::to_string(in[axis]));
  Shape start(in.size(), 0), shape = in;
  const Shape steps(in.size(), 1);
  for (size_t i = 0; i < sizes.size(); ++i) {
    shape[axis] = sizes[i];
    if (node.outputs[i] != kNoValue) define_slice(l, node, i, start, steps, shape);
    start[axis] += sizes[i];
  }
}

void lower_slice(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const Shape in = l.shape(node.inputs[0]);
  const bool attributes = op.has("starts");
  const auto from = attributes ? op.integers("starts") : l.need_ints(node, 1, "starts"), to = attributes ? op.integers("ends") : l.need_ints(node, 2, "ends");
  std::vector<int64_t> axes = attributes ? op.integers("axes") : Lowering::present(node, 3) ? l.need_ints(node, 3, "axes") : std::vector<int64_t>{};
  std::vector<int64_t> by = Lowering::present(node, 4) ? l.need_ints(node, 4, "steps") : std::vector<int64_t>(from.size(), 1);
  if (axes.empty()) {
    for (size_t d = 0; d < from.size(); ++d) axes.push_back(static_cast<int64_t>(d));
  }
  if (to.size() != from.size() || axes.size() != from.size() || by.size() != from.size()) Lowering::malformed(node, "starts, ends, axes and steps of different lengths", "equal lengths");
  std::vector<int64_t> starts(in.size(), 0), steps(in.size(), 1);
  Shape shape = in;
  for (size_t i = 0; i < axes.size(); ++i) {
    const size_t a = static_cast<size_t>(normalise_axis(node, axes[i], in.size()));
    const int64_t n = in[a], step = by[i];
    if (step == 0) Lowering::malformed(node, "a step of 0", "another step");
    auto bound = [&](int64_t v, int64_t lo, int64_t hi) { return std::clamp(v < 0 && v >= -n ? v + n : v < -n ? lo : v, lo, hi); };
    const int64_t s = step > 0 ? bound(from[i], 0, n) : bound(from[i], 0, std::max<int64_t>(n - 1, 0));
    const int64_t e = step > 0 ? bound(to[i], 0, n) : bound(to[i], -1, std::max<int64_t>(n - 1, -1));
    starts[a] = s, steps[a] = step;
    shape[a] = std::max<int64_t>(0, step > 0 ? (e - s + step - 1) / step : (s - e - step - 1) / -step);
  }
  define_slice(l, node, 0, starts, steps, shape);
}

/// Constant indices: runs of equally spaced indices become one region each. A scalar index drops the axis.
void lower_gather(Lowering& l, const Node& node) {
  const ValueId v = node.inputs[0];
  const Shape in = l.shape(v);
  const size_t axis = static_cast<size_t>(normalise_axis(node, std::get<OnnxOp>(node.op).integer("axis", 0), in.size()));
  const TensorPtr indices = l.need_constant(node, 1, "indices");
  auto list = indices->to_ints();
  for (int64_t& i : list) {
    if (i < -in[axis] || i >= in[axis]) Lowering::malformed(node, "index " + std::to_string(i), "an index of an axis of " + std::to_string(in[axis]));
    if (i < 0) i += in[axis];
  }
  Shape flat = in;
  flat[axis] = static_cast<int64_t>(list.size());
  const bool scalar = indices->shape.empty();
  const auto best = l.best(v);
  const auto src = logical_strides(l, best), dst = result_strides(flat, best.perm);
  std::vector<Piece> pieces;
  for (size_t i = 0; i < list.size();) {
    size_t end = i + 1;
    const int64_t step = end < list.size() ? list[end] - list[i] : 1;
    while (end < list.size() && list[end] - list[end - 1] == step) ++end;
    Piece p{0, in, list[i] * src[axis], static_cast<int64_t>(i) * dst[axis], src, dst};
    p.extents[axis] = static_cast<int64_t>(end - i), p.src[axis] = step * src[axis];
    pieces.push_back(p);
    i = end;
  }
  if (scalar) {
    // Name the result without the axis: same bytes, same order of the others.
    Move move;
    for (const Piece& p : pieces) move.regions.push_back(to_region(p, best.perm));
    const ValueId id = l.emit(node.name, std::move(move), {best.id}, l.out.value(best.id).type, permute(flat, best.perm));
    Shape shape = in;
    shape.erase(shape.begin() + static_cast<long>(axis));
    Perm perm;
    for (int d : best.perm) {
      if (d != static_cast<int>(axis)) perm.push_back(d > static_cast<int>(axis) ? d - 1 : d);
    }
    return l.define(node.outputs[0], shape, perm, l.emit_view(node.name, id, permute(shape, perm)));
  }
  if (indices->shape.size() == 1) return define_move(l, node, 0, {best.id}, pieces, flat, best.perm);
  Lowering::Form logical{identity_perm(in.size()), l.logical(v)};
  const auto src2 = logical_strides(l, logical), dst2 = row_major_strides(flat);
  Move move;
  for (size_t i = 0; i < list.size(); ++i) {
    Piece p{0, in, list[i] * src2[axis], static_cast<int64_t>(i) * dst2[axis], src2, dst2};
    p.extents[axis] = 1;
    move.regions.push_back(to_region(p, logical.perm));
  }
  const ValueId id = l.emit(node.name, std::move(move), {logical.id}, l.out.value(logical.id).type, flat);
  Shape shape(in.begin(), in.begin() + static_cast<long>(axis));
  shape.insert(shape.end(), indices->shape.begin(), indices->shape.end());
  shape.insert(shape.end(), in.begin() + static_cast<long>(axis) + 1, in.end());
  l.define_logical(node.outputs[0], l.emit_view(node.name, id, shape));
}

void lower_expand(Lowering& l, const Node& node) {
  const ValueId v = node.inputs[0];
  const Shape in = l.shape(v), shape = broadcast_shapes(node, in, l.need_ints(node, 1, "shape"));
  if (shape == in) return l.alias(node.outputs[0], v);
  const auto best = l.best(v);
  const auto own = logical_strides(l, best);
  const size_t shift = shape.size() - in.size();
  Perm perm = shift == 0 ? best.perm : identity_perm(shape.size());
  Piece p{0, shape, 0, 0, std::vector<int64_t>(shape.size(), 0), result_strides(shape, perm)};
  for (size_t d = 0; d < in.size(); ++d) p.src[shift + d] = in[d] == 1 ? 0 : own[d];
  define_move(l, node, 0, {best.id}, {p}, shape, perm);
}

void lower_tile(Lowering& l, const Node& node) {
  const ValueId v = node.inputs[0];
  const Shape in = l.shape(v);
  const auto repeats = l.need_ints(node, 1, "repeats");
  if (repeats.size() != in.size()) Lowering::malformed(node, std::to_string(repeats.size()) + " repeats", std::to_string(in.size()));
  Shape shape = in;
  for (size_t d = 0; d < in.size(); ++d) {
    if (repeats[d] < 0) Lowering::malformed(node, "a negative repeat", "0 or more");
    shape[d] *= repeats[d];
  }
  const auto best = l.best(v);
  const auto src = logical_strides(l, best), dst = result_strides(shape, best.perm);
  // loops (repeat, index) per dimension; repeats of 1 drop out
  CopyRegion r{0, {}, 0, 0, {}, {}};
  for (int p : best.perm) {
    const size_t d = static_cast<size_t>(p);
    if (repeats[d] != 1) r.extents.push_back(repeats[d]), r.src_strides.push_back(0), r.dst_strides.push_back(in[d] * dst[d]);
    r.extents.push_back(in[d]), r.src_strides.push_back(src[d]), r.dst_strides.push_back(dst[d]);
  }
  Move move;
  if (element_count(r.extents) > 0) move.regions.push_back(std::move(r));
  l.define(node.outputs[0], shape, best.perm, l.emit(node.name, std::move(move), {best.id}, l.out.value(best.id).type, permute(shape, best.perm)));
}

/// Channels (b, b, C) or (C, b, b) to space, and back: one affine copy.
void lower_depth_space(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const bool to_space = op.type == "DepthToSpace";
  const Shape in = l.shape(node.inputs[0]);
  const int64_t b = op.integer("blocksize", 0);
  if (in.size() != 4 || b < 1 || (to_space ? in[1] % (b * b) : in[2] % b + in[3] % b) != 0) Lowering::malformed(node, "input " + to_string(in) + ", blocksize " + std::to_string(b), "extents that divide");
  const bool crd = op.text("mode", "DCR") == "CRD";
  const auto best = l.best(node.inputs[0]);
  const auto s = logical_strides(l, best);
  const Shape shape = to_space ? Shape{in[0], in[1] / (b * b), in[2] * b, in[3] * b} : Shape{in[0], in[1] * b * b, in[2] / b, in[3] / b};
  const auto t = result_strides(shape, best.perm);
  const Shape& small = to_space ? in : shape;  // the side with more channels
  const int64_t c = small[1] / (b * b);
  const auto &deep = to_space ? s : t, &wide = to_space ? t : s;
  // loops: n, h, w, bh, bw, c
  const std::vector<int64_t> extents = {small[0], small[2], small[3], b, b, c};
  const std::vector<int64_t> deep_strides = {deep[0], deep[2], deep[3], (crd ? b : b * c) * deep[1], (crd ? 1 : c) * deep[1], (crd ? b * b : 1) * deep[1]};
  const std::vector<int64_t> wide_strides = {wide[0], b * wide[2], b * wide[3], wide[2], wide[3], wide[1]};
  CopyRegion r{0, extents, 0, 0, to_space ? deep_strides : wide_strides, to_space ? wide_strides : deep_strides};
  l.define(node.outputs[0], shape, best.perm, l.emit(node.name, Move{{r}, 0}, {best.id}, l.out.value(best.id).type, permute(shape, best.perm)));
}

constexpr Operator kOperators[] = {
    {"", "Concat", lower_concat, "DMA"},
    {"", "Split", lower_split, "DMA"},
    {"", "Slice", lower_slice, "DMA"},
    {"", "Gather", lower_gather, "DMA", 2},
    {"", "Expand", lower_expand, "DMA", 2},
    {"", "Tile", lower_tile, "DMA", 2},
    {"", "DepthToSpace", lower_depth_space, "DMA"},
    {"", "SpaceToDepth", lower_depth_space, "DMA"},
};

}  // namespace

std::span<const Operator> copy_operators() { return kOperators; }

}  // namespace systole
