#include "quantize/roles.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

namespace systole {
namespace {

const OnnxOp& op_of(const Node& n) { return std::get<OnnxOp>(n.op); }

bool has_weights(const Graph& g, const Node& n) {
  const OnnxOp& op = op_of(n);
  const TensorPtr w = constant_input(g, n, 1);
  if (!w || w->type != DType::kF32 || n.inputs[0] == kNoValue || g.value(n.inputs[0]).constant) return false;
  if (op.type == "Conv") return w->shape.size() >= 3;
  if (op.type == "MatMul") return w->shape.size() == 2;
  return op.type == "Gemm" && w->shape.size() == 2 && op.real("alpha", 1) == 1 && op.real("beta", 1) == 1 && !op.integer("transA", 0);
}

}  // namespace

TensorPtr constant_input(const Graph& graph, const Node& node, size_t k) { return k < node.inputs.size() && node.inputs[k] != kNoValue ? graph.value(node.inputs[k]).constant : nullptr; }

Role role_of(const Graph& graph, const Node& node) {
  static const std::map<std::string, Role> kRoles = {
      {"Add", Role::kElementwise},     {"Mul", Role::kElementwise}, {"Relu", Role::kElementwise},      {"Clip", Role::kElementwise},    {"LeakyRelu", Role::kElementwise},
      {"MaxPool", Role::kSelects},     {"AveragePool", Role::kSelects}, {"GlobalAveragePool", Role::kSelects}, {"Concat", Role::kSelects}, {"Reshape", Role::kMoves},
      {"Transpose", Role::kMoves},     {"Flatten", Role::kMoves},   {"Squeeze", Role::kMoves},         {"Unsqueeze", Role::kMoves},     {"Slice", Role::kMoves},
      {"Split", Role::kMoves},         {"Identity", Role::kMoves},  {"Pad", Role::kMoves},             {"Expand", Role::kMoves},        {"Resize", Role::kMoves},
      {"Upsample", Role::kMoves},      {"DepthToSpace", Role::kMoves}, {"SpaceToDepth", Role::kMoves}, {"GlobalMaxPool", Role::kMoves}, {"Dropout", Role::kMoves}};
  const OnnxOp& op = op_of(node);
  if (!op.domain.empty()) return Role::kFloat;
  if (has_weights(graph, node)) return Role::kWeighted;
  if (op.type == "MatMul" && !constant_input(graph, node, 0) && !constant_input(graph, node, 1)) return Role::kProduct;
  const auto known = kRoles.find(op.type);
  return known == kRoles.end() ? Role::kFloat : known->second;
}

FloatMaps::FloatMaps(const Graph& graph, const Uses& uses) : graph_(graph), uses_(uses), in_float_(graph.nodes.size(), false) {
  for (const Node& n : graph.nodes) roles_.push_back(role_of(graph, n));
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t n = 0; n < roles_.size(); ++n) {
      if (in_float_[n] || roles_[n] != Role::kElementwise || !(reads_floats(n) || makes_floats(n))) continue;
      in_float_[n] = changed = true;
    }
  }
}

bool FloatMaps::reads_as_floats(const Node& node, ValueId v, bool codes) const {
  const int from = origin(v), p = behind_views(v);
  if (from >= 0 && role(from) == Role::kFloat && op_of(graph_.nodes[static_cast<size_t>(from)]).type.ends_with("Normalization")) return true;
  if (codes || from < 0 || role(from) == Role::kFloat) return !codes;
  const auto product = [&](int at) { return at >= 0 && (role(at) == Role::kWeighted || role(at) == Role::kProduct); };
  const bool last = std::none_of(node.inputs.begin(), node.inputs.end(), [&](ValueId other) { return other != kNoValue && behind_views(other) > p && product(origin(other)); });
  return role(p) == Role::kElementwise || (product(p) && last);
}

/// What makes the value, before nodes of which `passes` is true; -1 for inputs and constants.
template <class F>
int FloatMaps::made_before(ValueId v, F&& passes) const {
  int p = producer(v);
  while (p >= 0 && passes(p)) v = graph_.nodes[static_cast<size_t>(p)].inputs[0], p = v == kNoValue ? -1 : producer(v);
  return p;
}
/// Before all movements.
int FloatMaps::origin(ValueId v) const {
  return made_before(v, [&](int p) { return role(p) == Role::kMoves; });
}
/// Before changes of the shape alone, which keep no map from being joined.
int FloatMaps::behind_views(ValueId v) const {
  static const std::set<std::string> kViews = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"};
  return made_before(v, [&](int p) { return role(p) == Role::kMoves && kViews.count(op_of(graph_.nodes[static_cast<size_t>(p)]).type) != 0; });
}

/// f(node) for each that reads the value, behind movements.
template <class F>
void FloatMaps::for_each_reader(ValueId v, F&& f) const {
  for (int r : uses_.readers[static_cast<size_t>(v)]) {
    if (role(r) != Role::kMoves) {
      f(static_cast<size_t>(r));
      continue;
    }
    for (ValueId out : graph_.nodes[static_cast<size_t>(r)].outputs) {
      if (out != kNoValue) for_each_reader(out, f);
    }
  }
}

/// Elements of an activation; -1 for one of unknown shape, and for constants.
int64_t FloatMaps::size(ValueId v) const { return v != kNoValue && !graph_.value(v).constant && graph_.value(v).shape_known ? element_count(graph_.value(v).shape) : -1; }

bool FloatMaps::only_use(ValueId v) const { return uses_.readers[static_cast<size_t>(v)].size() == 1 && !uses_.is_output[static_cast<size_t>(v)]; }

/// From a float node a tensor as large as any that it reads (not the factors per channel of squeeze and excite), or the only use of what such a map makes.
/// A tensor times what other elementwise nodes make of it is an activation function in its parts, as x clip(x + 3, 0, 6) / 6.
bool FloatMaps::reads_floats(size_t n) const {
  const Node& node = graph_.nodes[n];
  int64_t most = -1;
  for (ValueId v : node.inputs) most = std::max(most, size(v));
  const auto large = [&](ValueId v) { return v != kNoValue && !graph_.value(v).constant && size(v) == most; };
  const bool gates = op_of(node).type == "Mul" && std::all_of(node.inputs.begin(), node.inputs.end(), large);
  return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) {
    const int from = large(v) ? origin(v) : -1;
    if (from < 0) return false;
    const bool maps = in_float_[static_cast<size_t>(from)] || (gates && role(from) == Role::kElementwise);
    return role(from) == Role::kFloat || (maps && only_use(v));
  });
}

/// A float node reads what it makes (sums over it end a map, so they do not count), or nothing but such maps do.
bool FloatMaps::makes_floats(size_t n) const {
  const ValueId v = graph_.nodes[n].outputs[0];
  bool floats = false, others = uses_.is_output[static_cast<size_t>(v)] || uses_.readers[static_cast<size_t>(v)].empty();
  for_each_reader(v, [&](size_t r) {
    floats |= roles_[r] == Role::kFloat && !op_of(graph_.nodes[r]).type.starts_with("Reduce");
    others |= !in_float_[r];
  });
  return floats || !others;
}

}  // namespace systole
