// Reverse-mode differentiation of graphs of ONNX operators: for each operator a rule that writes the gradients of its
// inputs as further nodes, which the compiler lowers like any others.
#pragma once
#include <map>
#include <span>
#include <string>
#include <vector>

#include "train/builder.h"

namespace systole {

/// What a rule works with: the forward node and the gradient of each of its outputs (kNoValue where nothing depends on it).
struct GradientCall {
  Builder& b;
  const Node& node;
  const std::vector<ValueId>& outputs;
  std::vector<ValueId> inputs;  ///< the result: a gradient per input, kNoValue where there is none

  const OnnxOp& op() const { return std::get<OnnxOp>(node.op); }
  ValueId in(size_t k) const { return k < node.inputs.size() ? node.inputs[k] : kNoValue; }
  ValueId out() const { return node.outputs[0]; }
  ValueId dy() const { return outputs[0]; }
  Shape shape(size_t k) const { return b.shape(in(k)); }
  TensorPtr constant(size_t k) const { return in(k) == kNoValue ? nullptr : b.graph().value(in(k)).constant; }
  /// Whether input k needs a gradient.
  bool wants(size_t k) const { return wanted.at(k); }
  const std::vector<bool>& wanted;
  bool rounds_operands = false;  ///< each operand of a product will be rounded by a scale of its own (fp8)
};

struct GradientRule {
  const char* operator_type;
  void (*rule)(GradientCall&);
};
std::span<const GradientRule> elementwise_gradients();
std::span<const GradientRule> activation_gradients();
std::span<const GradientRule> linear_gradients();
std::span<const GradientRule> layout_gradients();
std::span<const GradientRule> indexed_gradients();
std::span<const GradientRule> pooling_gradients();
/// Operators that no gradient passes, because their outputs do not follow small changes of what they read.
std::span<const char* const> flat_operators();
/// All of them.
std::vector<GradientRule> gradient_rules();
/// Whether an ONNX operator has one, or is flat.
bool has_gradient(const std::string& type);

/// Appends to `graph` the gradients of `loss` (its own gradient is `seed`) with respect to `wrt`. Every value on the way must
/// have a known shape. Fails (kUnsupported) listing operators without a rule. kNoValue where the loss does not depend on one.
/// `rounds_operands` as in GradientCall.
std::vector<ValueId> backward(Graph& graph, const std::map<ValueId, ValueId>& seeds, const std::vector<ValueId>& wrt, bool rounds_operands = false);

}  // namespace systole
