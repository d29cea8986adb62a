#include "schedule/repetitions.h"

#include <algorithm>

#include "base/file.h"

namespace systole {
namespace {

constexpr size_t kLongestPeriod = 512;
constexpr size_t kFewestBlocks = 6;

/// What the work of a step depends on, as far as it does not lie in memory.
class Signature {
 public:
  Signature(const Graph& graph, const Step& step) : graph_(graph) {
    add(step.with >= 0);
    for (int n : {step.contract, step.node, step.then}) {
      add(n >= 0);
      if (n >= 0) add(graph.nodes[static_cast<size_t>(n)]);
    }
  }
  uint64_t value() const { return content_hash({reinterpret_cast<const char*>(facts_.data()), facts_.size() * sizeof facts_[0]}); }

 private:
  void add(int64_t fact) { facts_.push_back(fact); }
  void add(const std::vector<int64_t>& list) {
    add(static_cast<int64_t>(list.size()));
    facts_.insert(facts_.end(), list.begin(), list.end());
  }
  void add(const Node& node) {
    add(static_cast<int64_t>(node.op.index()));
    for (const auto* values : {&node.inputs, &node.outputs}) {
      for (ValueId v : *values) {
        add(v == kNoValue);
        if (v != kNoValue) add(graph_.value(v).shape), add(static_cast<int64_t>(graph_.value(v).type)), add(graph_.value(v).constant != nullptr);
      }
    }
    if (const auto* c = std::get_if<Contract>(&node.op)) add({static_cast<int64_t>(c->format), c->kernel_h, c->kernel_w, c->stride_h, c->stride_w, c->dilation_h, c->dilation_w, c->groups, c->depthwise, c->b_transposed, c->group_rows});
    if (const auto* m = std::get_if<Map>(&node.op)) {
      add(m->extents), add(m->reduced);
      for (const auto* part : {&m->pre, &m->post}) {
        for (const Operation& o : *part) add(static_cast<int64_t>(o.op));
        add(-1);
      }
    }
    if (const auto* m = std::get_if<Move>(&node.op)) {
      for (const CopyRegion& r : m->regions) add(r.input >= 0), add(r.extents), add(r.src_strides), add(r.dst_strides);
    }
  }

  const Graph& graph_;
  std::vector<int64_t> facts_;
};

/// All repetitions of equal words, of every period; they overlap.
std::vector<Repetition> all_of(const std::vector<uint64_t>& words) {
  std::vector<Repetition> all;
  for (size_t period = 1; period <= std::min(kLongestPeriod, words.size() / kFewestBlocks); ++period) {
    for (size_t i = 0; i + period < words.size();) {
      size_t to = i;
      while (to + period < words.size() && words[to] == words[to + period]) ++to;
      if (to + period - i >= kFewestBlocks * period) all.push_back({i, period, (to + period - i) / period});
      i = to + 1;
    }
  }
  return all;
}

/// What `taken` leaves of a repetition, from a step on that is not woven into one before it; count 0: too little.
Repetition what_is_left(const Repetition& r, const std::vector<bool>& taken, const std::vector<Step>& steps) {
  const size_t limit = r.first + r.count * r.period;
  size_t first = r.first;
  while (first < limit && (taken[first] || steps[first].with >= 0)) ++first;
  size_t end = first;
  while (end < limit && !taken[end]) ++end;
  const size_t count = (end - first) / r.period;
  return {first, r.period, count < kFewestBlocks ? 0 : count};
}

}  // namespace

std::vector<Repetition> repetitions_of(const Graph& graph, const std::vector<Step>& steps) {
  std::vector<uint64_t> words;
  words.reserve(steps.size());
  for (const Step& step : steps) words.push_back(Signature(graph, step).value());
  std::vector<Repetition> all = all_of(words), chosen;
  std::stable_sort(all.begin(), all.end(), [](const Repetition& a, const Repetition& b) { return a.count * a.period > b.count * b.period; });
  std::vector<bool> taken(words.size(), false);
  for (const Repetition& r : all) {
    const Repetition left = what_is_left(r, taken, steps);
    if (left.count == 0) continue;
    chosen.push_back(left);
    std::fill_n(taken.begin() + static_cast<std::ptrdiff_t>(left.first), left.count * left.period, true);
  }
  std::sort(chosen.begin(), chosen.end(), [](const Repetition& a, const Repetition& b) { return a.first < b.first; });
  return chosen;
}

std::vector<LeftOut> left_out_of(const std::vector<Repetition>& repetitions) {
  constexpr size_t kStepsToSettle = 24, kStepsThatStand = 20;
  std::vector<LeftOut> list;
  for (const Repetition& r : repetitions) {
    const auto blocks_of = [&](size_t steps) { return (steps + r.period - 1) / r.period; };
    const size_t stand = blocks_of(kStepsThatStand), stay = blocks_of(kStepsToSettle) + stand;
    if (r.count <= stay + 1) continue;
    const size_t from = r.first + stay * r.period, to = r.first + (r.count - 1) * r.period;
    list.push_back({from, to, {static_cast<uint32_t>(from - stand * r.period), static_cast<uint32_t>(from), static_cast<int64_t>(stand), static_cast<int64_t>(r.count - 1 - stay)}});
  }
  return list;
}

}  // namespace systole
