// Whose bytes a value has: views and parts of joins, parts of moves that are made in their place, operands of products that are read where
// a move found them. Such moves are no steps.
#pragma once
#include <vector>

#include "graph/graph.h"
#include "machine/machine.h"

namespace systole {

/// As in Schedule (steps.h), per value.
struct SharedBytes {
  std::vector<ValueId> root;
  std::vector<int64_t> offset;
  std::vector<std::vector<int64_t>> strides;
};
SharedBytes share_bytes(const Graph& graph, const Machine* machine);

}  // namespace systole
