// Nodes that read single blocks of what a run of other nodes makes and reads in blocks: they may follow it block by block, while that is in the
// scratchpad.
#pragma once
#include <set>
#include <vector>

#include "graph/graph.h"

namespace systole {

/// A node outside of the run that reads one block alone, or what other followers make: the products of a weight gradient, chunk by chunk.
struct Follower {
  size_t node;
  int64_t block;  ///< behind which it may stand
};
struct Followers {
  std::vector<Follower> list;  ///< in order
  std::set<ValueId> tainted;   ///< made from what they make, by other nodes before the run's last
};

/// Those before node `limit`. `values` are what the run makes and what it reads block by block, each cut into so many blocks. None where the run
/// itself waits for one.
Followers followers_of(const Graph& graph, const Uses& uses, const std::vector<size_t>& run, const std::set<ValueId>& values, int64_t blocks, size_t limit);

}  // namespace systole
