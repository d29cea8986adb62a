#include "schedule/place.h"

#include <algorithm>
#include <climits>
#include <set>

#include "base/error.h"

namespace systole {
namespace {

constexpr int64_t kAlign = 64;

/// Whether a tensor lies unused for most of its life: what forward keeps for backward, or one side of a U. It gets what room others leave.
bool waits(const Schedule& schedule, ValueId v) {
  constexpr int kStepsPerTouch = 8;
  const auto i = static_cast<size_t>(v);
  return schedule.last[i] - schedule.first[i] > kStepsPerTouch * schedule.touches[i];
}

/// Whether a tensor is touched so often that it had better stay, however long it lies between: weights of products that go block by block.
bool stays(const Schedule& schedule, ValueId v, int64_t bytes, int64_t group_bytes) {
  constexpr int kManyTouches = 64;
  return bytes <= group_bytes && schedule.touches[static_cast<size_t>(v)] >= kManyTouches;
}

struct Life {
  int first, last;  ///< steps
  bool waits;
};

/// One memory over time. Tensors are put by their first step, those that wait after all others.
class Memory {
 public:
  /// `remembers`: when each part of it was last in use, for tensors that take turns.
  explicit Memory(bool remembers) : remembers_(remembers) {}
  /// Address of `bytes` (aligned) free over the life, below `limit`: the first, or of a tensor that takes turns the one that has been unused for
  /// longest; -1 when there is none.
  int64_t put(int64_t bytes, const Life& life, int64_t align, int64_t limit, bool turns = false) {
    if (life.waits && !waiting_) waiting_ = true, recent_ = all_;  // from the first step again
    if (!waiting_ && recent_.size() > 2 * kept_ + 64) {  // what is over before this one's first step is over for all that follow
      std::erase_if(recent_, [&](const Block& b) { return b.last < life.first; });
      kept_ = recent_.size();
    }
    std::vector<const Block*> overlapping;
    for (const Block& b : recent_) {
      if (b.first <= life.last && life.first <= b.last) overlapping.push_back(&b);
    }
    std::sort(overlapping.begin(), overlapping.end(), [](const Block* a, const Block* b) { return a->address < b->address; });
    int64_t at = 0, best = -1;
    int best_until = INT_MAX;
    const auto gap = [&](int64_t end) {  // [at, end) is free
      const int64_t step = std::max(align, kPart);
      for (int64_t a = at; a + bytes <= end && (turns || best < 0);) {
        const auto [until, part] = used_until(a, bytes, best_until);
        if (until < best_until) best = a, best_until = until;
        a = (std::max(a, part * kPart) / step + 1) * step;  // what has that part is no better
      }
    };
    for (const Block* b : overlapping) {
      gap(std::min(limit, b->address));
      at = std::max(at, (b->address + b->bytes + align - 1) / align * align);
    }
    gap(limit);
    if (best < 0) return -1;
    const Block block{best, bytes, life.first, life.last};
    recent_.push_back(block), all_.push_back(block);
    for (size_t i = static_cast<size_t>(best / kPart); remembers_ && i <= static_cast<size_t>((best + bytes - 1) / kPart); ++i) {
      if (i >= used_.size()) used_.resize(i + 1, -1);
      used_[i] = std::max(used_[i], life.last);
    }
    return best;
  }

 private:
  static constexpr int64_t kPart = 1 << 12;
  struct Used {
    int until;
    int64_t part;
  };
  /// The last step of what was put there so far, and the last part where that is `limit` or later; 0: none.
  Used used_until(int64_t address, int64_t bytes, int limit) const {
    Used used{-1, 0};
    for (int64_t i = std::min((address + bytes - 1) / kPart, static_cast<int64_t>(used_.size()) - 1); i >= address / kPart; --i) {
      const int until = used_[static_cast<size_t>(i)];
      if (until >= limit) return {until, i};
      used.until = std::max(used.until, until);
    }
    return used;
  }
  struct Block {
    int64_t address, bytes;
    int first, last;
  };
  std::vector<Block> recent_, all_;  ///< those that may overlap what comes next; all of them
  size_t kept_ = 0;
  const bool remembers_;
  bool waiting_ = false;
  std::vector<int> used_;  ///< per part of the memory
};

/// Steps that do with a small ring: copies, and those whose tensors are few enough to be resident beside it. What streams through the ring,
/// constants, the program's inputs and outputs and parts of what never is resident, is small then; parts of larger tensors pass products of images by images one by one.
std::vector<char> in_small_ring(const Graph& graph, const Schedule& schedule, const std::vector<bool>& boundary, int64_t resident_bytes, int64_t ring_bytes) {
  std::vector<char> small;
  for (const Step& step : schedule.steps) {
    std::set<size_t> values;
    int64_t resident = 0, streamed = 0;
    const bool by_image = step.contract >= 0 && graph.value(graph.nodes[static_cast<size_t>(step.contract)].inputs[1]).shape[0] > 1;
    for (int n : {step.contract, step.node, step.then}) {
      if (n < 0) continue;
      for (const auto* list : {&graph.nodes[static_cast<size_t>(n)].inputs, &graph.nodes[static_cast<size_t>(n)].outputs}) {
        for (ValueId v : *list) {
          if (v == kNoValue) continue;
          const ValueId root = schedule.root[static_cast<size_t>(v)];
          const bool passes = by_image && stored_bytes(graph.value(v)) < stored_bytes(graph.value(root));
          if (passes) continue;
          const int64_t part = stored_bytes(graph.value(v)), whole = stored_bytes(graph.value(root));
          if (part < whole && whole > resident_bytes) streamed += part;
          else values.insert(static_cast<size_t>(root));
        }
      }
    }
    for (size_t v : values) (boundary[v] || graph.values[v].constant ? streamed : resident) += stored_bytes(graph.values[v]);
    const bool copies = step.contract < 0 && std::holds_alternative<Move>(graph.nodes[static_cast<size_t>(step.node)].op);
    // What runs beside a contraction shares its time.
    small.push_back(step.with >= 0 ? small[static_cast<size_t>(step.with)] : copies || (resident <= resident_bytes && streamed <= ring_bytes / 2));
  }
  return small;
}

/// Per root value: whether drains of products alone make and read it, as the sums of a product taken in chunks.
std::vector<bool> for_drains_alone(const Graph& graph, const Schedule& schedule) {
  std::vector<bool> alone(graph.values.size(), true);
  const auto touched = [&](int node, bool by_drain) {
    for (const auto* list : {&graph.nodes[static_cast<size_t>(node)].inputs, &graph.nodes[static_cast<size_t>(node)].outputs}) {
      for (ValueId v : *list) {
        if (v != kNoValue && !by_drain) alone[static_cast<size_t>(schedule.root[static_cast<size_t>(v)])] = false;
      }
    }
  };
  for (const Step& step : schedule.steps) {
    touched(step.node, step.contract >= 0);
    if (step.contract >= 0) touched(step.contract, false);
    if (step.then >= 0) touched(step.then, false);
  }
  return alone;
}

/// From the end of the tensors that are resident during a step, or during one that it runs beside, or one beside it.
std::vector<int64_t> ring_bases(const Graph& graph, const Schedule& schedule, const Machine& machine, const Placement& p) {
  std::vector<int64_t> base(schedule.steps.size(), 0);
  for (size_t v = 0; v < p.of.size(); ++v) {
    if (!p.of[v].stored || p.of[v].space != isa::Space::kScratchpad) continue;
    const int64_t end = static_cast<int64_t>(p.of[v].address) + stored_bytes(graph.values[v]), group = machine.group_bytes();
    for (int s = schedule.first[v]; s <= schedule.last[v]; ++s) {
      int64_t& b = base[static_cast<size_t>(s)];
      b = std::max(b, (end + group - 1) / group * group);
    }
  }
  const auto share = [&](size_t s) {
    if (schedule.steps[s].with < 0) return;
    int64_t &a = base[s], &b = base[static_cast<size_t>(schedule.steps[s].with)];
    a = b = std::max(a, b);
  };
  for (size_t s = 0; s < base.size(); ++s) share(s);
  for (size_t s = base.size(); s-- > 0;) share(s);
  return base;
}

}  // namespace

int64_t stored_bytes(const Value& value) { return std::max<int64_t>(1, element_count(value.shape) * bytes_of(value.type)); }

Placement place(const Graph& graph, const Schedule& schedule, const Machine& machine, const Preferences& preferences) {
  Placement p;
  p.of.resize(graph.values.size());
  const int64_t ring_base = machine.memory.scratchpad_bytes - preferences.ring_groups * machine.group_bytes();
  std::vector<bool> boundary(graph.values.size(), false);
  for (const auto* list : {&graph.inputs, &graph.outputs}) {
    for (ValueId v : *list) boundary[static_cast<size_t>(schedule.root[static_cast<size_t>(v)])] = true;
  }
  int64_t boundary_end = 0;
  for (size_t v = 0; v < graph.values.size(); ++v) {
    if (!boundary[v] || graph.values[v].constant) continue;
    p.of[v] = {isa::Space::kDram, static_cast<uint64_t>(boundary_end), true};
    boundary_end += (stored_bytes(graph.values[v]) + kAlign - 1) / kAlign * kAlign;
  }
  std::vector<ValueId> order;
  for (size_t v = 0; v < graph.values.size(); ++v) {
    if (schedule.first[v] >= 0 && !boundary[v] && !graph.values[v].constant) order.push_back(static_cast<ValueId>(v));
  }
  const auto last = [&](ValueId v) { return preferences.waiting_last && waits(schedule, v) && !stays(schedule, v, stored_bytes(graph.value(v)), machine.group_bytes()); };
  std::stable_sort(order.begin(), order.end(), [&](ValueId a, ValueId b) {
    const auto key = [&](ValueId v) { return std::pair(last(v), schedule.first[static_cast<size_t>(v)]); };
    return key(a) < key(b);
  });
  const int64_t small_ring_bytes = preferences.small_ring_groups * machine.group_bytes(), small_ring_base = machine.memory.scratchpad_bytes - small_ring_bytes;
  std::vector<int> large_before(1, 0);  // steps with the whole ring
  if (small_ring_bytes) {
    for (char small : in_small_ring(graph, schedule, boundary, small_ring_base, small_ring_bytes)) large_before.push_back(large_before.back() + !small);
  }
  const auto limit = [&](const Life& life) {
    const bool small = small_ring_bytes && large_before[static_cast<size_t>(life.last) + 1] == large_before[static_cast<size_t>(life.first)];
    return small ? small_ring_base : ring_base;
  };
  Memory scratchpad(preferences.turns != Turns::kNone), dram(false);
  const int64_t group = machine.group_bytes(), most_turning = preferences.turns == Turns::kNone ? 0 : preferences.turns == Turns::kSmall ? group : 4 * group;
  const int64_t side_by_side = preferences.turns == Turns::kLarge ? group / 8 : 0;  // of fewer bytes
  int64_t dram_end = boundary_end;
  const std::vector<bool> drains_alone = for_drains_alone(graph, schedule);
  for (ValueId id : order) {
    const size_t v = static_cast<size_t>(id);
    const Life life{schedule.first[v], schedule.last[v], last(id)};
    const int64_t bytes = stored_bytes(graph.values[v]);
    const bool apart = !side_by_side || (bytes >= side_by_side && !drains_alone[v]);
    const bool turns = apart && bytes <= most_turning;
    // Large tensors start on a lock group of their own if they can: engines then work on different groups.
    int64_t at = apart && bytes >= preferences.resident_align_bytes ? scratchpad.put(bytes, life, group, limit(life), turns) : -1;
    if (at < 0) at = scratchpad.put(bytes, life, kAlign, limit(life), turns);
    if (at >= 0) {
      p.of[v] = {isa::Space::kScratchpad, static_cast<uint64_t>(at), true};
      p.resident_peak_bytes = std::max(p.resident_peak_bytes, at + bytes);
      continue;
    }
    at = dram.put(bytes, life, kAlign, machine.dram.capacity_bytes - boundary_end);
    if (at < 0) fail(ErrorCode::kResource, "machine '" + machine.name + "'", "DRAM of " + std::to_string(machine.dram.capacity_bytes) + " bytes is too small for the model's tensors");
    p.of[v] = {isa::Space::kDram, static_cast<uint64_t>(boundary_end + at), true};
    dram_end = std::max(dram_end, boundary_end + at + bytes);
  }
  p.ring_base = ring_bases(graph, schedule, machine, p);
  p.dram_bytes = static_cast<uint64_t>((dram_end + kAlign - 1) / kAlign * kAlign);
  return p;
}

}  // namespace systole
