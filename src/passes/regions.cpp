#include "passes/regions.h"

#include <algorithm>

namespace systole {

std::vector<int> stages_of(const Graph& graph, const std::vector<Decision>& decisions) {
  const Uses uses(graph);
  const size_t n = graph.nodes.size();
  std::vector<int> stage(n, 0);
  auto npu = [&](size_t i) { return decisions[i].where == Where::kNpu; };
  auto runs = [&](size_t i) { return npu(i) || decisions[i].where == Where::kHost; };
  for (size_t i = 0; i < n; ++i) {
    if (!runs(i)) continue;
    stage[i] = npu(i) ? 0 : 1;
    for (ValueId v : graph.nodes[i].inputs) {
      const int p = v == kNoValue ? -1 : uses.producer[static_cast<size_t>(v)];
      if (p < 0 || !runs(static_cast<size_t>(p))) continue;
      const int s = stage[static_cast<size_t>(p)];
      stage[i] = std::max(stage[i], npu(static_cast<size_t>(p)) == npu(i) ? s : s + 1);
    }
  }
  for (size_t i = n; i-- > 0;) {
    if (!npu(i)) continue;
    int latest = INT32_MAX;
    for (ValueId v : graph.nodes[i].outputs) {
      if (v == kNoValue) continue;
      for (int r : uses.readers[static_cast<size_t>(v)]) {
        const size_t k = static_cast<size_t>(r);
        if (runs(k)) latest = std::min(latest, npu(k) ? stage[k] : stage[k] - 1);
      }
    }
    if (latest != INT32_MAX) stage[i] = std::max(stage[i], latest);
  }
  return stage;
}

Region cut(const Graph& graph, const std::vector<size_t>& nodes, const std::set<ValueId>& wanted, const GroupedNodes& grouped, const std::function<Value(ValueId)>& crossing) {
  Region r;
  r.graph.name = graph.name;
  std::map<ValueId, ValueId> ids;
  std::set<ValueId> made;
  for (size_t i : nodes) made.insert(graph.nodes[i].outputs.begin(), graph.nodes[i].outputs.end());
  std::function<ValueId(ValueId)> local = [&](ValueId v) {
    if (v == kNoValue) return v;
    const auto [it, added] = ids.try_emplace(v, static_cast<ValueId>(r.graph.values.size()));
    const ValueId id = it->second;
    if (!added) return id;
    const Value& own = graph.value(v);
    if (const auto g = grouped.find(v); g != grouped.end()) {
      r.graph.values.push_back({own.name, DType::kF32, {}, false, nullptr});
      Node copy = g->second;
      for (ValueId& in : copy.inputs) in = local(in);
      copy.outputs = {id};
      r.graph.nodes.push_back(std::move(copy));
    } else {
      r.graph.values.push_back(own.constant ? own : crossing(v));
      if (!own.constant && !made.count(v)) r.graph.inputs.push_back(id), r.inputs.push_back(v);
    }
    return id;
  };
  for (size_t i : nodes) {
    Node copy = graph.nodes[i];
    for (ValueId& v : copy.inputs) v = local(v);
    for (ValueId& v : copy.outputs) v = local(v);
    r.graph.nodes.push_back(std::move(copy));
  }
  for (ValueId v : wanted) {
    if (made.count(v)) r.graph.outputs.push_back(ids.at(v)), r.outputs.push_back(v), r.output_types.push_back(r.graph.values[static_cast<size_t>(ids.at(v))].type);
  }
  return r;
}

std::set<ValueId> used_outside(const Graph& graph, const std::vector<size_t>& nodes) {
  const std::set<size_t> inside(nodes.begin(), nodes.end());
  std::set<ValueId> made, used(graph.outputs.begin(), graph.outputs.end());
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (inside.count(i)) made.insert(graph.nodes[i].outputs.begin(), graph.nodes[i].outputs.end());
    else used.insert(graph.nodes[i].inputs.begin(), graph.nodes[i].inputs.end());
  }
  std::set<ValueId> both;
  std::set_intersection(made.begin(), made.end(), used.begin(), used.end(), std::inserter(both, both.end()));
  both.erase(kNoValue);
  return both;
}

}  // namespace systole
