// The order of work: one step per map or move, a contract travelling with the map that drains it, and how long each
// tensor lives, counted in steps.
#pragma once
#include <vector>

#include "graph/graph.h"

namespace systole {

struct Step {
  int node;           ///< map or move
  int contract = -1;  ///< the contract it drains, or -1
};

struct Schedule {
  std::vector<Step> steps;
  std::vector<ValueId> root;      ///< per value: the value whose bytes it shares (views, parts of a join)
  std::vector<int64_t> offset;    ///< of its first byte in the root's
  std::vector<int> first, last;   ///< per root value: first and last step that touches it; -1: never stored
  explicit Schedule(const Graph& graph);
};

}  // namespace systole
