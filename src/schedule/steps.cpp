#include "schedule/steps.h"

#include <algorithm>

namespace systole {

Schedule::Schedule(const Graph& graph) : root(graph.values.size()), first(graph.values.size(), -1), last(graph.values.size(), -1) {
  for (size_t v = 0; v < root.size(); ++v) root[v] = static_cast<ValueId>(v);
  std::vector<int> contract_of(graph.values.size(), -1);
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    if (std::holds_alternative<View>(node.op)) {
      root[static_cast<size_t>(node.outputs[0])] = root[static_cast<size_t>(node.inputs[0])];
    } else if (std::holds_alternative<Contract>(node.op)) {
      contract_of[static_cast<size_t>(node.outputs[0])] = static_cast<int>(n);
    } else {
      Step step{static_cast<int>(n), -1};
      for (ValueId v : node.inputs) step.contract = std::max(step.contract, contract_of[static_cast<size_t>(v)]);
      steps.push_back(step);
    }
  }
  auto touch = [&](ValueId v, int at) {
    if (v == kNoValue || contract_of[static_cast<size_t>(v)] >= 0) return;
    const size_t r = static_cast<size_t>(root[static_cast<size_t>(v)]);
    if (first[r] < 0) first[r] = at;
    last[r] = std::max(last[r], at);
  };
  for (size_t s = 0; s < steps.size(); ++s) {
    const int at = static_cast<int>(s);
    for (int n : {steps[s].contract, steps[s].node}) {
      if (n < 0) continue;
      for (ValueId v : graph.nodes[static_cast<size_t>(n)].inputs) touch(v, at);
    }
    touch(graph.nodes[static_cast<size_t>(steps[s].node)].outputs[0], at);
  }
}

}  // namespace systole
