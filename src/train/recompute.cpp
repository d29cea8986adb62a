#include "train/recompute.h"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "base/error.h"

namespace systole {
namespace {

/// Floats between layers take two bytes; what counts is their proportion.
int64_t bytes_of_value(const Graph& g, ValueId v) { return g.value(v).constant ? 0 : element_count(g.value(v).shape) * 2; }

/// Whether the node's output is bytes of its input, in most cases: another shape, another order of axes, samples or rows of it.
bool is_view(const Graph& g, const Node& n) {
  const std::string& t = std::get<OnnxOp>(n.op).type;
  if (t != "Slice") return t == "Reshape" || t == "Transpose" || t == "Flatten" || t == "Squeeze" || t == "Unsqueeze" || t == "Identity";
  const TensorPtr axes = n.inputs.size() > 3 && n.inputs[3] != kNoValue ? g.value(n.inputs[3]).constant : nullptr;
  return axes && axes->count() == 1 && axes->int_at(0) == 0;
}

bool is_copy(const Node& n) {
  const std::string& t = std::get<OnnxOp>(n.op).type;
  return t == "Slice" || t == "Pad" || t == "Concat";
}

/// Values without bytes of their own, and whose they stand for: views, and copies that only another copy reads, which the compiler joins.
std::vector<size_t> roots(const Graph& g) {
  std::vector<int> readers(g.values.size(), 0), reader(g.values.size(), -1);
  for (size_t n = 0; n < g.nodes.size(); ++n) {
    for (ValueId v : g.nodes[n].inputs) {
      if (v != kNoValue) ++readers[static_cast<size_t>(v)], reader[static_cast<size_t>(v)] = static_cast<int>(n);
    }
  }
  const auto joins = [&](ValueId v) {
    while (readers[static_cast<size_t>(v)] == 1) {
      const Node& n = g.nodes[static_cast<size_t>(reader[static_cast<size_t>(v)])];
      if (is_copy(n)) return true;
      if (!is_view(g, n)) return false;
      v = n.outputs[0];
    }
    return false;
  };
  std::vector<size_t> root(g.values.size());
  for (size_t v = 0; v < root.size(); ++v) root[v] = v;
  for (const Node& n : g.nodes) {
    if (is_view(g, n) || (is_copy(n) && joins(n.outputs[0]))) root[static_cast<size_t>(n.outputs[0])] = root[static_cast<size_t>(n.inputs[0])];
  }
  return root;
}

/// Greatest total of values that live at once, in the order of the nodes.
int64_t live_bytes(const Graph& g) {
  const std::vector<size_t> root = roots(g);
  std::vector<size_t> last(g.values.size(), 0);
  for (size_t n = 0; n < g.nodes.size(); ++n) {
    for (ValueId v : g.nodes[n].inputs) {
      if (v != kNoValue) last[root[static_cast<size_t>(v)]] = n;
    }
  }
  for (ValueId v : g.outputs) last[root[static_cast<size_t>(v)]] = g.nodes.size();
  std::vector<int64_t> released(g.nodes.size() + 1, 0);
  int64_t now = 0, most = 0;
  for (size_t n = 0; n < g.nodes.size(); ++n) {
    for (ValueId v : g.nodes[n].outputs) {
      if (v == kNoValue || root[static_cast<size_t>(v)] != static_cast<size_t>(v)) continue;
      now += bytes_of_value(g, v);
      released[std::max(last[static_cast<size_t>(v)], n)] += bytes_of_value(g, v);
    }
    most = std::max(most, now);
    now -= released[n];
  }
  return most;
}

/// Behind every node of the forward pass in which paths meet (a residual sum, a concatenation) or pictures shrink (a pool).
std::vector<size_t> ends_of_blocks(const Graph& g, size_t forward) {
  std::vector<bool> made(g.values.size(), false);
  std::vector<size_t> cuts;
  for (size_t n = 0; n < forward; ++n) {
    const Node& node = g.nodes[n];
    for (ValueId v : node.outputs) {
      if (v != kNoValue) made[static_cast<size_t>(v)] = true;
    }
    const std::string& type = std::get<OnnxOp>(node.op).type;
    const auto whole = [&](ValueId v) { return v != kNoValue && made[static_cast<size_t>(v)] && g.value(v).shape == g.value(node.outputs[0]).shape; };
    const bool sum = type == "Add" && node.inputs.size() == 2 && whole(node.inputs[0]) && whole(node.inputs[1]);
    if (n > 0 && n + 1 < forward && (sum || type == "Concat" || type == "MaxPool" || type == "AveragePool")) cuts.push_back(n + 1);
  }
  return cuts;
}

/// Cuts where little lives across, near equal shares of the bytes that the forward pass makes: for so many segments.
std::vector<size_t> narrow_cuts(const Graph& g, size_t forward, int64_t count) {
  std::vector<size_t> last(g.values.size(), 0);
  for (size_t n = 0; n < forward; ++n) {
    for (ValueId v : g.nodes[n].inputs) {
      if (v != kNoValue) last[static_cast<size_t>(v)] = n;
    }
  }
  std::vector<int64_t> across(forward + 1, 0), made(forward + 1, 0);
  for (size_t n = 0; n < forward; ++n) {
    made[n + 1] = made[n];
    for (ValueId v : g.nodes[n].outputs) {
      if (v == kNoValue) continue;
      made[n + 1] += bytes_of_value(g, v);
      for (size_t at = n + 1; at <= last[static_cast<size_t>(v)]; ++at) across[at] += bytes_of_value(g, v);
    }
  }
  std::vector<size_t> cuts;
  for (int64_t s = 1; s < count; ++s) {
    const int64_t lo = made[forward] * (4 * s - 1) / (4 * count), hi = made[forward] * (4 * s + 1) / (4 * count);
    size_t best = 0;
    for (size_t n = cuts.empty() ? 1 : cuts.back() + 1; n < forward; ++n) {
      if (made[n] >= lo && made[n] <= hi && (best == 0 || across[n] < across[best])) best = n;
    }
    if (best) cuts.push_back(best);
  }
  return cuts;
}

class Segments {
 public:
  Segments(const Graph& graph, size_t forward, std::vector<size_t> cuts) : g_(graph), forward_(forward), cuts_(std::move(cuts)) {}

  Graph run(size_t& repeated) {
    segment_of_.assign(g_.values.size(), -1);
    for (size_t n = 0, s = 0; n < forward_; ++n) {
      while (s < cuts_.size() && n >= cuts_[s]) ++s;
      for (ValueId v : g_.nodes[n].outputs) {
        if (v != kNoValue) segment_of_[static_cast<size_t>(v)] = static_cast<int>(s), producer_[v] = n;
      }
    }
    keep_borders();
    Graph out = g_;
    out.nodes.assign(g_.nodes.begin(), g_.nodes.begin() + static_cast<long>(forward_));
    for (size_t n = forward_; n < g_.nodes.size(); ++n) {
      Node node = g_.nodes[n];
      for (ValueId& v : node.inputs) v = again(out, v);
      out.nodes.push_back(std::move(node));
    }
    repeated = out.nodes.size() - g_.nodes.size();
    return out;
  }

 private:
  /// Values that other segments of the forward pass, or the outside, read stay; so does all of the last segment.
  void keep_borders() {
    const int final_segment = segment_of_.empty() ? 0 : *std::max_element(segment_of_.begin(), segment_of_.end());
    for (size_t n = 0; n < forward_; ++n) {
      const auto made = std::find_if(g_.nodes[n].outputs.begin(), g_.nodes[n].outputs.end(), [](ValueId v) { return v != kNoValue; });
      if (made == g_.nodes[n].outputs.end()) continue;
      const int here = segment_of_[static_cast<size_t>(*made)];
      for (ValueId v : g_.nodes[n].inputs) {
        if (v != kNoValue && segment_of_[static_cast<size_t>(v)] >= 0 && segment_of_[static_cast<size_t>(v)] != here) kept_.insert(v);
      }
    }
    kept_.insert(g_.outputs.begin(), g_.outputs.end());
    for (size_t v = 0; v < segment_of_.size(); ++v) {
      if (segment_of_[v] == final_segment) kept_.insert(static_cast<ValueId>(v));
    }
  }

  /// The value as backward reads it: a border, or computed again, once.
  ValueId again(Graph& out, ValueId v) {
    if (v == kNoValue || static_cast<size_t>(v) >= segment_of_.size() || segment_of_[static_cast<size_t>(v)] < 0 || kept_.count(v)) return v;
    if (const auto found = copies_.find(v); found != copies_.end()) return found->second;
    Node node = g_.nodes[producer_.at(v)];
    for (ValueId& in : node.inputs) in = again(out, in);
    node.name += ".again";
    for (ValueId& made : node.outputs) {
      if (made == kNoValue) continue;
      Value copy = g_.value(made);
      copy.name += ".again";
      out.values.push_back(std::move(copy));
      copies_[made] = static_cast<ValueId>(out.values.size() - 1);
      made = copies_[made];
    }
    out.nodes.push_back(std::move(node));
    return copies_.at(v);
  }

  const Graph& g_;
  const size_t forward_;
  const std::vector<size_t> cuts_;
  std::vector<int> segment_of_;  ///< of the forward pass; -1: made elsewhere
  std::map<ValueId, size_t> producer_;
  std::set<ValueId> kept_;
  std::map<ValueId, ValueId> copies_;
};

}  // namespace

Recomputed recompute(Graph& graph, size_t forward_nodes, const RecomputeOptions& o) {
  if (o.mode != "none" && o.mode != "block" && o.mode != "full" && o.mode != "auto") fail(ErrorCode::kBadInput, "--recompute", "'" + o.mode + "'", "none, block, full or auto");
  if (o.mode == "auto" && o.budget_bytes < 1) fail(ErrorCode::kBadInput, "--recompute auto", "no budget", "--memory MIB");
  Recomputed best{1, 0, live_bytes(graph)};
  if (o.mode == "none" || (o.mode == "auto" && best.kept_bytes <= o.budget_bytes)) return best;
  const auto cut = [&](std::vector<size_t> cuts, Recomputed& r) {
    r.segments = std::ssize(cuts) + 1;
    Graph g = Segments(graph, forward_nodes, std::move(cuts)).run(r.nodes);
    r.kept_bytes = live_bytes(g);
    return g;
  };
  const std::vector<size_t> blocks = ends_of_blocks(graph, forward_nodes);
  if (o.mode == "block") {
    graph = cut(blocks, best);
    return best;
  }
  Graph chosen = graph;
  for (int64_t segments : {2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 0}) {  // at last by blocks
    Recomputed r;
    Graph candidate = cut(segments ? narrow_cuts(graph, forward_nodes, segments) : blocks, r);
    if (r.kept_bytes < best.kept_bytes) best = r, chosen = std::move(candidate);
    if (o.mode == "auto" && best.kept_bytes <= o.budget_bytes) break;
  }
  graph = std::move(chosen);
  return best;
}

}  // namespace systole
