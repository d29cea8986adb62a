// What passes ask that recognise an operator in the parts that a model writes for it.
#pragma once
#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include "graph/graph.h"

namespace systole {

class Parts {
 public:
  explicit Parts(const Graph& g) : g_(g), uses_(g) {}

 protected:
  static const OnnxOp& op_of(const Node& n) { return std::get<OnnxOp>(n.op); }
  /// Nothing for a node without the inputs that its operator has: models are what their files say.
  static std::string type_of(const Node& n) {
    const std::string type = op_of(n).full_name();
    const bool binary = type == "Add" || type == "Sub" || type == "Mul" || type == "Div" || type == "Pow";
    if (op_of(n).opset < 7 && op_of(n).has("axis")) return "";  // broadcasts along another axis
    const bool whole = n.outputs.size() == 1 && n.outputs[0] != kNoValue && (binary ? n.inputs.size() == 2 : !n.inputs.empty()) && !std::count(n.inputs.begin(), n.inputs.begin() + (binary ? 2 : 1), kNoValue);
    return whole ? type : "";
  }
  /// To four digits.
  static bool is(double v, double wanted) { return std::fabs(v - wanted) <= 1e-4 * wanted; }
  const Node* producer(ValueId v) const {
    const int at = v == kNoValue ? -1 : uses_.producer[static_cast<size_t>(v)];
    return at < 0 ? nullptr : &g_.nodes[static_cast<size_t>(at)];
  }
  /// Whether one node reads a value and nobody else.
  bool read_once(ValueId v) const { return !uses_.is_output[static_cast<size_t>(v)] && uses_.readers[static_cast<size_t>(v)].size() == 1; }
  /// Who makes a value for one reader.
  const Node* maker(ValueId v) const { return v != kNoValue && read_once(v) ? producer(v) : nullptr; }
  /// The one reader of a value.
  const Node* reader(ValueId v) const { return read_once(v) ? &g_.nodes[static_cast<size_t>(uses_.readers[static_cast<size_t>(v)][0])] : nullptr; }
  TensorPtr constant(ValueId v) const { return v == kNoValue ? nullptr : g_.value(v).constant; }
  /// A constant number, of no more axes than what it meets has.
  std::optional<double> scalar(ValueId v) const {
    const TensorPtr t = constant(v);
    return t && t->count() == 1 && t->shape.size() <= 1 && is_float(t->type) ? std::optional(t->at(0)) : std::nullopt;
  }

  const Graph& g_;
  const Uses uses_;
};

}  // namespace systole
