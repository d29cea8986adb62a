#include "schedule/weave.h"

#include <algorithm>
#include <set>

#include "machine/cost.h"

namespace systole {
namespace {

constexpr size_t kLookAhead = 1024;      ///< steps that may be taken forward from
constexpr int64_t kWorthWeaving = 4096;  ///< cycles, of a contraction's slack and of a step beside it

class Weaver {
 public:
  Weaver(const Graph& g, const std::vector<Step>& steps, const std::vector<ValueId>& root, const Machine& m) : g_(g), steps_(steps), root_(root), machine_(m), missing_(steps.size(), 0), readers_(steps.size()) {
    std::vector<std::vector<size_t>> writers(g.values.size());
    for (size_t s = 0; s < steps.size(); ++s) writers[root_of(node(s).outputs[0])].push_back(s);
    for (size_t s = 0; s < steps.size(); ++s) {
      std::set<size_t> before;
      for (ValueId v : inputs(s)) before.insert(writers[root_of(v)].begin(), writers[root_of(v)].end());
      before.erase(s);
      missing_[s] = before.size();
      for (size_t b : before) readers_[b].push_back(s);
    }
    for (const auto* list : {&g.inputs, &g.outputs}) {
      for (ValueId v : *list) boundary_.insert(root_of(v));
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
  const Node& node(size_t s) const { return g_.nodes[static_cast<size_t>(steps_[s].node)]; }
  size_t root_of(ValueId v) const { return static_cast<size_t>(root_[static_cast<size_t>(v)]); }
  std::vector<ValueId> inputs(size_t s) const {
    std::vector<ValueId> list;
    const int contract = steps_[s].contract;
    const ValueId product = contract < 0 ? kNoValue : g_.nodes[static_cast<size_t>(contract)].outputs[0];
    if (contract >= 0) list = g_.nodes[static_cast<size_t>(contract)].inputs;
    for (ValueId v : node(s).inputs) list.push_back(v);
    std::erase_if(list, [&](ValueId v) { return v == kNoValue || v == product; });
    return list;
  }
  void finish(size_t s) {
    for (size_t r : readers_[s]) --missing_[r];
  }

  /// Elements of input `v` that the step reads.
  int64_t elements_read(size_t s, ValueId v) const {
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
  /// What it moves through DRAM if what may stay in the scratchpad does.
  int64_t dma_cycles(size_t s) const {
    int64_t bytes = 0;
    auto add = [&](ValueId v, int64_t elements) {
      const Value& whole = g_.value(static_cast<ValueId>(root_of(v)));
      const int64_t all = element_count(whole.shape) * bytes_of(whole.type);
      if (whole.constant || boundary_.count(root_of(v)) || all >= machine_.memory.scratchpad_bytes / 8) bytes += elements * bytes_of(g_.value(v).type);
    };
    for (ValueId v : inputs(s)) add(v, elements_read(s, v));
    add(node(s).outputs[0], element_count(g_.value(node(s).outputs[0]).shape));
    return dram_bound_cycles(machine_, bytes);
  }
  int64_t mx_cycles(size_t s) const {
    const Node& n = g_.nodes[static_cast<size_t>(steps_[s].contract)];
    const auto& c = std::get<Contract>(n.op);
    const Shape& b = g_.value(n.inputs[1]).shape;
    const int64_t macs = element_count(g_.value(n.outputs[0]).shape) * c.kernel_h * c.kernel_w * b[c.b_transposed ? 5 : 4];
    return ideal_matrix_cycles(machine_, macs, c.format);
  }

  /// Steps for the time in which a contraction leaves DRAM idle, in their order; they may depend on each other.
  std::vector<size_t> beside(size_t s, const std::vector<size_t>& left) {
    std::vector<size_t> chosen;
    if (steps_[s].contract < 0) return chosen;
    int64_t slack = mx_cycles(s) - dma_cycles(s);
    for (size_t i = 0; i < std::min(left.size(), kLookAhead) && slack >= kWorthWeaving; ++i) {
      const size_t x = left[i];
      if (steps_[x].contract >= 0 || missing_[x]) continue;
      const int64_t cycles = dma_cycles(x);
      if (cycles > 2 * slack) continue;
      chosen.push_back(x);
      slack -= cycles;
      finish(x);
    }
    if (mx_cycles(s) - dma_cycles(s) - slack >= kWorthWeaving) return chosen;
    for (size_t x : chosen) {
      for (size_t r : readers_[x]) ++missing_[r];
    }
    return {};
  }

  const Graph& g_;
  const std::vector<Step>& steps_;
  const std::vector<ValueId>& root_;
  const Machine& machine_;
  std::vector<size_t> missing_;                ///< steps to wait for
  std::vector<std::vector<size_t>> readers_;
  std::set<size_t> boundary_;
};

}  // namespace

std::vector<Step> weave(const Graph& graph, const std::vector<Step>& steps, const std::vector<ValueId>& root, const Machine& machine) { return Weaver(graph, steps, root, machine).run(); }

}  // namespace systole
