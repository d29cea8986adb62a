// Proves a program free of races: every two instructions that touch the same bytes, one of them writing, are ordered by
// distances alone. Works from the encoded program; shares no code with the compiler's synchronisation.
#pragma once
#include <string>
#include <vector>

#include "isa/program.h"
#include "machine/machine.h"

namespace systole {

/// One unordered pair.
struct Race {
  uint32_t first, second;  ///< positions in Program::code
  isa::Space space;
  int64_t lo, hi;          ///< bytes both touch
  std::string text() const;
};

struct CheckReport {
  uint64_t instructions = 0, pairs_checked = 0;
  std::vector<Race> races;  ///< at most 100
};

/// Checks bounds (fails kBadInput) and races. Lock groups keep instructions apart in time but do not order them, so they
/// prove nothing here.
CheckReport check_races(const isa::Program& program, const Machine& machine);

}  // namespace systole
