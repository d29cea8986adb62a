#include "train/gradients.h"

#include <algorithm>
#include <set>

#include "base/error.h"

namespace systole {

std::vector<GradientRule> gradient_rules() {
  std::vector<GradientRule> all;
  for (const auto list : {elementwise_gradients(), activation_gradients(), linear_gradients(), layout_gradients(), indexed_gradients(), pooling_gradients()}) all.insert(all.end(), list.begin(), list.end());
  return all;
}

namespace {

void (*find_rule(const std::string& type))(GradientCall&) {
  static const std::vector<GradientRule> all = gradient_rules();
  for (const GradientRule& r : all) {
    if (type == r.operator_type) return r.rule;
  }
  for (const char* flat : flat_operators()) {
    if (type == flat) return [](GradientCall&) {};
  }
  return nullptr;
}

}  // namespace

bool has_gradient(const std::string& type) { return find_rule(type) != nullptr; }

namespace {

/// Values that depend on one of `wrt`.
std::vector<bool> dependents(const Graph& g, const std::vector<ValueId>& wrt) {
  std::vector<bool> depends(g.values.size(), false);
  for (ValueId v : wrt) depends[static_cast<size_t>(v)] = true;
  for (const Node& n : g.nodes) {
    const bool any = std::any_of(n.inputs.begin(), n.inputs.end(), [&](ValueId v) { return v != kNoValue && depends[static_cast<size_t>(v)]; });
    for (ValueId v : n.outputs) {
      if (any && v != kNoValue) depends[static_cast<size_t>(v)] = true;
    }
  }
  return depends;
}

}  // namespace

std::vector<ValueId> backward(Graph& graph, const std::map<ValueId, ValueId>& seeds, const std::vector<ValueId>& wrt, bool rounds_operands) {
  const std::vector<bool> depends = dependents(graph, wrt);
  std::vector<std::vector<ValueId>> parts(graph.values.size());  // gradients still to be added up
  for (const auto& [value, seed] : seeds) parts[static_cast<size_t>(value)].push_back(seed);
  Builder b(graph, "gradient.");
  auto total = [&](ValueId v) -> ValueId {
    if (v == kNoValue || parts[static_cast<size_t>(v)].empty()) return kNoValue;
    auto& list = parts[static_cast<size_t>(v)];
    while (list.size() > 1) {
      const ValueId a = list.back();
      list.pop_back();
      list.back() = b.add(list.back(), a);
    }
    return list[0];
  };
  std::set<std::string> missing;
  const std::vector<Node> forward = graph.nodes;
  for (size_t i = forward.size(); i-- > 0;) {
    const Node& n = forward[i];
    std::vector<ValueId> outputs;
    bool any = false;
    for (ValueId v : n.outputs) outputs.push_back(v != kNoValue && depends[static_cast<size_t>(v)] ? total(v) : kNoValue), any |= outputs.back() != kNoValue;
    std::vector<bool> wanted;
    bool needed = false;
    for (ValueId v : n.inputs) wanted.push_back(v != kNoValue && depends[static_cast<size_t>(v)]), needed |= wanted.back();
    if (!any || !needed) continue;
    const auto& op = std::get<OnnxOp>(n.op);
    const auto rule = find_rule(op.type);
    if (!rule || !op.domain.empty()) {
      missing.insert(op.full_name() + " ('" + n.name + "')");
      continue;
    }
    GradientCall call{b, n, outputs, std::vector<ValueId>(n.inputs.size(), kNoValue), wanted, rounds_operands};
    rule(call);
    for (size_t k = 0; k < n.inputs.size(); ++k) {
      if (wanted[k] && call.inputs[k] != kNoValue) parts[static_cast<size_t>(n.inputs[k])].push_back(call.inputs[k]);
    }
  }
  if (!missing.empty()) {
    std::string list;
    for (const std::string& m : missing) list += (list.empty() ? "" : ", ") + m;
    fail(ErrorCode::kUnsupported, "training of '" + graph.name + "'", "no gradient for " + list, "operators of docs/training.md");
  }
  std::vector<ValueId> result;
  for (ValueId v : wrt) result.push_back(total(v));
  return result;
}

}  // namespace systole
