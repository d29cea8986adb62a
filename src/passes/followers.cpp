#include "passes/followers.h"

#include <algorithm>
#include <map>

#include "passes/blocks.h"

namespace systole {
namespace {

/// The only block that the node reads of `v`; -1: more than one, or nobody knows.
int64_t block_read(const Graph& g, const Node& node, ValueId v, int64_t blocks) {
  const int64_t block = element_count(g.value(v).shape) / blocks;
  std::pair<int64_t, int64_t> range = {INT64_MAX, -1};
  if (const auto* view = std::get_if<View>(&node.op)) {
    const int64_t first = view->offset_bytes / bytes_of(g.value(v).type);
    range = {first, first + element_count(g.value(node.outputs[0]).shape) - 1};
  } else if (const auto* move = std::get_if<Move>(&node.op)) {
    for (const CopyRegion& r : move->regions) {
      if (r.input < 0 || node.inputs[static_cast<size_t>(r.input)] != v) continue;
      const auto read = range_of(r.src_offset, r.extents, r.src_strides);
      range = {std::min(range.first, read.first), std::max(range.second, read.second)};
    }
  }
  return range.second >= range.first && range.first / block == range.second / block ? range.first / block : -1;
}

class Search {
 public:
  Search(const Graph& g, const Uses& uses, const std::vector<size_t>& run, const std::set<ValueId>& values, int64_t blocks, size_t limit)
      : g_(g), uses_(uses), run_(run.begin(), run.end()), values_(values), blocks_(blocks), first_(run.front()), last_(run.back()), limit_(limit) {}

  Followers run() {
    for (ValueId v : values_) look_behind(v);
    while (!left_.empty()) {
      const size_t n = *left_.begin();
      left_.erase(left_.begin());
      const Node& node = g_.nodes[n];
      const int64_t block = block_of(node);
      if (block >= 0) found_.list.push_back({n, block}), made_[node.outputs[0]] = block;
      else if (n < last_ && waits(node)) found_.tainted.insert(node.outputs.begin(), node.outputs.end());
      else continue;
      for (ValueId v : node.outputs) {
        if (look_behind(v)) return {};
      }
    }
    return std::move(found_);
  }

 private:
  /// Takes note of a value's readers; whether the run is one of them.
  bool look_behind(ValueId v) {
    bool run_reads = false;
    for (int r : uses_.readers[static_cast<size_t>(v)]) {
      const auto n = static_cast<size_t>(r);
      if (run_.count(n)) run_reads = true;
      else if (n > first_ && n < limit_) left_.insert(n);
    }
    return run_reads;
  }
  bool made_by_run(ValueId v) const {
    const int p = uses_.producer[static_cast<size_t>(v)];
    return p >= 0 && run_.count(static_cast<size_t>(p));
  }
  /// Whether the node reads what comes with the blocks or behind them.
  bool waits(const Node& node) const {
    return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return v != kNoValue && (made_.count(v) || found_.tainted.count(v) || made_by_run(v)); });
  }
  /// Behind which block the node may stand; -1: behind none.
  int64_t block_of(const Node& node) const {
    if (std::holds_alternative<OnnxOp>(node.op) || std::holds_alternative<Join>(node.op) || node.outputs.size() != 1) return -1;
    int64_t block = 0;
    std::set<int64_t> read;  // blocks, by itself
    for (ValueId v : node.inputs) {
      if (v == kNoValue) continue;
      const auto own = made_.find(v);
      if (values_.count(v)) read.insert(block_read(g_, node, v, blocks_));
      else if (own != made_.end()) block = std::max(block, own->second);
      else if (uses_.producer[static_cast<size_t>(v)] > static_cast<int>(last_) || made_by_run(v) || found_.tainted.count(v)) return -1;
    }
    if (read.empty()) return block;
    return read.size() == 1 && *read.begin() >= block ? *read.begin() : -1;  // just one is there at a time
  }

  const Graph& g_;
  const Uses& uses_;
  const std::set<size_t> run_;
  const std::set<ValueId>& values_;
  const int64_t blocks_;
  const size_t first_, last_, limit_;
  std::set<size_t> left_;            ///< to be looked at
  std::map<ValueId, int64_t> made_;  ///< by followers, behind which block
  Followers found_;
};

}  // namespace

Followers followers_of(const Graph& graph, const Uses& uses, const std::vector<size_t>& run, const std::set<ValueId>& values, int64_t blocks, size_t limit) {
  return Search(graph, uses, run, values, blocks, limit).run();
}

}  // namespace systole
