#include "quantize/einsum.h"

#include <algorithm>
#include <set>

#include "ops/operator.h"

namespace systole {
namespace {

constexpr int kAxesAsInput = 13;  ///< of ReduceSum

bool is_einsum(const Node& n) { return std::get<OnnxOp>(n.op).full_name() == "Einsum"; }

}  // namespace

bool has_einsum(const Graph& graph) { return std::any_of(graph.nodes.begin(), graph.nodes.end(), is_einsum); }

void write_einsum_as_matmul(Graph& graph) {
  Lowering l(graph, {DType::kF32, MacFormat::kF32});
  std::set<ValueId> known;
  const std::vector<Node> nodes = std::move(graph.nodes);
  graph.nodes.clear();
  for (const Node& n : nodes) {
    const bool shaped = std::all_of(n.inputs.begin(), n.inputs.end(), [&](ValueId v) { return v != kNoValue && graph.value(v).shape_known; });
    if (!is_einsum(n) || !shaped) {
      graph.nodes.push_back(n);
      continue;
    }
    for (ValueId v : n.inputs) {
      if (!graph.value(v).constant && known.insert(v).second) l.define_input(v, graph.value(v).type, graph.value(v).shape);
    }
    Expander x(graph, l, n);
    if (!find_operator("", "Einsum")->expand(x)) {
      graph.nodes.push_back(n);
      continue;
    }
    for (Node& part : x.nodes) {
      auto& op = std::get<OnnxOp>(part.op);
      op.opset = std::max(std::get<OnnxOp>(n.op).opset, kAxesAsInput), op.attributes.erase("allowzero");  // no extent is 0
      graph.nodes.push_back(std::move(part));
    }
  }
  prune_and_sort(graph);
}

}  // namespace systole
