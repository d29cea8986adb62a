// Axes of Reduce* operators: an attribute up to opset 12/17, an input afterwards; absent means all.
#pragma once
#include "ops/lowering.h"

namespace systole {

/// Sorted axes in [0, rank). Empty when the node asks for no reduction at all (noop_with_empty_axes).
std::vector<int64_t> reduction_axes(const Lowering& l, const Node& node, size_t rank);

}  // namespace systole
