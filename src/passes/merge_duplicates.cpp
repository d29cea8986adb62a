#include <map>

#include "passes/passes.h"

namespace systole {
namespace {

bool same(const Graph& g, const Node& a, const Node& b) {
  if (a.op.index() != b.op.index() || a.outputs.size() != 1 || b.outputs.size() != 1) return false;
  const Value &x = g.value(a.outputs[0]), &y = g.value(b.outputs[0]);
  if (x.type != y.type || x.shape != y.shape) return false;
  if (const auto* m = std::get_if<Map>(&a.op)) return *m == std::get<Map>(b.op);
  if (const auto* m = std::get_if<Move>(&a.op)) return *m == std::get<Move>(b.op);
  if (const auto* v = std::get_if<View>(&a.op)) return *v == std::get<View>(b.op);
  return false;  // contractions and what drains them stay pairs
}

}  // namespace

void merge_duplicates(Graph& graph) {
  const Uses uses(graph);
  std::vector<ValueId> instead(graph.values.size());
  for (size_t v = 0; v < instead.size(); ++v) instead[v] = static_cast<ValueId>(v);
  std::map<std::vector<ValueId>, std::vector<size_t>> seen;  // nodes by their inputs
  std::vector<bool> product(graph.values.size(), false);
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    Node& node = graph.nodes[n];
    bool drains = false;
    for (ValueId& v : node.inputs) {
      if (v != kNoValue) v = instead[static_cast<size_t>(v)], drains |= product[static_cast<size_t>(v)];
    }
    if (std::holds_alternative<Contract>(node.op)) product[static_cast<size_t>(node.outputs[0])] = true;
    if (drains || std::holds_alternative<OnnxOp>(node.op) || std::holds_alternative<Contract>(node.op)) continue;
    auto& list = seen[node.inputs];
    for (size_t other : list) {
      if (uses.is_output[static_cast<size_t>(node.outputs[0])] || !same(graph, graph.nodes[other], node)) continue;
      instead[static_cast<size_t>(node.outputs[0])] = graph.nodes[other].outputs[0];
      break;
    }
    list.push_back(n);
  }
  prune_and_sort(graph);
}

}  // namespace systole
