// Products of images by images (attention's heads, forward and backward) with the maps and moves around them, in groups of images: scores
// and weights of one sequence stay in the scratchpad between the products, where those of a batch go through DRAM after each. What others
// need, as a training step needs the weights, is copied out on the way. Each element's arithmetic is what it was.
#include <algorithm>
#include <optional>
#include <set>

#include "passes/block_writer.h"
#include "passes/passes.h"

namespace systole {
namespace {

constexpr int64_t kMostBlocks = 128;
constexpr size_t kMostApart = 16;  ///< nodes between two of a run that are not part of it
constexpr size_t kLookBack = 64;   ///< nodes before the first product among which its operands are brought into place

/// A run of nodes around such products.
class Run {
 public:
  Run(const Graph& g, const Uses& uses, int64_t scratchpad_bytes) : g_(g), uses_(uses), scratchpad_bytes_(scratchpad_bytes) {}

  /// The run that begins with this product, if it is worth it.
  std::optional<Blocks> from(size_t first) {
    if (!is_product(first)) return {};
    for (int64_t b = 2; b <= kMostBlocks; ++b) counts_.push_back(b);
    if (!add(first)) return {};
    for (size_t n = first + 1, last = first; n < g_.nodes.size() && n - last <= kMostApart; ++n) {
      const Node& node = g_.nodes[n];
      const bool mixed = reads(node, tainted_), reads_made = reads(node, made_);
      if ((reads_made || is_product(n)) && !mixed && add(n)) last = n;
      else if (reads_made || mixed) tainted_.insert(node.outputs.begin(), node.outputs.end());
    }
    end_with_product();
    bring_operands(first);
    return blocks();
  }

 private:
  bool is_product(size_t n) const {
    const Node& node = g_.nodes[n];
    return std::holds_alternative<Contract>(node.op) && g_.value(node.inputs[1]).shape[0] > 1 && !g_.value(node.inputs[0]).constant && !g_.value(node.inputs[1]).constant;
  }
  int64_t bytes(ValueId v) const { return element_count(g_.value(v).shape) * bytes_of(g_.value(v).type); }
  static bool reads(const Node& node, const std::set<ValueId>& values) {
    return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return values.count(v) != 0; });
  }

  bool suits(const Node& node, int64_t blocks) const {
    const ValueId out = node.outputs[0];
    if (!Cut::possible(g_.value(out).shape, blocks)) return false;
    const bool images = !std::holds_alternative<Map>(node.op);  // read by maps alone, a value may be the same for all
    return std::holds_alternative<View>(node.op) || std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return v == kNoValue || (!images && !made_.count(v)) || own_block(g_, node, v, blocks); });
  }
  bool add(size_t n) {
    const Node& node = g_.nodes[n];
    if (const auto* view = std::get_if<View>(&node.op)) {
      if (view->offset_bytes || bytes(node.inputs[0]) != bytes(node.outputs[0])) return false;
    } else if (std::holds_alternative<Contract>(node.op) ? !is_product(n) || node.inputs.size() > 2 : !std::holds_alternative<Map>(node.op) && !std::holds_alternative<Move>(node.op)) {
      return false;
    }
    std::vector<int64_t> counts;
    std::copy_if(counts_.begin(), counts_.end(), std::back_inserter(counts), [&](int64_t b) { return suits(node, b); });
    if (counts.empty()) return false;
    counts_ = std::move(counts);
    nodes_.insert(n), made_.insert(node.outputs[0]);
    return true;
  }

  /// Behind the last product only its drain stays, and moves and views of that.
  void end_with_product() {
    const auto last = std::find_if(nodes_.rbegin(), nodes_.rend(), [&](size_t n) { return is_product(n); });
    bool drained = false;
    for (auto it = last.base(); it != nodes_.end();) {
      const bool stays = !std::holds_alternative<Map>(g_.nodes[*it].op) || !std::exchange(drained, true);
      const ValueId out = g_.nodes[*it].outputs[0];
      const bool reads_dropped = reads(g_.nodes[*it], tainted_);
      if (stays && !reads_dropped) ++it;
      else made_.erase(out), tainted_.insert(out), it = nodes_.erase(it);
    }
  }

  /// Moves and views that only the run reads become part of it.
  void bring_operands(size_t first) {
    for (size_t n = *nodes_.rbegin(), end = first < kLookBack ? 0 : first - kLookBack; n-- > end;) {
      const Node& node = g_.nodes[n];
      if (nodes_.count(n) || std::holds_alternative<Map>(node.op) || std::holds_alternative<Contract>(node.op) || reads(node, tainted_)) continue;
      const auto& readers = uses_.readers[static_cast<size_t>(node.outputs[0])];
      if (uses_.is_output[static_cast<size_t>(node.outputs[0])] || readers.empty() || !std::all_of(readers.begin(), readers.end(), [&](int r) { return nodes_.count(static_cast<size_t>(r)) != 0; })) continue;
      const auto counts = counts_;
      if (!add(n)) continue;
      std::erase_if(counts_, [&](int64_t b) {  // maps, too, have to read their own images of what is made here
        return std::any_of(readers.begin(), readers.end(), [&](int r) {
          const Node& reader = g_.nodes[static_cast<size_t>(r)];
          return !std::holds_alternative<View>(reader.op) && !own_block(g_, reader, node.outputs[0], b);
        });
      });
      if (counts_.empty()) counts_ = counts, nodes_.erase(n), made_.erase(node.outputs[0]);
    }
    // So does one at the end to whoever reads it, and what it shows is made in its place.
    for (bool again = true; again;) {
      again = false;
      const NodeSet inside(g_, uses_, {nodes_.begin(), nodes_.end()});
      for (size_t n : std::vector<size_t>(nodes_.begin(), nodes_.end())) {
        if (!std::holds_alternative<View>(g_.nodes[n].op) || inside.readers_inside(g_.nodes[n].outputs[0])) continue;
        made_.erase(g_.nodes[n].outputs[0]), tainted_.insert(g_.nodes[n].outputs[0]), nodes_.erase(n), again = true;
      }
    }
    // A view at the beginning belongs to whoever made what it shows.
    while (!nodes_.empty() && std::holds_alternative<View>(g_.nodes[*nodes_.begin()].op) && !made_.count(g_.nodes[*nodes_.begin()].inputs[0])) made_.erase(g_.nodes[*nodes_.begin()].outputs[0]), nodes_.erase(nodes_.begin());
  }

  std::optional<Blocks> blocks() const {
    Blocks b{{nodes_.begin(), nodes_.end()}, 1, {}, tainted_};
    const NodeSet inside(g_, uses_, b.nodes);
    size_t products = 0;
    int64_t held = 0, kept = 0;
    for (size_t n : b.nodes) {
      const ValueId v = g_.nodes[n].outputs[0];
      if (is_product(n)) {
        if (inside.needed_outside(v)) return {};
        ++products;
      } else if (std::holds_alternative<Map>(g_.nodes[n].op)) {
        held += bytes(v), kept += inside.readers_inside(v) ? bytes(v) : 0;
      }
    }
    if (products < 2 || kept < scratchpad_bytes_ / 2) return {};
    for (int64_t count : counts_) {
      b.shared = inside.shared_inputs(count, scratchpad_bytes_ / 8);
      int64_t all = held;
      for (ValueId v : b.shared) all += bytes(v);
      const int64_t share = count == counts_.back() ? 2 : 4;  // of the scratchpad, the smaller where there is a choice
      if (b.count = count; all / count <= scratchpad_bytes_ / share) return b;
    }
    return {};
  }

  const Graph& g_;
  const Uses& uses_;
  const int64_t scratchpad_bytes_;
  std::set<size_t> nodes_;
  std::set<ValueId> made_, tainted_;  ///< tainted: made from what the run makes, by others
  std::vector<int64_t> counts_;       ///< of blocks that suit all
};

}  // namespace

bool tile_heads(Graph& graph, int64_t scratchpad_bytes) {
  bool tiled = false;
  auto uses = std::make_unique<Uses>(graph);
  const size_t whole = graph.values.size();  // values behind are blocks
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    if (!std::holds_alternative<Contract>(graph.nodes[n].op) || static_cast<size_t>(graph.nodes[n].outputs[0]) >= whole) continue;
    const auto blocks = Run(graph, *uses, scratchpad_bytes).from(n);
    if (!blocks) continue;
    write_blocks(graph, *uses, *blocks);
    uses = std::make_unique<Uses>(graph);
    tiled = true;
  }
  return tiled;
}

}  // namespace systole
