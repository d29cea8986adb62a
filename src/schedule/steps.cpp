#include "schedule/steps.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "schedule/place.h"
#include "schedule/weave.h"

namespace systole {

namespace {

/// Strides in the target of a region that copies all of a dense tensor of this shape; nothing where they are not the same along a dimension.
std::optional<std::vector<int64_t>> target_strides(const CopyRegion& region, const Shape& shape) {
  struct Loop {
    int64_t extent, below, stride;  // below: elements of the tensor that one iteration passes
  };
  std::vector<Loop> loops;
  int64_t below = 1;
  for (size_t d = region.extents.size(); d-- > 0;) {
    if (region.extents[d] == 1) continue;
    if (region.src_strides[d] != below) return {};
    if (!loops.empty() && region.dst_strides[d] == loops.back().stride * loops.back().extent) loops.back().extent *= region.extents[d];
    else loops.push_back({region.extents[d], below, region.dst_strides[d]});
    below *= region.extents[d];
  }
  if (region.src_offset || below != element_count(shape)) return {};
  std::vector<int64_t> strides(shape.size(), 0);
  below = 1;
  for (size_t d = shape.size(); d-- > 0; below *= shape[d]) {
    if (shape[d] == 1) continue;
    const auto loop = std::find_if(loops.begin(), loops.end(), [&](const Loop& l) { return l.below <= below && below * shape[d] <= l.below * l.extent && below % l.below == 0; });
    if (loop == loops.end()) return {};
    strides[d] = loop->stride * (below / loop->below);
  }
  return strides;
}

/// Finds what maps make for a move alone, to be made in its place: concatenated channels, the phases of a stride.
class Places {
 public:
  Places(const Graph& graph, const Machine* machine) : g_(graph), uses_(graph), machine_(machine) {}

  struct Place {
    ValueId value;  ///< the map's output
    std::vector<int64_t> strides;
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
    auto strides = std::holds_alternative<Map>(maker->op) ? target_strides(region, g_.value(v).shape) : std::nullopt;
    if (!strides) return {};
    const int64_t run = run_bytes(region, *strides, g_.value(v));
    if (run == 0 || (machine_ && run < machine_->vx.lanes * bytes_of(part.type) && stored_bytes(whole) <= machine_->memory.scratchpad_bytes)) return {};
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
  bool same_bytes(ValueId a, ValueId b) const { return stored_bytes(g_.value(a)) == stored_bytes(g_.value(b)) && g_.value(a).type == g_.value(b).type; }
  /// Of a part in its place, whole bursts of DRAM; else 0. Shorter runs are cheaper to copy from the scratchpad than to store one by one, and
  /// in the scratchpad the vector engine's lanes would wait for what is shorter than they are many.
  static int64_t run_bytes(const CopyRegion& region, const std::vector<int64_t>& strides, const Value& part) {
    constexpr int64_t kBurstBytes = 64;
    const int64_t element = bytes_of(part.type);
    int64_t run = 1;
    for (size_t d = strides.size(); d-- > 0;) {
      if (part.shape[d] == 1) continue;
      if (strides[d] == run) run *= part.shape[d];
      else if (strides[d] * element % kBurstBytes) return 0;
    }
    return run * element % kBurstBytes || region.dst_offset * element % kBurstBytes ? 0 : run * element;
  }

  const Graph& g_;
  const Uses uses_;
  const Machine* machine_;
};

/// Who each value is a part of, one step; then all the way.
void share_bytes(const Graph& graph, const Machine* machine, std::vector<ValueId>& root, std::vector<int64_t>& offset, std::vector<std::vector<int64_t>>& strides) {
  for (size_t v = 0; v < root.size(); ++v) root[v] = static_cast<ValueId>(v);
  const Places places(graph, machine);
  auto put = [&](ValueId part, ValueId whole, int64_t at) {
    SYSTOLE_CHECK(root[static_cast<size_t>(part)] == part, graph.value(part).name);
    root[static_cast<size_t>(part)] = whole, offset[static_cast<size_t>(part)] = at;
  };
  for (const Node& node : graph.nodes) {
    if (const auto* v = std::get_if<View>(&node.op)) put(node.outputs[0], node.inputs[0], v->offset_bytes);
    if (const auto* move = std::get_if<Move>(&node.op); move && places.disjoint(node)) {
      for (const CopyRegion& r : move->regions) {
        auto place = places.of(node, r);
        if (!place) continue;
        put(place->value, node.outputs[0], r.dst_offset * bytes_of(graph.value(place->value).type));
        strides[static_cast<size_t>(place->value)] = std::move(place->strides);
      }
    }
    if (!std::holds_alternative<Join>(node.op)) continue;
    int64_t at = 0;
    for (ValueId v : node.inputs) put(v, node.outputs[0], at), at += element_count(graph.value(v).shape) * bytes_of(graph.value(v).type);
  }
  for (size_t v = 0; v < root.size(); ++v) {
    for (ValueId r = root[v]; root[static_cast<size_t>(r)] != r; r = root[v]) offset[v] += offset[static_cast<size_t>(r)], root[v] = root[static_cast<size_t>(r)];
  }
}

}  // namespace

Schedule::Schedule(const Graph& graph, Order order, const Machine* machine) : root(graph.values.size()), offset(graph.values.size(), 0), strides(graph.values.size()), first(graph.values.size(), -1), last(graph.values.size(), -1), touches(graph.values.size(), 0) {
  share_bytes(graph, machine, root, offset, strides);
  std::vector<int> contract_of(graph.values.size(), -1);
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    if (std::holds_alternative<View>(node.op) || std::holds_alternative<Join>(node.op)) continue;
    if (std::holds_alternative<Contract>(node.op)) {
      contract_of[static_cast<size_t>(node.outputs[0])] = static_cast<int>(n);
    } else {
      if (const auto* move = std::get_if<Move>(&node.op); move && !move->regions.empty() && std::all_of(move->regions.begin(), move->regions.end(), [&](const CopyRegion& r) { return in_place(node, r); })) continue;
      Step step{static_cast<int>(n), -1};
      for (ValueId v : node.inputs) step.contract = std::max(step.contract, contract_of[static_cast<size_t>(v)]);
      steps.push_back(step);
    }
  }
  if (order != Order::kAsGiven) steps = (order == Order::kWoven ? weave : order == Order::kCopiesFirst ? copies_first : copies_beside)(graph, steps, root, *machine);
  auto touch = [&](ValueId v, int at) {
    if (v == kNoValue || contract_of[static_cast<size_t>(v)] >= 0) return;
    const size_t r = static_cast<size_t>(root[static_cast<size_t>(v)]);
    if (first[r] < 0) first[r] = at;
    last[r] = std::max(last[r], at);
  };
  auto count = [&](ValueId v) {
    if (v != kNoValue) ++touches[static_cast<size_t>(root[static_cast<size_t>(v)])];
  };
  for (size_t s = 0; s < steps.size(); ++s) {
    // What a contraction touches lives as long as the last step beside it.
    size_t end = s;
    while (end + 1 < steps.size() && steps[end + 1].with == static_cast<int>(s)) ++end;
    for (int n : {steps[s].contract, steps[s].node}) {
      if (n < 0) continue;
      for (ValueId v : graph.nodes[static_cast<size_t>(n)].inputs) touch(v, static_cast<int>(s)), touch(v, static_cast<int>(end)), count(v);
    }
    const ValueId made = graph.nodes[static_cast<size_t>(steps[s].node)].outputs[0];
    touch(made, static_cast<int>(s)), touch(made, static_cast<int>(end)), count(made);
  }
}

bool Schedule::as_given() const {
  return std::none_of(steps.begin(), steps.end(), [](const Step& s) { return s.with >= 0; }) && std::is_sorted(steps.begin(), steps.end(), [](const Step& a, const Step& b) { return a.node < b.node; });
}

}  // namespace systole
