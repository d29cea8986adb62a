#include "codegen/synchronise.h"

#include <algorithm>
#include <map>
#include <memory_resource>

#include "base/fields.h"

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
  /// Calls f(const Last&) for the runs of a range.
  template <class F>
  void visit(const ByteRange& r, F&& f) const {
    const uint64_t hi = end_of(r);
    for (auto it = std::prev(runs_.upper_bound(r.lo / kGranule)); it != runs_.end() && it->first < hi; ++it) f(it->second);
  }
  /// Calls f(Last&), which changes them all alike, for runs that make up the range; equal neighbours become one.
  template <class F>
  void update(const ByteRange& r, F&& f) {
    const uint64_t lo = r.lo / kGranule, hi = end_of(r);
    auto it = std::prev(runs_.upper_bound(lo)), last = runs_.end();
    if (it->first != lo) it = runs_.emplace_hint(std::next(it), lo, it->second);
    while (it != runs_.end() && it->first < hi) {
      auto next = std::next(it);
      if (next == runs_.end() || next->first > hi) next = runs_.emplace_hint(next, hi, it->second);
      f(it->second);
      if (last != runs_.end() && last->second == it->second) runs_.erase(it);
      else last = it;
      it = next;
    }
    if (it != runs_.end() && it->second == last->second) runs_.erase(it);
  }

 private:
  static uint64_t end_of(const ByteRange& r) { return (r.hi - 1) / kGranule + 1; }
  using Runs = std::pmr::map<uint64_t, Last>;
  std::pmr::unsynchronized_pool_resource pool_;
  Runs runs_{{{0, {}}}, &pool_};  ///< first granule of each run; the last run has no end
};

uint32_t lock_mask(const ByteRanges& ranges, const Machine& m) {
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

Engine engine_of(const EngineOperation& operation) {
  return std::visit(Overload{[](const WriteDescriptor& w) { return w.engine; }, [](const isa::Load&) { return Engine::kLoad; }, [](const isa::Dequantize&) { return Engine::kLoad; },
                             [](const isa::Store&) { return Engine::kStore; }, [](const isa::Matrix&) { return Engine::kMatrix; }, [](const isa::Vector&) { return Engine::kVector; }},
                    operation);
}

}  // namespace

void synchronise(std::vector<Emitted>& code, const Machine& machine) {
  Table tables[3];
  std::array<uint32_t, isa::kEngines> dispatched{};
  for (Emitted& e : code) {
    const Engine engine = engine_of(e.operation);
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
      tables[static_cast<size_t>(r.space)].update(r, [&](Last& last) { (r.write ? last.write : last.read)[own] = ordinal; });
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
        e.operation);
  }
}

}  // namespace systole
