// Counts that follow from a descriptor alone, used by the compiler's estimates and by the timing model.
#pragma once
#include <cstdint>

#include "isa/instruction.h"

namespace systole::isa {

/// Vectors of `lanes` elements that a vector instruction reads. Lanes run along the last kept loop, or along the last
/// reduced one when that needs fewer vectors; trailing loops join where every scratchpad stream is contiguous over them
/// (the accumulators deliver several column tiles at once).
int64_t vector_count(const VectorDesc& desc, const std::array<Space, kVectorInputs + 1>& spaces, int64_t lanes);

/// Issue slots and table look-ups per vector: of the micro-program before the reduction, plus what follows it spread out.
struct ProgramSlots {
  int64_t slots, table_ops;
};
ProgramSlots slots_of(const VectorProgram& program);

/// A copy as runs of contiguous bytes on both sides.
struct CopyRuns {
  int64_t runs, run_bytes;
  int64_t bytes() const { return runs * run_bytes; }
};
CopyRuns runs_of(const CopyDesc& desc);

}  // namespace systole::isa
