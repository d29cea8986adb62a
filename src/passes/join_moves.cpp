// A copy of a copy is one copy: parts that are cut out, or put side by side, only to be put side by side again go straight to their last
// place.
#include <algorithm>
#include <optional>

#include "passes/passes.h"

namespace systole {
namespace {

bool same_strides(const Shape& extents, const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  for (size_t d = 0; d < extents.size(); ++d) {
    if (extents[d] != 1 && a[d] != b[d]) return false;
  }
  return true;
}

/// Where a part of a tensor goes that is copied as `whole`: a run of bytes to a run of bytes.
bool is_run(const CopyRegion& whole, int64_t elements) {
  const auto dense = row_major_strides(whole.extents);
  return whole.src_offset == 0 && element_count(whole.extents) == elements && same_strides(whole.extents, whole.src_strides, dense) && same_strides(whole.extents, whole.dst_strides, dense);
}

/// A copy of a tensor of this shape with its loops in the order of the tensor's dimensions, where they are that; else as it is.
CopyRegion in_order_of(const CopyRegion& copy, const Shape& shape) {
  const auto dense = row_major_strides(shape);
  CopyRegion r = copy;
  r.extents = shape, r.src_strides = dense, r.dst_strides.assign(shape.size(), 0);
  size_t found = 0;
  for (size_t d = 0; d < shape.size(); ++d) {
    for (size_t loop = 0; loop < copy.extents.size(); ++loop) {
      if (shape[d] == 1 || copy.extents[loop] != shape[d] || copy.src_strides[loop] != dense[d]) continue;
      r.dst_strides[d] = copy.dst_strides[loop], ++found;
      break;
    }
  }
  const auto many = [](const Shape& s) { return static_cast<size_t>(std::count_if(s.begin(), s.end(), [](int64_t e) { return e != 1; })); };
  return found == many(shape) && found == many(copy.extents) ? r : copy;
}

/// Whether what lies together along the part's last loop still does.
bool keeps_runs(const CopyRegion& part, const CopyRegion& whole) {
  for (size_t d = part.extents.size(); d-- > 0;) {
    if (part.extents[d] != 1) return whole.dst_strides[d] == 1;
  }
  return true;
}

/// Whether the part is turned as a whole: runs of its source across runs of the target, both long enough for the DMA's squares.
bool turns_squares(const CopyRegion& part, const CopyRegion& whole) {
  constexpr int64_t kLong = 7;
  bool source = false, target = false;
  for (size_t d = 0; d < part.extents.size(); ++d) {
    if (part.extents[d] < kLong) continue;
    source |= part.src_strides[d] == 1, target |= whole.dst_strides[d] == 1;
  }
  return source && target;
}

/// `part` of a tensor of this shape, at the place where `whole`, which copies all of the tensor in its own shape, puts it. Nothing where the
/// part is no box of the tensor, or where elements that lay together would not.
std::optional<CopyRegion> placed(CopyRegion part, const CopyRegion& copy, const Shape& shape) {
  const auto dense = row_major_strides(shape);
  const CopyRegion whole = in_order_of(copy, shape);
  if (whole.src_offset || whole.extents != shape || !same_strides(shape, whole.src_strides, dense) || part.extents.size() != shape.size() || !same_strides(part.extents, part.dst_strides, dense)) return {};
  int64_t rest = part.dst_offset;
  part.dst_offset = whole.dst_offset;
  for (size_t d = 0; d < shape.size(); ++d) {
    const int64_t at = rest / dense[d];
    rest -= at * dense[d];
    if (at + part.extents[d] > shape[d]) return {};
    part.dst_offset += at * whole.dst_strides[d];
  }
  if (part.input >= 0 && !keeps_runs(part, whole) && !turns_squares(part, whole)) return {};
  part.dst_strides = whole.dst_strides;
  return part;
}

class Joiner {
 public:
  explicit Joiner(Graph& graph) : g_(graph), uses_(graph) {}

  bool run() {
    bool changed = false;
    for (Node& n : g_.nodes) {
      if (std::holds_alternative<Move>(n.op)) changed = join(n) || changed;
    }
    if (changed) prune_and_sort(g_);
    return changed;
  }

 private:
  /// The move that makes `v` for its only reader, through views of all of it; null if there is none.
  const Node* maker(ValueId v, bool& reshaped) const {
    for (reshaped = false;;) {
      const auto i = static_cast<size_t>(v);
      const int p = uses_.producer[i];
      if (p < 0 || uses_.is_output[i] || uses_.readers[i].size() != 1) return nullptr;
      const Node& n = g_.nodes[static_cast<size_t>(p)];
      if (std::holds_alternative<Move>(n.op)) return &n;
      const auto* view = std::get_if<View>(&n.op);
      if (!view || view->offset_bytes || g_.value(n.inputs[0]).type != g_.value(v).type || element_count(g_.value(n.inputs[0]).shape) != element_count(g_.value(v).shape)) return nullptr;
      reshaped = true, v = n.inputs[0];
    }
  }

  /// The regions of `inner` in place of `whole`, which reads what it makes; nothing where they have no form.
  std::optional<std::vector<CopyRegion>> regions_of(const Node& inner, const CopyRegion& whole, bool reshaped) const {
    const Shape& shape = g_.value(inner.outputs[0]).shape;
    const bool run = is_run(whole, element_count(shape));
    std::vector<CopyRegion> list;
    for (CopyRegion r : std::get<Move>(inner.op).regions) {
      if (run) r.dst_offset += whole.dst_offset;
      else if (auto there = reshaped ? std::nullopt : placed(r, whole, shape)) r = *there;
      else return {};
      list.push_back(std::move(r));
    }
    return list;
  }

  static bool fills(const Move& m) {
    return std::any_of(m.regions.begin(), m.regions.end(), [](const CopyRegion& r) { return r.input < 0; });
  }

  bool join(Node& n) {
    auto& outer = std::get<Move>(n.op);
    std::vector<CopyRegion> regions;
    std::vector<ValueId> inputs = n.inputs;
    bool changed = false;
    for (const CopyRegion& r : outer.regions) {
      bool reshaped = false;
      const Node* inner = r.input < 0 ? nullptr : maker(n.inputs[static_cast<size_t>(r.input)], reshaped);
      const bool once = r.input >= 0 && std::count_if(outer.regions.begin(), outer.regions.end(), [&](const CopyRegion& o) { return o.input == r.input; }) == 1;
      const Move* move = inner && once ? &std::get<Move>(inner->op) : nullptr;
      if (move && fills(*move) && (fills(outer) || changed) && move->fill_bits != outer.fill_bits) move = nullptr;
      auto parts = move ? regions_of(*inner, r, reshaped) : std::nullopt;
      if (!parts || regions.size() + parts->size() > kMostRegions) {
        regions.push_back(r);
        continue;
      }
      if (fills(*move)) outer.fill_bits = move->fill_bits;
      for (CopyRegion& p : *parts) {
        if (p.input >= 0) inputs.push_back(inner->inputs[static_cast<size_t>(p.input)]), p.input = static_cast<int>(inputs.size()) - 1;
        regions.push_back(std::move(p));
      }
      changed = true;
    }
    if (!changed) return false;
    keep_used(regions, inputs);
    outer.regions = std::move(regions), n.inputs = std::move(inputs);
    return true;
  }

  /// Inputs that regions still name, each once.
  static void keep_used(std::vector<CopyRegion>& regions, std::vector<ValueId>& inputs) {
    std::vector<ValueId> used;
    for (CopyRegion& r : regions) {
      if (r.input < 0) continue;
      const ValueId v = inputs[static_cast<size_t>(r.input)];
      auto at = std::find(used.begin(), used.end(), v);
      if (at == used.end()) at = used.insert(used.end(), v);
      r.input = static_cast<int>(at - used.begin());
    }
    inputs = std::move(used);
  }

  static constexpr size_t kMostRegions = 256;
  Graph& g_;
  const Uses uses_;
};

}  // namespace

void join_moves(Graph& graph) {
  while (Joiner(graph).run()) {
  }
}

}  // namespace systole
