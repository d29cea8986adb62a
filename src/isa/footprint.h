// The bytes a resolved instruction may touch, from its encoding alone. The functional model refuses what lies outside
// memory or outside the named lock groups; the race checker orders what overlaps.
#pragma once
#include <vector>

#include "isa/sequencer.h"

namespace systole::isa {

/// Bytes [lo, hi) of one memory (accumulators: 4 bytes an element). lo may be negative for a malformed program.
struct Touch {
  Space space;
  int64_t lo, hi;
  bool write;
};

/// `columns` is the machine's C, which shapes B tiles and accumulators.
std::vector<Touch> footprint(const Dispatched& op, int64_t columns);

/// Bytes from the first of n columns of B to the end of the last.
int64_t weights_reach(const MatrixDesc& desc, int64_t n, int64_t columns);
/// Scratchpad bytes [first, second) that hold a matrix instruction's operands. Of A, which padding may hide, none is an empty range.
std::pair<int64_t, int64_t> a_bytes(const MatrixOp& op);
std::pair<int64_t, int64_t> b_bytes(const MatrixOp& op, int64_t columns);

/// Sizes that bound the addresses of a program.
struct MemorySizes {
  int64_t dram_bytes, scratchpad_bytes, accumulator_bytes, groups;
};
/// Fails (kBadInput) when a touch leaves its memory, names a group outside `locks`, or when the instruction loops over more
/// than its memories could hold.
void check_footprint(const Dispatched& op, const std::vector<Touch>& touches, const MemorySizes& sizes, const std::string& where);

}  // namespace systole::isa
