#include <map>

#include "base/error.h"
#include "ops/operator.h"
#include "passes/passes.h"

namespace systole {

void check_supported(const Graph& graph) {
  std::map<std::string, std::vector<std::string>> unknown;
  for (const Node& n : graph.nodes) {
    const auto& op = std::get<OnnxOp>(n.op);
    if (!find_operator(op.domain, op.type)) unknown[op.full_name()].push_back(n.name);
  }
  if (unknown.empty()) return;
  std::string list;
  size_t count = 0;
  for (const auto& [op, nodes] : unknown) {
    list += "\n    " + op + " x " + std::to_string(nodes.size()) + ": no rule lowers it to contract, map and move; nodes";
    for (const auto& n : nodes) list += " '" + n + "'";
    count += nodes.size();
  }
  fail(ErrorCode::kUnsupported, "model '" + graph.name + "'", std::to_string(count) + " of " + std::to_string(graph.nodes.size()) + " nodes have no NPU implementation:" + list,
       "operators of 'systole ops'");
}

}  // namespace systole
