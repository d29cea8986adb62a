// Integers of 32 and 64 bits on lanes of fp32: as vectors of their 16-bit parts, which fp32 holds exactly.
#pragma once
#include "ops/expander.h"

namespace systole {

enum class IntegerComparison : uint8_t { kEqual, kLess, kLessOrEqual, kGreater, kGreaterOrEqual };
/// Rewrite comparisons and extremes of wide integers; false where the inputs are none, or the policy does not keep fp32.
bool expand_wide_comparison(Expander& x, IntegerComparison which);
bool expand_wide_extreme(Expander& x, bool greatest);

}  // namespace systole
