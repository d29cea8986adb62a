// Runs of maps over large tensors, in blocks: where each of them computes row i from row i of what the others made, a block of rows goes
// through all of them while it is in the scratchpad. Normalisations, activations and softmax, forward and backward, are such runs: a
// training step's tensors do not fit, and each map alone would pass them through DRAM. Each element's arithmetic is what it was.
#include <algorithm>
#include <optional>
#include <set>

#include "passes/block_writer.h"
#include "passes/blocks.h"
#include "passes/passes.h"

namespace systole {
namespace {

constexpr int64_t kMostBlocks = 2048;

struct Chain {
  std::vector<size_t> nodes;  ///< maps and views, in order
  std::set<ValueId> made;
  std::set<ValueId> tainted;  ///< made from them by others
  std::vector<int64_t> counts;  ///< of blocks that suit all
};

class Finder {
 public:
  Finder(const Graph& g, int64_t scratchpad_bytes) : g_(g), uses_(g), scratchpad_bytes_(scratchpad_bytes) {}

  /// The run that begins with this node, if it is worth it: the number of blocks.
  std::optional<std::pair<Chain, int64_t>> from(size_t first) const {
    Chain c;
    for (int64_t n = 2; n <= kMostBlocks; ++n) c.counts.push_back(n);
    if (!add(c, first)) return {};
    for (size_t n = first + 1; n < g_.nodes.size() && !std::holds_alternative<Contract>(g_.nodes[n].op); ++n) {
      const Node& node = g_.nodes[n];
      const bool mixed = std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return c.tainted.count(v) != 0; });
      const bool reads = mixed || std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return c.made.count(v) != 0; });
      const bool joins = !mixed && (reads || shares(c, node)) && add(c, n);
      if (reads && !joins) c.tainted.insert(node.outputs.begin(), node.outputs.end());
    }
    while (!c.nodes.empty() && std::holds_alternative<View>(g_.nodes[c.nodes.back()].op)) c.made.erase(g_.nodes[c.nodes.back()].outputs[0]), c.nodes.pop_back();
    if (c.nodes.size() < 2 || saved_bytes(c) < scratchpad_bytes_ / 2) return {};
    const int64_t all = held_bytes(c);
    for (int64_t n : c.counts) {
      if (all / n <= scratchpad_bytes_ / 8) return std::pair(std::move(c), n);
    }
    const int64_t most = c.counts.back();  // sums over the rows of an image leave no smaller blocks
    if (all / most <= scratchpad_bytes_ * 3 / 8) return std::pair(std::move(c), most);
    return {};
  }

  const Uses& uses() const { return uses_; }
  /// Values from outside that several maps of the run read block by block.
  std::set<ValueId> shared_inputs(const Chain& c, int64_t blocks) const { return NodeSet(g_, uses_, c.nodes).shared_inputs(blocks, scratchpad_bytes_ / 8); }

 private:
  int64_t bytes(ValueId v) const { return element_count(g_.value(v).shape) * bytes_of(g_.value(v).type); }

  /// A map that reads a large value from outside that the run reads too, for which it would pass through DRAM twice.
  bool shares(const Chain& c, const Node& node) const {
    const NodeSet inside(g_, uses_, c.nodes);
    return std::holds_alternative<Map>(node.op) && bytes(node.outputs[0]) >= scratchpad_bytes_ / 8 && std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) {
      return !c.made.count(v) && !g_.value(v).constant && bytes(v) >= scratchpad_bytes_ / 8 && inside.readers_inside(v) > 0;
    });
  }

  bool add(Chain& c, size_t n) const {
    const Node& node = g_.nodes[n];
    std::vector<int64_t> counts;
    if (std::holds_alternative<Map>(node.op)) {
      if (reads_contract(g_, uses_, node)) return false;
      std::copy_if(c.counts.begin(), c.counts.end(), std::back_inserter(counts), [&](int64_t b) { return suits(c, node, b); });
    } else if (const auto* v = std::get_if<View>(&node.op); v && !v->offset_bytes && c.made.count(node.inputs[0]) && bytes(node.inputs[0]) == bytes(node.outputs[0]) && !uses_.readers[static_cast<size_t>(node.outputs[0])].empty()) {
      std::copy_if(c.counts.begin(), c.counts.end(), std::back_inserter(counts), [&](int64_t b) { return Cut::possible(g_.value(node.outputs[0]).shape, b); });
    }
    if (counts.empty()) return false;
    c.counts = std::move(counts);
    c.nodes.push_back(n), c.made.insert(node.outputs[0]);
    return true;
  }
  bool suits(const Chain& c, const Node& node, int64_t blocks) const {
    return Cut::possible(g_.value(node.outputs[0]).shape, blocks) && std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return !c.made.count(v) || own_block(g_, node, v, blocks); });
  }
  /// Of DRAM's traffic, for values that cannot stay in the scratchpad.
  int64_t saved_bytes(const Chain& c) const {
    int64_t saved = 0;
    const NodeSet inside(g_, uses_, c.nodes);
    for (ValueId v : c.made) {
      const int p = uses_.producer[static_cast<size_t>(v)];
      if (std::holds_alternative<View>(g_.nodes[static_cast<size_t>(p)].op) || bytes(v) < scratchpad_bytes_ / 8) continue;
      saved += bytes(v) * (inside.readers_inside(v) + (inside.needed_outside(v) ? 0 : 1));
    }
    for (ValueId v : shared_inputs(c, c.counts.front())) saved += bytes(v) * (inside.readers_inside(v) - 1);
    return saved;
  }
  int64_t held_bytes(const Chain& c) const {
    int64_t all = 0;
    for (ValueId v : c.made) all += std::holds_alternative<View>(g_.nodes[static_cast<size_t>(uses_.producer[static_cast<size_t>(v)])].op) ? 0 : bytes(v);
    for (ValueId v : shared_inputs(c, c.counts.front())) all += bytes(v);
    return all;
  }

  const Graph& g_;
  const Uses uses_;
  const int64_t scratchpad_bytes_;
};

}  // namespace

bool tile_maps(Graph& graph, int64_t scratchpad_bytes) {
  bool tiled = false;
  const size_t whole = graph.values.size();  // values behind are blocks
  auto finder = std::make_unique<Finder>(graph, scratchpad_bytes);
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const bool begins = std::holds_alternative<Map>(graph.nodes[n].op) && static_cast<size_t>(graph.nodes[n].outputs[0]) < whole;
    const auto found = begins ? finder->from(n) : std::nullopt;
    if (!found) continue;
    const auto& [chain, blocks] = *found;
    write_blocks(graph, finder->uses(), {chain.nodes, blocks, finder->shared_inputs(chain, blocks), chain.tainted});
    finder = std::make_unique<Finder>(graph, scratchpad_bytes);
    --n;  // what stood between the run's nodes stands here now
    tiled = true;
  }
  return tiled;
}

}  // namespace systole
