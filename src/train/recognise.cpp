#include "train/recognise.h"

namespace systole {

void pool_before_relu(Graph& graph) {
  const Uses uses(graph);
  const auto is = [&](size_t n, const char* type) {
    const auto* op = std::get_if<OnnxOp>(&graph.nodes[n].op);
    return op && op->full_name() == type;
  };
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    if (!is(n, "MaxPool") || graph.nodes[n].outputs.size() != 1) continue;
    const ValueId cut = graph.nodes[n].inputs[0], pooled = graph.nodes[n].outputs[0];
    const auto c = static_cast<size_t>(cut);
    if (uses.producer[c] < 0 || !is(static_cast<size_t>(uses.producer[c]), "Relu") || uses.readers[c].size() != 1 || uses.is_output[c]) continue;
    Node &relu = graph.nodes[static_cast<size_t>(uses.producer[c])], &pool = graph.nodes[n];
    const Value like = graph.value(pooled);
    const ValueId greatest = graph.add_value(like.name + ".greatest", like.type, like.shape);
    graph.value(greatest).shape_known = like.shape_known;
    std::swap(relu.op, pool.op), std::swap(relu.name, pool.name);
    relu.outputs = {greatest}, pool.inputs = {greatest};  // each is the other now
  }
}

}  // namespace systole
