#include "passes/blocks.h"

#include <algorithm>

namespace systole {

Shape significant(Shape shape) {
  std::erase(shape, 1);
  return shape;
}

bool reads_contract(const Graph& graph, const Uses& uses, const Node& node) {
  return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) {
    const int p = uses.producer[static_cast<size_t>(v)];
    return p >= 0 && std::holds_alternative<Contract>(graph.nodes[static_cast<size_t>(p)].op);
  });
}

std::pair<int64_t, int64_t> range_of(int64_t offset, const Shape& extents, const std::vector<int64_t>& strides) {
  std::pair<int64_t, int64_t> range = {offset, offset};
  for (size_t d = 0; d < extents.size(); ++d) (strides[d] < 0 ? range.first : range.second) += (extents[d] - 1) * strides[d];
  return range;
}

void read_block(Map& map, std::vector<ValueId>& inputs, const std::map<ValueId, ValueId>& part, const std::vector<int64_t>& start) {
  for (size_t k = 0; k < inputs.size(); ++k) {
    if (const auto own = part.find(inputs[k]); own != part.end()) {
      inputs[k] = own->second;
      continue;
    }
    for (IndexExpr& e : map.accesses[k].index) {
      for (const IndexTerm& t : e.terms) {
        if (static_cast<size_t>(t.loop) < start.size()) e.offset += t.coefficient * start[static_cast<size_t>(t.loop)];
      }
    }
  }
}

}  // namespace systole
