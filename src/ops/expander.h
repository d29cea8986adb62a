// Writes one node as nodes of other operators, which then run wherever each of them can: rules for operators that ONNX
// defines as functions of others, and for those that a few others express.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "ops/lowering.h"

namespace systole {

class Expander {
 public:
  using NamedAttribute = std::pair<const char*, Attribute>;
  /// `graph` gains the values that the new nodes compute; `l` knows the shapes of the node's inputs.
  Expander(Graph& graph, const Lowering& l, const Node& expanded) : node(expanded), l_(l), graph_(graph) {}

  const Node& node;
  std::vector<Node> nodes;  ///< the result

  const OnnxOp& op() const { return std::get<OnnxOp>(node.op); }
  bool has(size_t k) const { return Lowering::present(node, k); }
  ValueId in(size_t k) const { return has(k) ? node.inputs[k] : kNoValue; }
  const Shape& shape(size_t k) const { return l_.shape(node.inputs.at(k)); }
  DType type(size_t k) const { return l_.type(node.inputs.at(k)); }
  /// Input k where it is a constant, otherwise null.
  TensorPtr constant(size_t k) const { return has(k) ? l_.constant(node.inputs[k]) : nullptr; }
  /// Whether results of arithmetic stay fp32.
  bool exact() const { return l_.policy.store == DType::kF32; }
  bool wants(size_t k) const { return k < node.outputs.size() && node.outputs[k] != kNoValue; }

  /// A node of an operator of this compiler's newest opset; its first output.
  ValueId call(const char* type, std::vector<ValueId> inputs, std::vector<NamedAttribute> attributes = {}) { return call_n(type, std::move(inputs), std::move(attributes), 1)[0]; }
  std::vector<ValueId> call_n(const char* type, std::vector<ValueId> inputs, std::vector<NamedAttribute> attributes, size_t outputs);
  ValueId add(ValueId a, ValueId b) { return call("Add", {a, b}); }
  ValueId sub(ValueId a, ValueId b) { return call("Sub", {a, b}); }
  ValueId mul(ValueId a, ValueId b) { return call("Mul", {a, b}); }
  ValueId div(ValueId a, ValueId b) { return call("Div", {a, b}); }
  ValueId cast(ValueId v, DType to) { return call("Cast", {v}, {{"systole_to", static_cast<int64_t>(to)}}); }
  ValueId reshape(ValueId v, const Shape& shape) { return call("Reshape", {v, ints(shape)}, {{"allowzero", int64_t{1}}}); }
  ValueId transpose(ValueId v, std::vector<int64_t> perm) { return call("Transpose", {v}, {{"perm", std::move(perm)}}); }
  /// One extent [from, to) of an axis.
  ValueId slice(ValueId v, int64_t axis, int64_t from, int64_t to);
  ValueId constant_tensor(Tensor t);
  ValueId scalar(double v) { return constant_tensor(Tensor::scalar_f32(static_cast<float>(v))); }
  ValueId ints(const std::vector<int64_t>& v) { return constant_tensor(Tensor::from_ints(v, {static_cast<int64_t>(v.size())})); }
  /// Output k of the node is this value.
  void result(size_t k, ValueId v);
  /// The nodes of a subgraph on these values for its explicit inputs; captures come from the node's own inputs. Returns the
  /// subgraph's outputs.
  std::vector<ValueId> inline_graph(const Graph& body, const std::vector<ValueId>& arguments);

 private:
  const Lowering& l_;
  Graph& graph_;
};

}  // namespace systole
