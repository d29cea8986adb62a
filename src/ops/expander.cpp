#include "ops/expander.h"

namespace systole {

std::vector<ValueId> Expander::call_n(const char* type, std::vector<ValueId> inputs, std::vector<NamedAttribute> attributes, size_t outputs) {
  Node n;
  n.name = node.name + "/" + type + (nodes.empty() ? "" : "_" + std::to_string(nodes.size()));
  OnnxOp o{"", type, 22, {}};
  for (auto& [name, value] : attributes) o.attributes[name] = std::move(value);
  n.op = std::move(o);
  n.inputs = std::move(inputs);
  while (!n.inputs.empty() && n.inputs.back() == kNoValue) n.inputs.pop_back();
  for (size_t k = 0; k < outputs; ++k) {
    graph_.values.push_back({n.name + (k ? "." + std::to_string(k) : ""), DType::kF32, {}, false, nullptr});
    n.outputs.push_back(static_cast<ValueId>(graph_.values.size() - 1));
  }
  nodes.push_back(n);
  return n.outputs;
}

ValueId Expander::slice(ValueId v, int64_t axis, int64_t from, int64_t to) { return call("Slice", {v, ints({from}), ints({to}), ints({axis})}); }

ValueId Expander::constant_tensor(Tensor t) { return graph_.add_constant(node.name + ".constant", std::make_shared<const Tensor>(std::move(t))); }

void Expander::result(size_t k, ValueId v) {
  if (!wants(k)) return;
  Node n{node.name + (k ? "." + std::to_string(k) : ""), OnnxOp{"", "Identity", 22, {}}, {v}, {node.outputs[k]}};
  nodes.push_back(std::move(n));
}

std::vector<ValueId> Expander::inline_graph(const Graph& body, const std::vector<ValueId>& arguments) {
  const size_t explicit_count = body.inputs.size() - body.captures.size();
  if (arguments.size() != explicit_count) malformed(node, "a graph of " + std::to_string(explicit_count) + " inputs", std::to_string(arguments.size()));
  const std::string prefix = node.name + "/" + std::to_string(nodes.size()) + "/";
  std::vector<ValueId> ids;
  for (const Value& v : body.values) {
    graph_.values.push_back({prefix + v.name, v.type, {}, false, v.constant});
    ids.push_back(static_cast<ValueId>(graph_.values.size() - 1));
  }
  for (size_t k = 0; k < body.inputs.size(); ++k) {
    ids[static_cast<size_t>(body.inputs[k])] = k < explicit_count ? arguments[k] : node.inputs.at(static_cast<size_t>(body.captures[k - explicit_count]));
  }
  auto here = [&](ValueId v) { return v == kNoValue ? v : ids[static_cast<size_t>(v)]; };
  for (const Node& n : body.nodes) {
    Node copy = n;
    copy.name = prefix + n.name;
    for (ValueId& v : copy.inputs) v = here(v);
    for (ValueId& v : copy.outputs) v = here(v);
    nodes.push_back(std::move(copy));
  }
  std::vector<ValueId> outputs;
  for (ValueId v : body.outputs) outputs.push_back(here(v));
  return outputs;
}

}  // namespace systole
