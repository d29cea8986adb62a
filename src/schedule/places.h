// Whose bytes a value has: views and parts of joins, parts of moves that are made in their place, operands of products that are read where
// a move found them. Such moves are no steps.
#pragma once
#include <vector>

#include "graph/graph.h"
#include "machine/machine.h"

namespace systole {

/// Where the elements of a value lie among those of another.
struct Strides {
  std::vector<int64_t> of;  ///< per dimension
  /// Images (of the first dimension) that lie of[0] apart, before the next ones lie `outer` apart: heads in a sequence, sequences in a batch. 0: all.
  int64_t images = 0, outer = 0;
  bool empty() const { return of.empty(); }
  int64_t image(int64_t n) const { return images ? n / images * outer + n % images * of[0] : n * of[0]; }
  bool operator==(const Strides&) const = default;
};

/// As in Schedule (steps.h), per value.
struct SharedBytes {
  std::vector<ValueId> root;
  std::vector<int64_t> offset;
  std::vector<Strides> strides;
};
SharedBytes share_bytes(const Graph& graph, const Machine* machine);

}  // namespace systole
