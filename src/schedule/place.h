// Where tensors live: resident in the scratchpad over their whole life where they fit, in DRAM otherwise. A ring of
// whole lock groups is kept free for weights, tiles and constants on their way through.
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
  int64_t ring_base = 0, ring_bytes = 0;
  int64_t resident_peak_bytes = 0;
  uint64_t dram_bytes = 0;         ///< inputs, outputs and spilled tensors, from address 0
};

/// Fails (kResource) when DRAM does not hold the model.
Placement place(const Graph& graph, const Schedule& schedule, const Machine& machine, int64_t ring_groups);

/// Bytes of a value as stored.
int64_t stored_bytes(const Value& value);

}  // namespace systole
