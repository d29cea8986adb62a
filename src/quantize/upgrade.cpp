#include "quantize/upgrade.h"

#include <algorithm>

#include "graph/checks.h"

namespace systole {
namespace {

/// An attribute of integers becomes input k.
void attribute_to_input(Graph& g, Node& n, const char* name, size_t k) {
  auto& op = std::get<OnnxOp>(n.op);
  const auto values = op.integers(name);
  if (!op.has(name)) return;
  while (n.inputs.size() < k) n.inputs.push_back(kNoValue);
  n.inputs.push_back(g.add_constant(n.name + "." + name, std::make_shared<const Tensor>(Tensor::from_ints(values, {static_cast<int64_t>(values.size())}))));
  op.attributes.erase(name);
}

void number_to_input(Graph& g, Node& n, const char* name, size_t k) {
  auto& op = std::get<OnnxOp>(n.op);
  if (!op.has(name)) return;
  while (n.inputs.size() < k) n.inputs.push_back(kNoValue);
  n.inputs.push_back(g.add_constant(n.name + "." + name, std::make_shared<const Tensor>(Tensor::scalar_f32(op.real(name, 0)))));
  op.attributes.erase(name);
}

void upgrade_node(Graph& g, Node& n, int to) {
  auto& op = std::get<OnnxOp>(n.op);
  const int from = op.opset;
  auto crosses = [&](int version) { return from < version && version <= to; };
  if (op.type == "Clip" && crosses(11)) number_to_input(g, n, "min", 1), number_to_input(g, n, "max", 2);
  else if (op.type == "Pad" && crosses(11)) attribute_to_input(g, n, "pads", 1), number_to_input(g, n, "value", 2);
  else if (op.type == "Slice" && crosses(10)) attribute_to_input(g, n, "starts", 1), attribute_to_input(g, n, "ends", 2), attribute_to_input(g, n, "axes", 3);
  else if ((op.type == "Squeeze" || op.type == "Unsqueeze" || op.type == "ReduceSum") && crosses(13)) attribute_to_input(g, n, "axes", 1);
  else if (op.type == "Split" && crosses(13)) attribute_to_input(g, n, "split", 1);
  else if (op.type.starts_with("Reduce") && crosses(18)) attribute_to_input(g, n, "axes", 1);
  else if (op.type == "Dropout") op = OnnxOp{"", "Identity", to, {}}, n.inputs.resize(1), n.outputs.resize(1);
  else if ((op.type == "Softmax" || op.type == "LogSoftmax" || op.type == "Hardmax") && crosses(13)) {
    // Before 13 the trailing axes count as one: the same where the axis is the last.
    const Value& x = g.value(n.inputs.at(0));
    const int64_t axis = op.integer("axis", 1), rank = static_cast<int64_t>(x.shape.size());
    if (!x.shape_known || (axis != -1 && axis != rank - 1)) unsupported(n, "an axis before the last in an opset before 13");
    op.attributes["axis"] = int64_t{-1};
  } else if ((op.type == "Upsample" || op.type == "Resize" || op.type == "Scatter" || op.type == "TopK") && crosses(11)) unsupported(n, "opset " + std::to_string(from) + "; convert the model to opset 13 first");
  else if (op.type == "Split" && crosses(18) && n.inputs.size() < 2) op.attributes["num_outputs"] = static_cast<int64_t>(n.outputs.size());
  if (from < 7 && (op.has("broadcast") || op.has("axis")) && (op.type == "Add" || op.type == "Mul" || op.type == "Sub" || op.type == "Div")) unsupported(n, "broadcasting as before opset 7");
  op.opset = std::max(op.opset, to);
}

}  // namespace

void upgrade_opset(Graph& graph, int opset) {
  for (Node& n : graph.nodes) {
    if (std::get<OnnxOp>(n.op).domain.empty()) upgrade_node(graph, n, opset);
  }
}

}  // namespace systole
