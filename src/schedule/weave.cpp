#include "schedule/weave.h"

#include <algorithm>
#include <set>

#include "machine/cost.h"
#include "schedule/place.h"

namespace systole {
namespace {

constexpr size_t kLookAhead = 1024;      ///< steps that may be taken forward from
constexpr int64_t kWorthWeaving = 4096;  ///< cycles, of a contraction's slack and of a step beside it

/// What steps read, and the cycles they take.
class Costs {
 public:
  Costs(const Graph& g, const std::vector<ValueId>& root, const Machine& m) : g_(g), root_(root), machine_(m) {
    for (const auto* list : {&g.inputs, &g.outputs}) {
      for (ValueId v : *list) boundary_.insert(root_of(v));
    }
  }
  const Node& node(const Step& s) const { return g_.nodes[static_cast<size_t>(s.node)]; }
  /// Whether it is an input or output of the program.
  bool at_boundary(ValueId v) const { return boundary_.count(root_of(v)) != 0; }
  size_t root_of(ValueId v) const { return static_cast<size_t>(root_[static_cast<size_t>(v)]); }
  std::vector<ValueId> inputs(const Step& s) const {
    std::vector<ValueId> list;
    const ValueId product = s.contract < 0 ? kNoValue : g_.nodes[static_cast<size_t>(s.contract)].outputs[0];
    if (s.contract >= 0) list = g_.nodes[static_cast<size_t>(s.contract)].inputs;
    for (ValueId v : node(s).inputs) list.push_back(v);
    std::erase_if(list, [&](ValueId v) { return v == kNoValue || v == product || root_of(v) == root_of(node(s).outputs[0]); });  // the last: made in its place
    return list;
  }
  /// What it moves through DRAM if what may stay in the scratchpad does.
  int64_t dma_cycles(const Step& s) const {
    int64_t bytes = 0;
    auto add = [&](ValueId v, int64_t elements) {
      const Value& whole = g_.value(static_cast<ValueId>(root_of(v)));
      const int64_t all = element_count(whole.shape) * bytes_of(whole.type);
      if (whole.constant || boundary_.count(root_of(v)) || all >= machine_.memory.scratchpad_bytes / 8) bytes += elements * bytes_of(g_.value(v).type);
    };
    for (ValueId v : inputs(s)) add(v, elements_read(s, v));
    for (ValueId v : Schedule::made_by(g_, s)) add(v, element_count(g_.value(v).shape));
    return dram_bound_cycles(machine_, bytes);
  }
  /// Of a contract.
  int64_t mx_cycles(const Step& s) const {
    const Node& n = g_.nodes[static_cast<size_t>(s.contract)];
    return ideal_matrix_cycles(machine_, multiply_adds(g_, n), std::get<Contract>(n.op).format);
  }
  /// In which MX works and DRAM does not.
  int64_t slack(const Step& s) const { return s.contract < 0 ? 0 : std::max<int64_t>(0, mx_cycles(s) - dma_cycles(s)); }

 private:
  /// Elements of input `v` that the step reads.
  int64_t elements_read(const Step& s, ValueId v) const {
    const Node& n = node(s);
    int64_t sum = 0;
    for (size_t k = 0; k < n.inputs.size(); ++k) {
      if (n.inputs[k] != v) continue;
      const Shape& shape = g_.value(v).shape;
      if (const auto* m = std::get_if<Map>(&n.op)) {
        int64_t box = 1;
        for (size_t d = 0; d < shape.size(); ++d) {
          int64_t reach = 1;
          for (const IndexTerm& t : m->accesses[k].index[d].terms) reach += std::abs(t.coefficient) * (m->extents[static_cast<size_t>(t.loop)] - 1);
          box *= std::min(shape[d], reach);
        }
        sum += box;
      }
      if (const auto* m = std::get_if<Move>(&n.op)) {
        for (const CopyRegion& r : m->regions) sum += r.input == static_cast<int>(k) ? element_count(r.extents) : 0;
      }
    }
    return sum ? sum : element_count(g_.value(v).shape);
  }

  const Graph& g_;
  const std::vector<ValueId>& root_;
  const Machine& machine_;
  std::set<size_t> boundary_;
};

/// Copies in front of products that leave DRAM the time for them: dispatch is in order, and one behind them would be seen when the last is in its queue.
std::vector<Step> copies_first(const Graph& g, const std::vector<Step>& steps, const Costs& costs, const Machine& machine) {
  std::vector<Step> order;
  std::vector<int64_t> slack;  // of each step in `order`, less what copies before it take
  for (const Step& step : steps) {
    size_t at = order.size();
    const Node& node = costs.node(step);
    if (std::holds_alternative<Move>(node.op) && stored_bytes(g.value(node.outputs[0])) <= machine.memory.scratchpad_bytes / 8) {
      std::set<size_t> reads;
      for (ValueId v : costs.inputs(step)) reads.insert(costs.root_of(v));
      const size_t made = costs.root_of(node.outputs[0]);
      int64_t needed = costs.dma_cycles(step);
      while (at > 0 && needed > 0 && slack[at - 1] > 0) {
        const Step& before = order[at - 1];
        const auto inputs = costs.inputs(before);
        const bool parts = std::any_of(inputs.begin(), inputs.end(), [&](ValueId v) { return costs.root_of(v) == made; });
        const auto written = Schedule::made_by(g, before);
        if (parts || std::any_of(written.begin(), written.end(), [&](ValueId v) { return reads.count(costs.root_of(v)) || costs.root_of(v) == made; })) break;
        const int64_t taken = std::min(needed, slack[at - 1]);
        needed -= taken, slack[at - 1] -= taken, --at;
      }
    }
    order.insert(order.begin() + static_cast<std::ptrdiff_t>(at), step);
    slack.insert(slack.begin() + static_cast<std::ptrdiff_t>(at), costs.slack(step));
  }
  return order;
}

class Weaver {
 public:
  Weaver(const Graph& g, const std::vector<Step>& steps, const Costs& costs) : steps_(steps), costs_(costs), missing_(steps.size(), 0), readers_(steps.size()) {
    std::vector<std::vector<size_t>> writers(g.values.size());
    for (size_t s = 0; s < steps.size(); ++s) {
      for (ValueId v : Schedule::made_by(g, steps[s])) writers[costs.root_of(v)].push_back(s);
    }
    for (size_t s = 0; s < steps.size(); ++s) {
      std::set<size_t> before;
      for (ValueId v : costs.inputs(steps[s])) before.insert(writers[costs.root_of(v)].begin(), writers[costs.root_of(v)].end());
      before.erase(s);
      missing_[s] = before.size();
      for (size_t b : before) readers_[b].push_back(s);
    }
  }

  std::vector<Step> run() {
    std::vector<Step> order;
    std::vector<size_t> left(steps_.size());
    for (size_t s = 0; s < left.size(); ++s) left[s] = s;
    while (!left.empty()) {
      const size_t s = left.front();
      left.erase(left.begin());
      const int at = static_cast<int>(order.size());
      order.push_back(steps_[s]);
      for (size_t x : beside(s, left)) {
        order.push_back(steps_[x]);
        order.back().with = at;
        std::erase(left, x);
      }
      finish(s);
    }
    return order;
  }

 private:
  void finish(size_t s) {
    for (size_t r : readers_[s]) --missing_[r];
  }

  /// Steps for the time in which a contraction leaves DRAM idle, in their order; they may depend on each other.
  std::vector<size_t> beside(size_t s, const std::vector<size_t>& left) {
    std::vector<size_t> chosen;
    if (steps_[s].contract < 0) return chosen;
    const int64_t all = costs_.slack(steps_[s]);
    int64_t slack = all;
    for (size_t i = 0; i < std::min(left.size(), kLookAhead) && slack >= kWorthWeaving; ++i) {
      const size_t x = left[i];
      if (steps_[x].contract >= 0 || missing_[x]) continue;
      const int64_t cycles = costs_.dma_cycles(steps_[x]);
      if (cycles > 2 * slack) continue;
      chosen.push_back(x);
      slack -= cycles;
      finish(x);
    }
    if (all - slack >= kWorthWeaving) return chosen;
    for (size_t x : chosen) {
      for (size_t r : readers_[x]) ++missing_[r];
    }
    return {};
  }

  const std::vector<Step>& steps_;
  const Costs costs_;
  std::vector<size_t> missing_;                ///< steps to wait for
  std::vector<std::vector<size_t>> readers_;
};

/// Large copies and sums beside contractions that leave DRAM the time, between what they read and what reads them: tensors that are turned or
/// padded on their way from DRAM to DRAM, or summed up, as for the gradients of biases.
class CopiesAndSums {
 public:
  CopiesAndSums(const Graph& g, const std::vector<Step>& steps, const Costs& costs, const Machine& machine, bool passing_only) : g_(g), steps_(steps), costs_(costs), machine_(machine), passing_only_(passing_only), readers_(g.values.size()), host_(steps.size(), -1), slack_(steps.size()) {
    std::vector<std::vector<int>> writers(g.values.size());
    for (size_t s = 0; s < steps.size(); ++s) {
      slack_[s] = costs.slack(steps[s]);
      for (ValueId v : Schedule::made_by(g, steps[s])) writers[costs.root_of(v)].push_back(static_cast<int>(s));
      for (ValueId v : costs.inputs(steps[s])) readers_[costs.root_of(v)].push_back(static_cast<int>(s));
    }
    for (size_t s = 0; s < steps.size(); ++s) {
      const bool large = is_large(steps[s]);
      if (!large && !is_small(steps[s])) continue;
      int ready = -1, last_host = -1;
      for (ValueId v : costs.inputs(steps[s])) {
        for (int w : writers[costs.root_of(v)]) {
          const int host = host_[static_cast<size_t>(w)];
          ready = std::max(ready, host >= 0 ? host : w), last_host = std::max(last_host, host);
        }
      }
      if (large) place(s, ready, due(s));
      else if (last_host >= 0 && last_host == ready) host_[s] = ready;
    }
  }

  std::vector<Step> run() const {
    std::vector<std::vector<size_t>> beside(steps_.size());
    for (size_t s = 0; s < steps_.size(); ++s) {
      if (host_[s] >= 0) beside[static_cast<size_t>(host_[s])].push_back(s);
    }
    std::vector<Step> order;
    for (size_t s = 0; s < steps_.size(); ++s) {
      if (host_[s] >= 0) continue;
      const int at = static_cast<int>(order.size());
      order.push_back(steps_[s]);
      for (size_t x : beside[s]) order.push_back(steps_[x]), order.back().with = at;
    }
    return order;
  }

 private:
  bool is_large(const Step& step) const {
    if (step.contract >= 0) return false;
    const Node& node = costs_.node(step);
    const int64_t bytes = stored_bytes(g_.value(node.outputs[0])), scratchpad = machine_.memory.scratchpad_bytes;
    if (std::holds_alternative<Move>(node.op)) return bytes > scratchpad / 8 && (!passing_only_ || costs_.at_boundary(node.outputs[0]) || bytes > scratchpad / 2);
    return !passing_only_ && sums_only(g_, step) && costs_.dma_cycles(step) >= kWorthWeaving;
  }
  /// A map that goes with the sums that it reads, as the sum over images goes with those over their rows.
  bool is_small(const Step& step) const { return step.contract < 0 && step.then < 0 && std::holds_alternative<Map>(costs_.node(step).op) && costs_.dma_cycles(step) < kWorthWeaving / 4; }

  /// The first step that reads what this one makes, or, where that is a small map, what that one makes.
  int due(size_t s) const {
    return first_reader(s, [&](size_t r) { return is_small(steps_[r]) ? first_reader(r, [](size_t other) { return static_cast<int>(other); }) : static_cast<int>(r); });
  }
  template <class F>
  int first_reader(size_t s, F&& due_of) const {
    int first = static_cast<int>(steps_.size());
    for (int r : readers_[costs_.root_of(costs_.node(steps_[s]).outputs[0])]) first = std::min(first, due_of(static_cast<size_t>(r)));
    return first;
  }

  /// Beside the first contraction behind `ready` and before `due` that has the time.
  void place(size_t s, int ready, int due) {
    const int64_t cycles = costs_.dma_cycles(steps_[s]);
    for (int at = ready + 1; at < due; ++at) {
      const size_t c = static_cast<size_t>(at);
      if (slack_[c] < cycles) continue;
      slack_[c] -= cycles, host_[s] = at;
      return;
    }
  }

  const Graph& g_;
  const std::vector<Step>& steps_;
  const Costs& costs_;
  const Machine& machine_;
  const bool passing_only_;
  std::vector<std::vector<int>> readers_;  ///< per root value
  std::vector<int> host_;                  ///< contraction beside which a step runs, or -1
  std::vector<int64_t> slack_;
};

}  // namespace

bool sums_only(const Graph& graph, const Step& step) {
  const Node& node = graph.nodes[static_cast<size_t>(step.node)];
  const auto* map = std::get_if<Map>(&node.op);
  return step.contract < 0 && step.then < 0 && map && map->reduced > 0 && 16 * element_count(graph.value(node.outputs[0]).shape) <= element_count(map->extents);
}

std::vector<Step> copies_beside(const Graph& graph, const std::vector<Step>& steps, const std::vector<ValueId>& root, const Machine& machine) {
  const Costs costs(graph, root, machine);
  return CopiesAndSums(graph, steps, costs, machine, false).run();
}

std::vector<Step> passing_copies_beside(const Graph& graph, const std::vector<Step>& steps, const std::vector<ValueId>& root, const Machine& machine) {
  const Costs costs(graph, root, machine);
  return CopiesAndSums(graph, steps, costs, machine, true).run();
}

std::vector<Step> copies_first(const Graph& graph, const std::vector<Step>& steps, const std::vector<ValueId>& root, const Machine& machine) { return copies_first(graph, steps, Costs(graph, root, machine), machine); }

std::vector<Step> weave(const Graph& graph, const std::vector<Step>& steps, const std::vector<ValueId>& root, const Machine& machine) { return Weaver(graph, steps, Costs(graph, root, machine)).run(); }

}  // namespace systole
