#include "sim/translate/vector_plan.h"

#include <algorithm>

#include "isa/footprint.h"
#include "numerics/reduce.h"

namespace systole {
namespace {

using isa::StreamType;

bool has_form(StreamType t) {
  switch (t) {
    case StreamType::kF32: case StreamType::kBF16: case StreamType::kF16: case StreamType::kI8: case StreamType::kU8: case StreamType::kI32: case StreamType::kI16: case StreamType::kU16:
    case StreamType::kF8E4M3: case StreamType::kF8E5M2: case StreamType::kNone: return true;
    default: return false;
  }
}

class Planner {
 public:
  explicit Planner(const isa::VectorOp& op) : op_(op), d_(*op.desc) {}

  std::optional<VectorPlan> plan() {
    for (StreamType t : d_.types) {
      if (!has_form(t)) return {};
    }
    for (uint32_t e : d_.extents) {
      if (e == 0) return {};
    }
    if (overlaps_out_of_step()) return {};
    const int kept = isa::kVectorDims - d_.reduced;
    const std::vector<VectorLoop> outer = loops(0, kept), reduced = loops(kept, isa::kVectorDims);
    if (d_.reduced == 0) return lanes_kept(outer, {});
    auto along = lanes_reduced(outer, reduced);
    if (along && along->lanes.extent >= 16) return along;
    if (auto across = lanes_kept(outer, reduced)) return across;
    return along;
  }

 private:
  bool used(size_t stream) const { return d_.types[stream] != StreamType::kNone; }
  int64_t element(size_t stream) const { return isa::bytes_of(d_.types[stream]); }
  bool guarded() const { return d_.guard_h_limit != 0; }

  /// Loops [from, to) without those of one trip, neighbours that advance every stream as one loop joined.
  std::vector<VectorLoop> loops(int from, int to) const {
    const std::array<int32_t, isa::kVectorDims>* strides[] = {&d_.strides0, &d_.strides1, &d_.strides2, &d_.out_strides};
    std::vector<VectorLoop> list;
    for (int k = from; k < to; ++k) {
      const auto i = static_cast<size_t>(k);
      VectorLoop l;
      l.extent = d_.extents[i];
      if (l.extent == 1) continue;
      for (size_t s = 0; s < kVectorStreams; ++s) {
        if (used(s) && !(s == kVectorOut && from > 0)) l.strides[s] = (*strides[s])[i];
      }
      if (guarded()) l.guard_h = d_.guard_h[i], l.guard_w = d_.guard_w[i];
      if (!list.empty() && joins(list.back(), l)) l.extent *= list.back().extent, list.back() = l;
      else list.push_back(l);
    }
    return list;
  }
  static bool joins(const VectorLoop& outer, const VectorLoop& inner) {
    for (size_t s = 0; s < kVectorStreams; ++s) {
      if (outer.strides[s] != inner.strides[s] * inner.extent) return false;
    }
    return outer.guard_h == inner.guard_h * inner.extent && outer.guard_w == inner.guard_w * inner.extent;
  }

  bool inputs_suit_lanes(const VectorLoop& l) const {
    for (size_t s = 0; s < isa::kVectorInputs; ++s) {
      if (used(s) && l.strides[s] != 0 && l.strides[s] != element(s)) return false;
    }
    return l.guard_h == 0 && l.guard_w == 0;
  }

  /// Takes the longest loop that `suits` out of the list; one trip where there is none.
  template <class F>
  static VectorLoop take_longest(std::vector<VectorLoop>& list, F suits) {
    auto best = list.end();
    for (auto it = list.begin(); it != list.end(); ++it) {
      if (suits(*it) && (best == list.end() || it->extent > best->extent)) best = it;
    }
    if (best == list.end()) return {};
    const VectorLoop taken = *best;
    list.erase(best);
    return taken;
  }

  std::optional<VectorPlan> lanes_kept(std::vector<VectorLoop> kept, std::vector<VectorLoop> reduced) const {
    VectorPlan p;
    p.kind = d_.reduced == 0 ? VectorPlan::Kind::kMap : VectorPlan::Kind::kLanesKept;
    p.lanes = take_longest(kept, [&](const VectorLoop& l) { return l.strides[kVectorOut] == element(kVectorOut) && inputs_suit_lanes(l); });
    if (p.lanes.extent == 1 && !kept.empty() && (kept.size() > 1 || kept[0].extent > 8)) return {};  // one lane at a time is the interpreter's work
    if (d_.reduced == 0) p.rows = take_longest(kept, [&](const VectorLoop&) { return !guarded(); });
    p.outer = std::move(kept), p.reduced = std::move(reduced);
    if (d_.reduced > 0 && p.reduced_positions() > kSumBlock) return {};
    return p;
  }

  std::optional<VectorPlan> lanes_reduced(std::vector<VectorLoop> kept, const std::vector<VectorLoop>& reduced) const {
    if (guarded() || reduced.size() > 1) return {};
    VectorPlan p;
    p.kind = VectorPlan::Kind::kLanesReduced;
    if (!reduced.empty()) p.lanes = reduced[0];
    if (!inputs_suit_lanes(p.lanes)) return {};
    p.rows = take_longest(kept, [](const VectorLoop&) { return true; });
    p.outer = std::move(kept);
    return p;
  }

  /// Whether the output's bytes overlap an input's other than element on element.
  bool overlaps_out_of_step() const {
    const isa::Dispatched whole{0, isa::Engine::kVector, isa::kNoWaits, 0, op_};
    const auto touches = isa::footprint(whole, 1);
    const std::array<int32_t, isa::kVectorDims>* strides[] = {&d_.strides0, &d_.strides1, &d_.strides2};
    for (size_t s = 0, t = 0; s < isa::kVectorInputs; ++s) {
      if (!used(s) || (s == 0 && guarded() && !d_.guard_w_limit)) continue;
      const isa::Touch &in = touches[t++], &out = touches.back();
      if (in.space != out.space || in.lo >= out.hi || out.lo >= in.hi) continue;
      const bool in_step = d_.reduced == 0 && !(s == 0 && guarded()) && op_.addresses[s] == op_.addresses[kVectorOut] && *strides[s] == d_.out_strides && element(s) == element(kVectorOut);
      if (!in_step) return true;
    }
    return false;
  }

  const isa::VectorOp& op_;
  const isa::VectorDesc& d_;
};

int64_t product(const std::vector<VectorLoop>& loops) {
  int64_t n = 1;
  for (const VectorLoop& l : loops) n *= l.extent;
  return n;
}

}  // namespace

int64_t VectorPlan::outer_positions() const { return product(outer); }
int64_t VectorPlan::reduced_positions() const { return product(reduced); }

std::optional<VectorPlan> plan_of(const isa::VectorOp& op) { return Planner(op).plan(); }

}  // namespace systole
