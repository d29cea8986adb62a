// Pad (2, 11, 13, 18, 19): modes constant, reflect, edge, wrap; negative pads crop.
#include <algorithm>
#include <cstring>

#include "ops/movement.h"
#include "ops/operator.h"

namespace systole {
namespace {

uint64_t fill_element(DType type, double value) {
  Tensor t(type, {1});
  t.set(0, value);
  uint64_t bits = 0;
  std::memcpy(&bits, t.bytes.data(), t.bytes.size());
  return bits;
}

/// constant: the margins are filled, then the box is copied; reflect, edge, wrap: each axis in turn copies its margins.
void lower_pad(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const ValueId v = node.inputs[0];
  const Shape in = l.shape(v);
  auto pads = op.has("pads") ? op.integers("pads") : op.has("paddings") ? op.integers("paddings") : l.need_ints(node, 1, "pads");
  std::vector<int64_t> begin(in.size(), 0), end(in.size(), 0), axes;
  if (Lowering::present(node, 3)) axes = l.need_ints(node, 3, "axes");
  else for (size_t d = 0; d < in.size(); ++d) axes.push_back(static_cast<int64_t>(d));
  if (pads.size() != 2 * axes.size()) Lowering::malformed(node, std::to_string(pads.size()) + " pads", std::to_string(2 * axes.size()));
  for (size_t i = 0; i < axes.size(); ++i) {
    const size_t a = static_cast<size_t>(normalise_axis(node, axes[i], in.size()));
    begin[a] = pads[i], end[a] = pads[i + axes.size()];
  }
  Shape shape = in;
  for (size_t d = 0; d < in.size(); ++d) {
    shape[d] += begin[d] + end[d];
    if (shape[d] < 0) Lowering::malformed(node, "pads that remove more than the input has", "a result of 0 or more");
  }
  if (shape == in && begin == std::vector<int64_t>(in.size(), 0)) return l.alias(node.outputs[0], v);
  const auto best = l.best(v);
  const DType type = l.out.value(best.id).type;
  const std::string mode = op.text("mode", "constant");
  double value = op.real("value", 0);
  if (Lowering::present(node, 2)) value = l.need_constant(node, 2, "constant_value")->count() ? l.constant(node.inputs[2])->at(0) : 0;
  const auto src = logical_strides(l, best), dst = result_strides(shape, best.perm);
  std::vector<Piece> pieces;
  // The part of the input that survives negative pads, and where it lands.
  Piece core{0, in, 0, 0, src, dst};
  for (size_t d = 0; d < in.size(); ++d) {
    const int64_t cut_begin = std::max<int64_t>(0, -begin[d]), cut_end = std::max<int64_t>(0, -end[d]);
    core.extents[d] = std::max<int64_t>(0, in[d] - cut_begin - cut_end);
    core.src_offset += cut_begin * src[d];
    core.dst_offset += std::max<int64_t>(0, begin[d]) * dst[d];
  }
  if (mode == "constant") {
    // Margins, axis by axis: dimension d's margins span the core in earlier dimensions and everything in later ones.
    for (size_t d = 0; d < in.size(); ++d) {
      for (int side = 0; side < 2; ++side) {
        Piece p{-1, shape, 0, 0, {}, dst};
        for (size_t e = 0; e < d; ++e) p.extents[e] = core.extents[e], p.dst_offset += std::max<int64_t>(0, begin[e]) * dst[e];
        p.extents[d] = std::max<int64_t>(0, side ? end[d] : begin[d]);
        if (side) p.dst_offset += (std::max<int64_t>(0, begin[d]) + core.extents[d]) * dst[d];
        pieces.push_back(p);
      }
    }
    pieces.push_back(core);
    return define_move(l, node, 0, {best.id}, pieces, shape, best.perm, fill_element(type, value));
  }
  // Each dimension becomes runs of source indices; the result is the product of the runs.
  struct Run {
    int64_t src, dst, length, step;
  };
  std::vector<std::vector<Run>> runs(in.size());
  for (size_t d = 0; d < in.size(); ++d) {
    for (int64_t o = 0; o < shape[d]; ++o) {
      int64_t i = o - begin[d];
      const int64_t n = in[d];
      if (mode == "edge") i = std::clamp<int64_t>(i, 0, n - 1);
      else if (mode == "wrap") i = ((i % n) + n) % n;
      else if (mode == "reflect") {
        const int64_t period = std::max<int64_t>(1, 2 * (n - 1));
        i = ((i % period) + period) % period;
        if (i >= n) i = period - i;
      } else Lowering::unsupported(node, "mode '" + mode + "'");
      auto& list = runs[d];
      if (!list.empty() && list.back().length == 1) list.back().step = i - list.back().src;
      if (!list.empty() && list.back().src + list.back().length * list.back().step == i) ++list.back().length;
      else list.push_back({i, o, 1, 1});
    }
  }
  std::vector<Piece> done = {Piece{0, in, 0, 0, src, dst}};
  for (size_t d = 0; d < in.size(); ++d) {
    std::vector<Piece> next;
    for (const Piece& p : done) {
      for (const Run& r : runs[d]) {
        Piece q = p;
        q.extents[d] = r.length, q.src_offset += r.src * src[d], q.dst_offset += r.dst * dst[d], q.src[d] = r.step * src[d];
        next.push_back(q);
      }
    }
    done = std::move(next);
  }
  define_move(l, node, 0, {best.id}, done, shape, best.perm);
}

constexpr Operator kOperators[] = {
    {"", "Pad", lower_pad, "DMA"},
};

}  // namespace

std::span<const Operator> pad_operators() { return kOperators; }

}  // namespace systole
