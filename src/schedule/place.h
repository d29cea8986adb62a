// Where tensors live: resident in the scratchpad over their whole life where they fit, in DRAM otherwise. What a step's tensors leave of
// it, whole lock groups and some of them in any case, is its ring for weights, tiles and constants on their way through.
#pragma once
#include <cstdint>
#include <vector>

#include "isa/instruction.h"
#include "machine/machine.h"
#include "schedule/steps.h"

namespace systole {

struct Location {
  isa::Space space = isa::Space::kDram;
  uint64_t address = 0;
  bool stored = false;
};

struct Placement {
  std::vector<Location> of;        ///< per root value
  std::vector<int64_t> ring_base;  ///< per step: the scratchpad from here on; a contraction and what runs beside it have one
  int64_t resident_peak_bytes = 0;
  uint64_t dram_bytes = 0;         ///< inputs, outputs and spilled tensors, from address 0
};

/// Tensors that take turns: none, those of up to a lock group, or those from an eighth of one to four. In the last case smaller ones lie side by
/// side, where the first place is free, and so do those that drains of products alone make and read: one in each lock group would leave no room between them.
enum class Turns { kNone, kSmall, kLarge };

/// What the code generator varies between candidates.
struct Preferences {
  int64_t ring_groups = 0;             ///< lock groups left to the ring at least
  int64_t block_overhead_cycles = 4;   ///< charged per accumulator block by the tile search
  int64_t resident_align_bytes = 0;    ///< resident tensors of this size and more start on a lock group if they can
  int64_t ring_align_bytes = 0;        ///< the same for blocks of the ring
  bool waiting_last = false;           ///< tensors that lie unused for most of their life get the room that others leave
  bool tiles_in_groups = false;        ///< a map's tile with all its inputs and outputs lies in one lock group
  Turns turns = Turns::kSmall;         ///< which tensors lie where nothing has been for longest, not at the first place that is free
  bool products_in_groups = true;      ///< tiles of products are chosen for lock groups of their own, not for their bytes alone
  int64_t small_ring_groups = 0;       ///< left to the ring in steps whose tensors may all be resident beside it; 0: as in all others
  bool operator==(const Preferences&) const = default;
};

/// Fails (kResource) when DRAM does not hold the model.
Placement place(const Graph& graph, const Schedule& schedule, const Machine& machine, const Preferences& preferences);

/// Bytes of a value as stored.
int64_t stored_bytes(const Value& value);

}  // namespace systole
