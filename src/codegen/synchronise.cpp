#include "codegen/synchronise.h"

#include <algorithm>
#include <unordered_map>

namespace systole {
namespace {

using isa::Engine;
using isa::Space;

constexpr uint64_t kGranule = 256;  // finer would cost time; coarser would order neighbours that do not touch

/// Latest reader and writer of one granule, as ordinals (from 1) in each engine's queue.
struct Last {
  std::array<uint32_t, isa::kEngines> read{}, write{};
};

class Table {
 public:
  template <class F>
  void visit(const Range& r, F&& f) {
    for (uint64_t g = r.lo / kGranule; g <= (r.hi - 1) / kGranule; ++g) {
      if (g >= rows_.size()) rows_.resize(std::max<size_t>(2 * rows_.size(), g + 1));
      f(rows_[g]);
    }
  }

 private:
  std::vector<Last> rows_;
};

uint32_t lock_mask(const std::vector<Range>& ranges, const Machine& m) {
  uint32_t mask = 0;
  const uint64_t group = static_cast<uint64_t>(m.group_bytes()), half = static_cast<uint64_t>(m.memory.accumulator_bytes / 2);
  for (const Range& r : ranges) {
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
    for (const Range& r : e.ranges) {
      if (r.space == Space::kDram && r.lo >= kConstantBit) continue;  // constants are never written
      tables[static_cast<size_t>(r.space)].visit(r, [&](const Last& last) {
        for (size_t f = 0; f < isa::kEngines; ++f) {
          if (f == own && !overlaps) continue;
          needed[f] = std::max(needed[f], r.write ? std::max(last.read[f], last.write[f]) : last.write[f]);
        }
      });
    }
    const uint32_t ordinal = ++dispatched[own];
    for (const Range& r : e.ranges) {
      if (r.space == Space::kDram && r.lo >= kConstantBit) continue;
      tables[static_cast<size_t>(r.space)].visit(r, [&](Last& last) { (r.write ? last.write : last.read)[own] = ordinal; });
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
