// The order of work: one step per map or move, a contract travelling with the map that drains it, and how long each
// tensor lives, counted in steps.
#pragma once
#include <vector>

#include "graph/graph.h"
#include "machine/machine.h"

namespace systole {

struct Step {
  int node;           ///< map or move
  int contract = -1;  ///< the contract it drains, or -1
  int with = -1;      ///< the step, a contract's, that it is woven into; it follows that one directly, or others with it
};

struct Schedule {
  std::vector<Step> steps;
  std::vector<ValueId> root;      ///< per value: the value whose bytes it shares (views, parts of a join)
  std::vector<int64_t> offset;    ///< of its first byte in the root's
  std::vector<int> first, last;   ///< per root value: first and last step that touches it; -1: never stored
  /// With a machine: woven for it (weave.h).
  explicit Schedule(const Graph& graph, const Machine* woven_for = nullptr);
  bool woven() const;
};

}  // namespace systole
