// The reference evaluator: the slow, obvious meaning of the primitives, one scalar loop nest each. Every model of the
// machine must equal it bit for bit. Shares no kernel with them, only the scalar definitions in src/numerics.
#pragma once
#include <vector>

#include "graph/graph.h"

namespace systole {

/// Evaluates one primitive node on tensors of its inputs' types and shapes.
Tensor evaluate_node(const Graph& graph, const Node& node, const std::vector<const Tensor*>& inputs);

/// Evaluates a graph of primitives. `inputs` follow graph.inputs; the result follows graph.outputs.
std::vector<Tensor> evaluate(const Graph& graph, const std::vector<Tensor>& inputs);

}  // namespace systole
