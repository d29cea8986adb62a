// The timing model: when each instruction starts and retires, event by event, by the rules of docs/microarchitecture.md.
// Every cycle of every engine is busy or has exactly one stall reason.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "isa/program.h"
#include "isa/sequencer.h"
#include "machine/machine.h"

namespace systole {

/// Why an engine did nothing in a cycle.
enum class Stall : uint8_t { kDependency, kBank, kDram, kFetch, kDone };
inline constexpr int kStalls = 5;
const char* to_string(Stall stall);

struct EngineTime {
  int64_t busy = 0;
  std::array<int64_t, kStalls> stalled{};
};

/// Life of one dispatched instruction, in cycles, and what it moved over the bus of external memory.
struct Event {
  int64_t dispatched = 0, start = 0, retire = 0;
  int64_t dram_read_bytes = 0, dram_write_bytes = 0, dram_row_misses = 0;
  std::array<int64_t, kStalls> stalled{};  ///< cycles in which it stood first in its queue and could not start, by reason
};

struct Timing {
  int64_t cycles = 0;
  std::array<EngineTime, isa::kEngines> engines;
  std::vector<Event> events;  ///< per dispatched instruction, in program order
  int64_t dram_read_bytes = 0, dram_write_bytes = 0, dram_row_misses = 0;
  int64_t macs = 0;
};

/// Times a dispatched stream. Pure: data never changes it.
Timing simulate(const isa::Sequence& sequence, const Machine& machine);

/// What the compiler compares candidates by: cycles, and half the cycles that DRAM needs for all that is moved. Moving costs energy when it
/// costs no time: a cycle of DRAM about as much as a cycle of the rest. Stops early, with a cost beyond `limit`, where the cycles alone are.
/// Layers that stand for others count as often.
int64_t cost_of(const isa::Program& program, const Machine& machine, const std::vector<isa::StandIn>& stand_ins = {}, int64_t limit = INT64_MAX);

/// The compiler's judge (codegen/compile.h): cost_of on a machine that outlives it.
std::function<int64_t(const isa::Program&, const std::vector<isa::StandIn>&, int64_t)> judge_on(const Machine& machine);

}  // namespace systole
