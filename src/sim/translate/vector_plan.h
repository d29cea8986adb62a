// How a vector instruction's loop nest is cut for the host's lanes: which loop the lanes run along, which loop the
// machine code walks, and what stays outside.
#pragma once
#include <array>
#include <optional>
#include <vector>

#include "isa/sequencer.h"

namespace systole {

/// Streams in this order: three inputs, the output.
inline constexpr size_t kVectorStreams = isa::kVectorInputs + 1, kVectorOut = isa::kVectorInputs;

struct VectorLoop {
  int64_t extent = 1;
  std::array<int64_t, kVectorStreams> strides{};  ///< bytes; 0 for absent streams
  int64_t guard_h = 0, guard_w = 0;
};

struct VectorPlan {
  enum class Kind {
    kMap,           ///< no reduction
    kLanesKept,     ///< lanes along a kept loop; the reduced positions one after another
    kLanesReduced,  ///< lanes along the one reduced loop; a result per row
  };
  Kind kind = Kind::kMap;
  VectorLoop lanes, rows;               ///< rows: walked by the machine code (not for kLanesKept)
  std::vector<VectorLoop> outer, reduced;
  int64_t outer_positions() const;
  int64_t reduced_positions() const;
};

/// Nothing where the machine code has no form for it: gathered lanes, guards along the lanes, formats of 8 bits and fewer,
/// inputs that overlap the output out of step, lanes kept over more reduced positions than a block of docs/numerics.md has.
std::optional<VectorPlan> plan_of(const isa::VectorOp& op);

}  // namespace systole
