#include "schedule/steps.h"

#include <algorithm>

#include "base/error.h"
#include "schedule/weave.h"

namespace systole {

namespace {

/// Who each value is a part of, one step; then all the way.
void share_bytes(const Graph& graph, std::vector<ValueId>& root, std::vector<int64_t>& offset) {
  for (size_t v = 0; v < root.size(); ++v) root[v] = static_cast<ValueId>(v);
  auto put = [&](ValueId part, ValueId whole, int64_t at) {
    SYSTOLE_CHECK(root[static_cast<size_t>(part)] == part, graph.value(part).name);
    root[static_cast<size_t>(part)] = whole, offset[static_cast<size_t>(part)] = at;
  };
  for (const Node& node : graph.nodes) {
    if (const auto* v = std::get_if<View>(&node.op)) put(node.outputs[0], node.inputs[0], v->offset_bytes);
    if (!std::holds_alternative<Join>(node.op)) continue;
    int64_t at = 0;
    for (ValueId v : node.inputs) put(v, node.outputs[0], at), at += element_count(graph.value(v).shape) * bytes_of(graph.value(v).type);
  }
  for (size_t v = 0; v < root.size(); ++v) {
    for (ValueId r = root[v]; root[static_cast<size_t>(r)] != r; r = root[v]) offset[v] += offset[static_cast<size_t>(r)], root[v] = root[static_cast<size_t>(r)];
  }
}

}  // namespace

Schedule::Schedule(const Graph& graph, Order order, const Machine* machine) : root(graph.values.size()), offset(graph.values.size(), 0), first(graph.values.size(), -1), last(graph.values.size(), -1), touches(graph.values.size(), 0) {
  share_bytes(graph, root, offset);
  std::vector<int> contract_of(graph.values.size(), -1);
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    if (std::holds_alternative<View>(node.op) || std::holds_alternative<Join>(node.op)) continue;
    if (std::holds_alternative<Contract>(node.op)) {
      contract_of[static_cast<size_t>(node.outputs[0])] = static_cast<int>(n);
    } else {
      Step step{static_cast<int>(n), -1};
      for (ValueId v : node.inputs) step.contract = std::max(step.contract, contract_of[static_cast<size_t>(v)]);
      steps.push_back(step);
    }
  }
  if (order != Order::kAsGiven) steps = (order == Order::kWoven ? weave : copies_first)(graph, steps, root, *machine);
  auto touch = [&](ValueId v, int at) {
    if (v == kNoValue || contract_of[static_cast<size_t>(v)] >= 0) return;
    const size_t r = static_cast<size_t>(root[static_cast<size_t>(v)]);
    if (first[r] < 0) first[r] = at;
    last[r] = std::max(last[r], at);
  };
  auto count = [&](ValueId v) {
    if (v != kNoValue) ++touches[static_cast<size_t>(root[static_cast<size_t>(v)])];
  };
  for (size_t s = 0; s < steps.size(); ++s) {
    // What a contraction touches lives as long as the last step beside it.
    size_t end = s;
    while (end + 1 < steps.size() && steps[end + 1].with == static_cast<int>(s)) ++end;
    for (int n : {steps[s].contract, steps[s].node}) {
      if (n < 0) continue;
      for (ValueId v : graph.nodes[static_cast<size_t>(n)].inputs) touch(v, static_cast<int>(s)), touch(v, static_cast<int>(end)), count(v);
    }
    const ValueId made = graph.nodes[static_cast<size_t>(steps[s].node)].outputs[0];
    touch(made, static_cast<int>(s)), touch(made, static_cast<int>(end)), count(made);
  }
}

bool Schedule::as_given() const {
  return std::none_of(steps.begin(), steps.end(), [](const Step& s) { return s.with >= 0; }) && std::is_sorted(steps.begin(), steps.end(), [](const Step& a, const Step& b) { return a.node < b.node; });
}

}  // namespace systole
