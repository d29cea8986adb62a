// Nodes of a graph over blocks of their tensors: for passes that let a block go through several nodes while it is in the scratchpad.
#pragma once
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "graph/graph.h"
#include "passes/followers.h"

namespace systole {

/// A tensor cut into equal blocks along its leading dimensions, each contiguous.
struct Cut {
  Shape block;
  std::vector<size_t> dims;  ///< that are cut, outermost first; all but the last of them to 1

  /// Whether there is one: asked thousands of times for a map, of which few have an answer.
  static bool possible(const Shape& shape, int64_t blocks);
  static std::optional<Cut> of(const Shape& shape, int64_t blocks);
  /// First index of a block along each dimension.
  std::vector<int64_t> start(const Shape& shape, int64_t number) const;
};

/// Whether a block of the map's, contraction's or move's output reads the same block of `v`, if it reads it; false for other nodes that read it.
bool own_block(const Graph& graph, const Node& node, ValueId v, int64_t blocks);

/// Some nodes of a graph, as what they make is read.
class NodeSet {
 public:
  NodeSet(const Graph& graph, const Uses& uses, const std::vector<size_t>& nodes) : g_(graph), uses_(uses), nodes_(nodes.begin(), nodes.end()) {}
  bool has(size_t node) const { return nodes_.count(node) != 0; }
  /// By others, as it is or through a view.
  bool needed_outside(ValueId v) const;
  int64_t readers_inside(ValueId v) const;
  /// Values from outside of at least so many bytes that several nodes read, all of them block by block.
  std::set<ValueId> shared_inputs(int64_t blocks, int64_t least_bytes) const;

 private:
  const Graph& g_;
  const Uses& uses_;
  const std::set<size_t> nodes_;
};

/// What goes through a block by block.
struct Blocks {
  std::vector<size_t> nodes;    ///< maps, contractions, moves and views, in order
  int64_t count = 1;            ///< of blocks
  std::set<ValueId> shared;     ///< values from outside that are brought in block by block, for several readers
  std::set<ValueId> tainted;    ///< made from what they make, by nodes between them
  std::vector<Follower> followers = {};  ///< in order; what they read comes a block ahead then
};

/// Puts blocks where the nodes were: before what depends on them, after what is between them and does not. What others need of what they
/// make is joined, from copies where the blocks' own nodes read it too.
void write_blocks(Graph& graph, const Uses& uses, const Blocks& blocks);

}  // namespace systole
