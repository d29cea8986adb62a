#include "schedule/steps.h"

#include <algorithm>

#include "schedule/place.h"
#include "schedule/places.h"
#include "schedule/weave.h"

namespace systole {
namespace {

/// The map of a drain's output, element by element and of constants besides, that comes soon; if others read that output too, or it would have
/// been fused. -1: none.
int follower(const Graph& graph, const std::vector<Step>& steps, size_t s) {
  constexpr int64_t kSmallConstantBytes = 4096;
  constexpr size_t kSoon = 16;  // steps: what it makes is kept from here on
  const Node& drain = graph.nodes[static_cast<size_t>(steps[s].node)];
  const auto* made = std::get_if<Map>(&drain.op);
  if (!made || made->reduced) return -1;
  for (size_t t = s + 1; t < std::min(steps.size(), s + 1 + kSoon); ++t) {
    const Node& node = graph.nodes[static_cast<size_t>(steps[t].node)];
    const auto* map = std::get_if<Map>(&node.op);
    if (steps[t].contract >= 0 || !map || map->reduced || map->extents != made->extents || element_count(graph.value(node.outputs[0]).shape) == 0) continue;
    int reads = 0;
    bool suits = true;
    for (size_t k = 0; k < node.inputs.size() && suits; ++k) {
      const Value& v = graph.value(node.inputs[k]);
      if (node.inputs[k] != drain.outputs[0]) {
        suits = v.constant && stored_bytes(v) <= kSmallConstantBytes;
        continue;
      }
      ++reads;
      for (size_t d = 0; d < v.shape.size(); ++d) suits = suits && (v.shape[d] == 1 || map->accesses[k].index[d] == IndexExpr{0, {{static_cast<int>(d), 1}}});
    }
    if (suits && reads) return static_cast<int>(t);
  }
  return -1;
}

/// Maps that follow a drain's become part of its step.
void add_followers(const Graph& graph, std::vector<Step>& steps) {
  for (size_t s = 0; s < steps.size(); ++s) {
    const int t = steps[s].contract < 0 ? -1 : follower(graph, steps, s);
    if (t < 0) continue;
    steps[s].then = steps[static_cast<size_t>(t)].node;
    steps.erase(steps.begin() + t);
  }
}

}  // namespace

std::vector<ValueId> Schedule::made_by(const Graph& graph, const Step& step) {
  std::vector<ValueId> made = {graph.nodes[static_cast<size_t>(step.node)].outputs[0]};
  if (step.then >= 0) made.push_back(graph.nodes[static_cast<size_t>(step.then)].outputs[0]);
  return made;
}

Schedule::Schedule(const Graph& graph, Order order, const Machine* machine) : first(graph.values.size(), -1), last(graph.values.size(), -1), touches(graph.values.size(), 0) {
  SharedBytes shared = share_bytes(graph, machine);
  root = std::move(shared.root), offset = std::move(shared.offset), strides = std::move(shared.strides);
  std::vector<int> contract_of(graph.values.size(), -1);
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    if (std::holds_alternative<View>(node.op) || std::holds_alternative<Join>(node.op)) continue;
    if (std::holds_alternative<Contract>(node.op)) {
      contract_of[static_cast<size_t>(node.outputs[0])] = static_cast<int>(n);
    } else {
      if (const auto* move = std::get_if<Move>(&node.op); move && !move->regions.empty() && std::all_of(move->regions.begin(), move->regions.end(), [&](const CopyRegion& r) { return in_place(node, r); })) continue;
      Step step{static_cast<int>(n), -1};
      for (ValueId v : node.inputs) step.contract = std::max(step.contract, contract_of[static_cast<size_t>(v)]);
      steps.push_back(step);
    }
  }
  add_followers(graph, steps);
  switch (order) {
    case Order::kAsGiven: break;
    case Order::kCopiesFirst: steps = copies_first(graph, steps, root, *machine); break;
    case Order::kCopiesBeside: steps = copies_beside(graph, steps, root, *machine); break;
    case Order::kPassingCopiesBeside: steps = passing_copies_beside(graph, steps, root, *machine); break;
    case Order::kWoven: steps = weave(graph, steps, root, *machine); break;
  }
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
    for (int n : {steps[s].contract, steps[s].node, steps[s].then}) {
      if (n < 0) continue;
      for (ValueId v : graph.nodes[static_cast<size_t>(n)].inputs) touch(v, static_cast<int>(s)), touch(v, static_cast<int>(end)), count(v);
    }
    for (ValueId made : made_by(graph, steps[s])) touch(made, static_cast<int>(s)), touch(made, static_cast<int>(end)), count(made);
  }
}

bool Schedule::as_given() const {
  return std::none_of(steps.begin(), steps.end(), [](const Step& s) { return s.with >= 0; }) && std::is_sorted(steps.begin(), steps.end(), [](const Step& a, const Step& b) { return a.node < b.node; });
}

}  // namespace systole
