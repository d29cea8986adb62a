#include "codegen/synchronise.h"

#include <algorithm>
#include <map>

namespace systole {
namespace {

using isa::Engine;
using isa::Space;

constexpr uint64_t kGranule = 256;  // finer would cost time; coarser would order neighbours that do not touch

/// Latest reader and writer of one granule, as ordinals (from 1) in each engine's queue.
struct Last {
  std::array<uint32_t, isa::kEngines> read{}, write{};
  bool operator==(const Last&) const = default;
};

/// What is known per granule, kept as runs of granules with one history: accesses come in blocks, so runs are few.
class Table {
 public:
  template <class F>
  void visit(const ByteRange& r, F&& f) {
    const uint64_t lo = r.lo / kGranule, hi = (r.hi - 1) / kGranule + 1;
    cut(lo);
    cut(hi);
    for (auto it = runs_.lower_bound(lo); it->first < hi; ++it) f(it->second);
  }
  /// After an update: equal neighbours inside the range become one run.
  void join(const ByteRange& r) {
    const uint64_t lo = r.lo / kGranule, hi = (r.hi - 1) / kGranule + 1;
    auto it = runs_.lower_bound(lo);
    while (it->first < hi) {
      const auto next = std::next(it);
      if (next == runs_.end() || next->first > hi || !(next->second == it->second)) it = next;
      else runs_.erase(next);
      if (it == runs_.end()) return;
    }
  }

 private:
  /// A run starts at this granule.
  void cut(uint64_t at) {
    const auto it = std::prev(runs_.upper_bound(at));
    if (it->first != at) runs_.emplace_hint(std::next(it), at, it->second);
  }
  std::map<uint64_t, Last> runs_{{0, {}}};  ///< first granule of each run; the last run has no end
};

uint32_t lock_mask(const std::vector<ByteRange>& ranges, const Machine& m) {
  uint32_t mask = 0;
  const uint64_t group = static_cast<uint64_t>(m.group_bytes()), half = static_cast<uint64_t>(m.memory.accumulator_bytes / 2);
  for (const ByteRange& r : ranges) {
    if (r.space == Space::kScratchpad) {
      for (uint64_t g = r.lo / group; g <= (r.hi - 1) / group; ++g) mask |= 1u << g;
    } else if (r.space == Space::kAccumulator) {
      for (uint64_t h = r.lo / half; h <= (r.hi - 1) / half; ++h) mask |= 1u << (16 + h);
    }
  }
  return mask;
}

}  // namespace

void synchronise(std::vector<Emitted>& code, const Machine& machine) {
  Table tables[3];
  std::array<uint32_t, isa::kEngines> dispatched{};
  for (Emitted& e : code) {
    const Engine engine = isa::engine_of(e.instruction);
    if (engine == Engine::kControl) continue;
    const size_t own = static_cast<size_t>(engine);
    // MX and VX run one instruction at a time in order; LD and ST overlap their own.
    const bool overlaps = engine == Engine::kLoad || engine == Engine::kStore;
    std::array<uint32_t, isa::kEngines> needed{};
    for (const ByteRange& r : e.ranges) {
      if (r.space == Space::kDram && r.lo >= kConstantBit) continue;  // constants are never written
      tables[static_cast<size_t>(r.space)].visit(r, [&](const Last& last) {
        for (size_t f = 0; f < isa::kEngines; ++f) {
          if (f == own && !overlaps) continue;
          needed[f] = std::max(needed[f], r.write ? std::max(last.read[f], last.write[f]) : last.write[f]);
        }
      });
    }
    const uint32_t ordinal = ++dispatched[own];
    for (const ByteRange& r : e.ranges) {
      if (r.space == Space::kDram && r.lo >= kConstantBit) continue;
      Table& table = tables[static_cast<size_t>(r.space)];
      table.visit(r, [&](Last& last) { (r.write ? last.write : last.read)[own] = ordinal; });
      table.join(r);
    }
    isa::Waits wait = isa::kNoWaits;
    for (size_t f = 0; f < isa::kEngines; ++f) {
      if (needed[f] == 0) continue;
      const uint32_t before = dispatched[f] - (f == own ? 1 : 0);
      wait[f] = static_cast<uint8_t>(std::min<uint32_t>(before - needed[f], isa::kMaxDistance));
    }
    const uint32_t locks = lock_mask(e.ranges, machine);
    std::visit(
        [&](auto& i) {
          if constexpr (requires { i.wait; }) i.wait = wait, i.locks = locks;
        },
        e.instruction);
  }
}

}  // namespace systole
