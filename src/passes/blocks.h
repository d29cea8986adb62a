// What passes that cut work into blocks, or join it, share.
#pragma once
#include <map>
#include <utility>

#include "graph/graph.h"

namespace systole {

/// A value of this many bytes is taken to pass through DRAM: passes do not know the machine.
inline constexpr int64_t kNeverResident = 1 << 20;

/// A shape without its dimensions of 1.
Shape significant(Shape shape);

/// Whether the node drains a contraction.
bool reads_contract(const Graph& graph, const Uses& uses, const Node& node);

/// Least and greatest element of one side of a region.
std::pair<int64_t, int64_t> range_of(int64_t offset, const Shape& extents, const std::vector<int64_t>& strides);

/// Inputs of a map whose loops now begin at `start` (those after it at 0): values with a part in this block are read in it, others further on.
void read_block(Map& map, std::vector<ValueId>& inputs, const std::map<ValueId, ValueId>& part, const std::vector<int64_t>& start);

}  // namespace systole
