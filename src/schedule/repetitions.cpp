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

/// Finds repetitions in the words [begin, end) of a text, the one that covers most first, then those on both sides of it.
class Finder {
 public:
  Finder(const std::vector<uint64_t>& words, const std::vector<Step>& steps) : words_(words), steps_(steps) { find(0, words.size()); }
  std::vector<Repetition> found;

 private:
  void find(size_t begin, size_t end) {
    Repetition best{0, 0, 0};
    for (size_t period = 1; period <= std::min(kLongestPeriod, (end - begin) / kFewestBlocks); ++period) {
      for (size_t i = begin; i + period < end;) {
        size_t to = i;
        while (to + period < end && words_[to] == words_[to + period]) ++to;
        // Words [i, to + period) repeat; blocks begin at a step that is not woven into one before it.
        size_t first = i;
        while (first < to && steps_[first].with >= 0) ++first;
        const size_t count = (to + period - first) / period;
        if (count >= kFewestBlocks && count * period > best.count * best.period) best = {first, period, count};
        i = to + 1;
      }
    }
    if (best.count == 0) return;
    find(begin, best.first);
    found.push_back(best);
    find(best.first + best.count * best.period, end);
  }

  const std::vector<uint64_t>& words_;
  const std::vector<Step>& steps_;
};

}  // namespace

std::vector<Repetition> repetitions_of(const Graph& graph, const std::vector<Step>& steps) {
  std::vector<uint64_t> words;
  words.reserve(steps.size());
  for (const Step& step : steps) words.push_back(Signature(graph, step).value());
  return Finder(words, steps).found;
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
