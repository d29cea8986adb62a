// The order of work: one step per map or move, a contract travelling with the map that drains it, and how long each
// tensor lives, counted in steps.
#pragma once
#include <vector>

#include "graph/graph.h"
#include "machine/machine.h"
#include "schedule/places.h"

namespace systole {

struct Step {
  int node;           ///< map or move
  int contract = -1;  ///< the contract it drains, or -1
  int then = -1;      ///< a map of what a contract's drain makes, element by element, block by block while that is at hand; or -1
  int with = -1;      ///< the step, a contract's, that it is woven into; it follows that one directly, or others with it
  bool operator==(const Step&) const = default;
};

struct Schedule {
  std::vector<Step> steps;
  std::vector<ValueId> root;      ///< per value: the value whose bytes it shares (views, parts of a join, what moves need not copy)
  std::vector<int64_t> offset;    ///< of its first byte in the root's
  std::vector<Strides> strides;   ///< per value, in elements of the root: made where a move would put it, or an operand read where a move found it; empty: dense
  std::vector<int> first, last;   ///< per root value: first and last step that touches it; -1: never stored
  std::vector<int> touches;       ///< per root value: how many steps write or read it
  /// In the graph's order, or another that is better for a machine (weave.h; it has to be given then). Without a machine parts of moves are
  /// made in their place wherever DRAM has whole bursts of them.
  enum class Order { kAsGiven, kCopiesFirst, kCopiesBeside, kPassingCopiesBeside, kWoven };
  /// Values that the step makes: one, or two with `then`.
  static std::vector<ValueId> made_by(const Graph& graph, const Step& step);
  explicit Schedule(const Graph& graph, Order order = Order::kAsGiven, const Machine* machine = nullptr);
  /// Whether this part of a move's output is made in its place, or read where it was made.
  bool in_place(const Node& move, const CopyRegion& region) const { return region.input >= 0 && root[static_cast<size_t>(move.inputs[static_cast<size_t>(region.input)])] == root[static_cast<size_t>(move.outputs[0])]; }
  bool as_given() const;  ///< whether the order is the graph's
};

}  // namespace systole
