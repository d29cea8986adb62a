// The tables of the VX function unit (docs/numerics.md, "Functions"): c0 + u (c1 + u c2) per segment, 28 fraction bits.
#pragma once
#include <cstdint>

namespace systole {

struct FunctionSegment {
  int32_t c0, c1, c2;
};
#include "numerics/tables.inc"

}  // namespace systole
