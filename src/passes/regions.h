// Regions of a partitioned graph: which nodes run together, and the graph that a region is of its own.
#pragma once
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "passes/partition.h"

namespace systole {

enum class Where : uint8_t { kFolded, kNpu, kHost, kLater };
struct Decision {
  Where where;
  std::string reason;
};

/// Nodes that make weights out of codes, by their results: they go with every region that reads those.
using GroupedNodes = std::map<ValueId, Node>;

/// Even stages run on the NPU, odd ones on the host; a node's stage follows those of its inputs. NPU nodes are then moved
/// as late as their readers allow, so that regions grow together.
std::vector<int> stages_of(const Graph& graph, const std::vector<Decision>& decisions);

/// Cuts nodes out of the graph as a graph of their own: values from outside become inputs (`crossing` says of what type), values
/// used outside (`wanted`) outputs.
Region cut(const Graph& graph, const std::vector<size_t>& nodes, const std::set<ValueId>& wanted, const GroupedNodes& grouped, const std::function<Value(ValueId)>& crossing);

/// Values that a group must hand out: those read by nodes outside of it, and the graph's outputs.
std::set<ValueId> used_outside(const Graph& graph, const std::vector<size_t>& nodes);

}  // namespace systole
