#include "quantize/upgrade.h"

#include <algorithm>

#include "graph/checks.h"

namespace systole {
namespace {

/// An attribute of integers, or of one, becomes input k.
void attribute_to_input(Graph& g, Node& n, const char* name, size_t k) {
  auto& op = std::get<OnnxOp>(n.op);
  if (!op.has(name)) return;
  const auto values = std::holds_alternative<int64_t>(op.attributes.at(name)) ? std::vector{op.integer(name, 0)} : op.integers(name);
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

/// Upsample (7, 9) and Resize (10) take the place floor(output / scale), or the numbers around output / scale, which Resize (11) has to be told.
void upgrade_resize(Graph& g, Node& n) {
  auto& op = std::get<OnnxOp>(n.op);
  if (op.has("scales")) n.inputs = {n.inputs.at(0), g.add_constant(n.name + ".scales", std::make_shared<const Tensor>(Tensor::from_floats(op.reals("scales"), {static_cast<int64_t>(op.reals("scales").size())})))};
  n.inputs = {n.inputs.at(0), kNoValue, n.inputs.at(1)};
  op.type = "Resize", op.attributes.erase("scales");
  if (op.text("mode", "nearest") == "bilinear") op.attributes["mode"] = std::string("linear");
  op.attributes["coordinate_transformation_mode"] = std::string("asymmetric"), op.attributes["nearest_mode"] = std::string("floor");
}

/// Before 13 a Softmax took its axis and all behind it as one: the same where those are of one element, otherwise between a Flatten and a Reshape, which
/// go to `more`.
void upgrade_softmax(Graph& g, Node& n, std::vector<Node>& more) {
  auto& op = std::get<OnnxOp>(n.op);
  const ValueId x = n.inputs.at(0), y = n.outputs.at(0);
  const Shape shape = g.value(x).shape;
  if (!g.value(x).shape_known) unsupported(n, "a shape that follows from data, in an opset before 13");
  const int64_t rank = static_cast<int64_t>(shape.size()), given = op.integer("axis", 1), axis = given < 0 ? given + rank : given;
  if (axis < 0 || axis >= rank) unsupported(n, "axis " + std::to_string(given) + " of an input of rank " + std::to_string(rank));
  op.attributes["axis"] = axis;
  if (std::all_of(shape.begin() + axis + 1, shape.end(), [](int64_t e) { return e == 1; })) return;
  const ValueId flat = g.add_value(n.name + ".flat", DType::kF32, {}), made = g.add_value(n.name + ".made", DType::kF32, {});
  more.push_back({n.name + ".flat", OnnxOp{"", "Flatten", 13, {{"axis", axis}}}, {x}, {flat}});
  more.push_back({n.name + ".shaped", OnnxOp{"", "Reshape", 13, {}}, {made, g.add_constant(n.name + ".shape", std::make_shared<const Tensor>(Tensor::from_ints(shape, {rank})))}, {y}});
  op.attributes["axis"] = int64_t{-1};
  n.inputs[0] = flat, n.outputs[0] = made;
}

void upgrade_node(Graph& g, Node& n, int to, std::vector<Node>& more) {
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
  else if ((op.type == "Softmax" || op.type == "LogSoftmax" || op.type == "Hardmax") && crosses(13)) upgrade_softmax(g, n, more);
  else if ((op.type == "Upsample" || op.type == "Resize") && crosses(11)) upgrade_resize(g, n);
  else if (op.type == "Scatter" && crosses(11)) op.type = "ScatterElements";
  else if (op.type == "TopK" && crosses(10)) attribute_to_input(g, n, "k", 1);
  else if (op.type == "Split" && crosses(18) && n.inputs.size() < 2) op.attributes["num_outputs"] = static_cast<int64_t>(n.outputs.size());
  if (from < 7 && (op.has("broadcast") || op.has("axis")) && (op.type == "Add" || op.type == "Mul" || op.type == "Sub" || op.type == "Div")) unsupported(n, "broadcasting as before opset 7");
  op.opset = std::max(op.opset, to);
}

}  // namespace

void upgrade_opset(Graph& graph, int opset) {
  std::vector<Node> more;
  for (Node& n : graph.nodes) {
    for (auto& [name, value] : std::get<OnnxOp>(n.op).attributes) {
      if (auto* sub = std::get_if<GraphPtr>(&value)) {
        Graph body = **sub;
        upgrade_opset(body, opset);
        *sub = std::make_shared<const Graph>(std::move(body));
      }
    }
    if (std::get<OnnxOp>(n.op).domain.empty()) upgrade_node(graph, n, opset, more);
  }
  if (more.empty()) return;
  std::move(more.begin(), more.end(), std::back_inserter(graph.nodes));
  prune_and_sort(graph);
}

}  // namespace systole
