#include "schedule/places.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "schedule/place.h"

namespace systole {
namespace {

/// A region that copies all of a dense tensor of this shape, whose strides are `dense`: strides of what is copied on the other side; nothing
/// where they are not the same along a dimension of the tensor, but for two along its first one.
std::optional<Strides> strides_of(const Shape& extents, const std::vector<int64_t>& dense, const std::vector<int64_t>& other, const Shape& shape) {
  struct Loop {
    int64_t extent, below, stride;  // below: elements of the tensor that one iteration passes
  };
  std::vector<Loop> loops;
  int64_t below = 1;
  std::vector<size_t> order;  // of the dense side, innermost first
  for (size_t d = 0; d < extents.size(); ++d) {
    if (extents[d] != 1) order.push_back(d);
  }
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return dense[a] < dense[b]; });
  for (size_t d : order) {
    if (dense[d] != below) return {};
    if (!loops.empty() && other[d] == loops.back().stride * loops.back().extent) loops.back().extent *= extents[d];
    else loops.push_back({extents[d], below, other[d]});
    below *= extents[d];
  }
  if (below != element_count(shape)) return {};
  Strides strides{std::vector<int64_t>(shape.size(), 0)};
  below = 1;
  for (size_t d = shape.size(); d-- > 0; below *= shape[d]) {
    if (shape[d] == 1) continue;
    const auto loop = std::find_if(loops.begin(), loops.end(), [&](const Loop& l) { return l.below <= below && below < l.below * l.extent && below % l.below == 0; });
    if (loop == loops.end()) return {};
    strides.of[d] = loop->stride * (below / loop->below);
    const int64_t end = loop->below * loop->extent;
    if (below * shape[d] <= end) continue;
    if (d > 0 || end % below || loop + 2 != loops.end()) return {};
    strides.images = end / below, strides.outer = (loop + 1)->stride;
  }
  return strides;
}

/// Finds what maps make for a move alone, to be made in its place: concatenated channels, the phases of a stride.
class Places {
 public:
  Places(const Graph& graph, const Machine* machine) : g_(graph), uses_(graph), machine_(machine) {}

  struct Place {
    ValueId value;  ///< the map's output
    Strides strides;
  };
  /// For this region of a move whose regions do not overlap.
  std::optional<Place> of(const Node& move, const CopyRegion& region) const {
    const auto& regions = std::get<Move>(move.op).regions;
    if (region.input < 0 || std::count_if(regions.begin(), regions.end(), [&](const CopyRegion& r) { return r.input == region.input; }) > 1) return {};
    ValueId v = move.inputs[static_cast<size_t>(region.input)];
    const Value &whole = g_.value(move.outputs[0]), &part = g_.value(v);
    if (part.type != whole.type || !for_one_reader(v)) return {};
    const Node* maker = &g_.nodes[static_cast<size_t>(uses_.producer[static_cast<size_t>(v)])];
    if (const auto* view = std::get_if<View>(&maker->op); view && !view->offset_bytes && same_bytes(v, maker->inputs[0]) && for_one_reader(maker->inputs[0])) {
      v = maker->inputs[0], maker = &g_.nodes[static_cast<size_t>(uses_.producer[static_cast<size_t>(v)])];
    }
    const bool whole_part = std::holds_alternative<Map>(maker->op) && region.src_offset == 0;
    auto strides = whole_part ? strides_of(region.extents, region.src_strides, region.dst_strides, g_.value(v).shape) : std::nullopt;
    if (!strides || (strides->images && !drains(*maker))) return {};
    const int64_t run = run_bytes(*strides, region.dst_offset, g_.value(v));
    if (run == 0 || (machine_ && 2 * run < machine_->vx.lanes * bytes_of(part.type) && stored_bytes(whole) <= machine_->memory.scratchpad_bytes)) return {};
    return Place{v, std::move(*strides)};
  }
  bool disjoint(const Node& move) const {
    int64_t elements = 0;
    for (const CopyRegion& r : std::get<Move>(move.op).regions) elements += element_count(r.extents);
    return elements == element_count(g_.value(move.outputs[0]).shape);
  }

 private:
  bool for_one_reader(ValueId v) const {
    const auto i = static_cast<size_t>(v);
    return uses_.producer[i] >= 0 && !uses_.is_output[i] && uses_.readers[i].size() == 1;
  }
  /// Products are drained image by image.
  bool drains(const Node& map) const {
    return std::any_of(map.inputs.begin(), map.inputs.end(), [&](ValueId v) {
      const int producer = v == kNoValue ? -1 : uses_.producer[static_cast<size_t>(v)];
      return producer >= 0 && std::holds_alternative<Contract>(g_.nodes[static_cast<size_t>(producer)].op);
    });
  }
  bool same_bytes(ValueId a, ValueId b) const { return stored_bytes(g_.value(a)) == stored_bytes(g_.value(b)) && g_.value(a).type == g_.value(b).type; }
  /// Of a part in its place, whole bursts of DRAM; else 0. Shorter runs are cheaper to copy from the scratchpad than to store one by one, and
  /// in the scratchpad the vector engine's lanes would wait for what is shorter than they are many.
  static int64_t run_bytes(const Strides& strides, int64_t offset, const Value& part) {
    constexpr int64_t kBurstBytes = 64;
    const int64_t element = bytes_of(part.type);
    int64_t run = 1;
    bool inside = true;  // what is turned has no runs
    for (size_t d = strides.of.size(); d-- > 0;) {
      if (part.shape[d] == 1) continue;
      inside = inside && strides.of[d] == run && !(d == 0 && strides.images);
      if (inside) run *= part.shape[d];
      else if (strides.of[d] * element % kBurstBytes) return 0;
    }
    if (strides.outer * element % kBurstBytes) return 0;
    return run * element % kBurstBytes || offset * element % kBurstBytes ? 0 : run * element;
  }

  const Graph& g_;
  const Uses uses_;
  const Machine* machine_;
};

/// Finds operands of products that a move alone makes, from one tensor: they are loaded as they lie there, turned on their way.
class Operands {
 public:
  Operands(const Graph& graph, const Machine* machine) : g_(graph), uses_(graph), machine_(machine) {}

  /// Values that share the output's bytes under other shapes, it first, if products alone read them, and all of them by strides of the
  /// move's input, which follow.
  std::optional<std::vector<std::pair<ValueId, Strides>>> of(const Node& move) const {
    const auto& regions = std::get<Move>(move.op).regions;
    const ValueId made = move.outputs[0];
    if (regions.size() != 1 || regions[0].input < 0 || regions[0].dst_offset || g_.value(move.inputs[0]).constant) return {};
    std::vector<std::pair<ValueId, Strides>> shapes;
    int readers = 0;
    if (!add(regions[0], made, shapes, readers)) return {};
    // What several read is turned or brought in once where it fits the scratchpad, but for rows that are nearly whole: these are read where they lie.
    const int64_t large = machine_ ? machine_->memory.scratchpad_bytes / 4 : INT64_MAX;
    if (readers != 1 && stored_bytes(g_.value(made)) < large && !nearly_whole(regions[0], g_.value(made), g_.value(move.inputs[0]))) return {};
    return shapes;
  }

 private:
  bool add(const CopyRegion& region, ValueId v, std::vector<std::pair<ValueId, Strides>>& shapes, int& readers) const {
    auto strides = strides_of(region.extents, region.dst_strides, region.src_strides, g_.value(v).shape);
    if (!strides || uses_.is_output[static_cast<size_t>(v)] || !in_bursts(*strides, g_.value(v))) return false;
    shapes.emplace_back(v, std::move(*strides));
    for (int r : uses_.readers[static_cast<size_t>(v)]) {
      const Node& node = g_.nodes[static_cast<size_t>(r)];
      if (const auto* view = std::get_if<View>(&node.op)) {
        const ValueId seen = node.outputs[0];
        if (view->offset_bytes || g_.value(seen).type != g_.value(v).type || stored_bytes(g_.value(seen)) != stored_bytes(g_.value(v)) || !add(region, seen, shapes, readers)) return false;
        continue;
      }
      if (!std::holds_alternative<Contract>(node.op) || std::find(node.inputs.begin() + 2, node.inputs.end(), v) != node.inputs.end()) return false;
      ++readers;
    }
    return true;
  }

  /// Whether the move leaves out a little at the end of each row of its input, as the last pads of a chunk.
  static bool nearly_whole(const CopyRegion& region, const Value& part, const Value& whole) {
    const int64_t taken = stored_bytes(part), all = stored_bytes(whole);
    return region.src_strides.back() == 1 && region.dst_strides.back() == 1 && taken < all && 8 * (all - taken) <= all;
  }

  /// Whether elements that lie side by side in the source are a burst of DRAM at least.
  static bool in_bursts(const Strides& strides, const Value& value) {
    constexpr int64_t kBurstBytes = 64;
    bool bursts = false;
    if (strides.outer < 0) return false;
    for (size_t d = 0; d < strides.of.size(); ++d) {
      if (strides.of[d] < 0) return false;
      bursts = bursts || (strides.of[d] == 1 && value.shape[d] * bytes_of(value.type) >= kBurstBytes);
    }
    return bursts;
  }

  const Graph& g_;
  const Uses uses_;
  const Machine* machine_;
};

}  // namespace

SharedBytes share_bytes(const Graph& graph, const Machine* machine) {
  const size_t values = graph.values.size();
  SharedBytes shared{std::vector<ValueId>(values), std::vector<int64_t>(values, 0), std::vector<Strides>(values)};
  std::vector<ValueId>& root = shared.root;  // lambdas of some compilers cannot read names of a structured binding
  std::vector<int64_t>& offset = shared.offset;
  std::vector<Strides>& strides = shared.strides;
  for (size_t v = 0; v < values; ++v) root[v] = static_cast<ValueId>(v);
  const Places places(graph, machine);
  const Operands operands(graph, machine);
  auto put = [&](ValueId part, ValueId whole, int64_t at) {
    SYSTOLE_CHECK(root[static_cast<size_t>(part)] == part, graph.value(part).name);
    root[static_cast<size_t>(part)] = whole, offset[static_cast<size_t>(part)] = at;
  };
  const auto find_place = [&](const Node& move, const CopyRegion& region) {
    auto place = places.of(move, region);
    if (!place) return false;
    put(place->value, move.outputs[0], region.dst_offset * bytes_of(graph.value(place->value).type));
    strides[static_cast<size_t>(place->value)] = std::move(place->strides);
    return true;
  };
  for (const Node& node : graph.nodes) {
    if (const auto* v = std::get_if<View>(&node.op)) put(node.outputs[0], node.inputs[0], v->offset_bytes);
    if (const auto* move = std::get_if<Move>(&node.op); move && places.disjoint(node)) {
      bool placed = false;
      for (const CopyRegion& r : move->regions) placed |= find_place(node, r);
      auto shapes = placed ? std::nullopt : operands.of(node);
      if (shapes) put(node.outputs[0], node.inputs[0], move->regions[0].src_offset * bytes_of(graph.value(node.inputs[0]).type));
      for (size_t i = 0; shapes && i < shapes->size(); ++i) strides[static_cast<size_t>((*shapes)[i].first)] = std::move((*shapes)[i].second);
    }
    if (!std::holds_alternative<Join>(node.op)) continue;
    int64_t at = 0;
    for (ValueId v : node.inputs) put(v, node.outputs[0], at), at += element_count(graph.value(v).shape) * bytes_of(graph.value(v).type);
  }
  for (size_t v = 0; v < root.size(); ++v) {
    for (ValueId r = root[v]; root[static_cast<size_t>(r)] != r; r = root[v]) offset[v] += offset[static_cast<size_t>(r)], root[v] = root[static_cast<size_t>(r)];
  }
  return shared;
}

}  // namespace systole
