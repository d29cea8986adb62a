// Layers over a batch, depth first: where contractions and maps compute images i from images i of what the others made, some images go
// through all of them before the next ones. A batch's tensors do not fit the scratchpad, those of a few images do; for it weights pass
// once for every group of images. Products of single pixels may go in groups of rows as well, and hand on what others need too, which is copied
// out. Each element's arithmetic is what it was.
#include <algorithm>
#include <optional>
#include <set>

#include "passes/block_writer.h"
#include "passes/passes.h"
#include "passes/runs.h"

namespace systole {
namespace {

constexpr int64_t kMostBlocks = 512;
constexpr size_t kMostNodes = 96;  ///< of a run
constexpr size_t kMostApart = 16;  ///< nodes between two of them that are not part of it
constexpr size_t kMostApartWithCopies = 1024;  ///< a step's weight gradients, between two of its data gradients
constexpr size_t kMostApartFollowed = 4096;    ///< the same where they follow

/// Blocks, and what they save.
struct Run {
  Blocks blocks;
  int64_t saved_cost = 0;
};

/// Grows a run node by node from the one that it begins with.
class Growth {
 public:
  Growth(const Graph& g, const Uses& uses, const Machine& machine, const LayerBlocks& options) : g_(g), uses_(uses), machine_(machine), large_(machine.memory.scratchpad_bytes / 8), options_(options) {}

  bool begin(size_t n) {
    const Node& node = g_.nodes[n];
    const ValueId out = node.outputs.empty() ? kNoValue : node.outputs[0];
    if (out == kNoValue || bytes(out) < large_ || !(std::holds_alternative<Map>(node.op) || std::holds_alternative<Contract>(node.op))) return false;
    const Shape& shape = g_.value(out).shape;
    for (int64_t b = 2; b <= kMostBlocks; ++b) {
      if (Cut::possible(shape, b)) counts_.push_back(b);
    }
    return add(n);
  }

  /// Whether the run may go on behind this node, which it takes in if it can; not behind one that reads from it and is not part of it.
  bool take(size_t n) {
    const Node& node = g_.nodes[n];
    const bool reads = std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return made_.count(v) != 0; });
    if ((reads || shares(node)) && add(n)) return nodes_.size() < kMostNodes;
    const bool may_follow = options_.followed_block_bytes && (std::holds_alternative<View>(node.op) || std::holds_alternative<Move>(node.op));
    if (reads && may_follow) passed_.push_back(n);
    return (!reads || may_follow) && n - nodes_.back() <= (options_.followed_block_bytes ? kMostApartFollowed : most_apart());
  }

  size_t last() const { return nodes_.back(); }

  /// The run as it is now, with the number of blocks that saves most; nothing where it cannot end here or saves nothing.
  std::optional<Run> run() const {
    if (nodes_.size() < 3 || std::holds_alternative<View>(g_.nodes[nodes_.back()].op)) return {};
    const NodeSet inside(g_, uses_, nodes_);
    // Others may read what the run itself does not: the rest takes room until it is copied. Products are never whole: their drains go with them.
    const bool copies = options_.copies && pixel_by_pixel();
    const bool ends = std::all_of(nodes_.begin(), nodes_.end(), [&](size_t n) {
      const ValueId v = g_.nodes[n].outputs[0];
      return !inside.needed_outside(v) || (!is_contract(n) && (copies || inside.readers_inside(v) == 0));
    });
    std::optional<Run> best;
    for (int64_t b : ends ? counts_ : std::vector<int64_t>{}) {
      auto run = with_blocks(b, inside);
      if (run && run->saved_cost > (best ? best->saved_cost : 0)) best = std::move(run);
    }
    return best;
  }

 private:
  std::optional<Run> with_blocks(int64_t b, const NodeSet& inside) const {
    std::set<ValueId> shared = inside.shared_inputs(b, large_);
    const Followers followers = options_.followed_block_bytes && pixel_by_pixel() ? find_followers(b, shared) : Followers{};
    const bool followed = !followers.list.empty();
    if (!passes(followers) || (!followed && apart_ > most_apart())) return {};
    if (peak_bytes(inside, shared) / b + bytes_made(followers, 1) > (followed ? options_.followed_block_bytes : options_.block_bytes)) return {};
    int64_t before = 0, after = 0, slack = 0;
    std::set<ValueId> whole, brought;  // read so far, of contractions' outputs and shared values
    for (size_t n : nodes_) {
      if (is_contract(n) || std::holds_alternative<View>(g_.nodes[n].op)) continue;
      Step step = step_of(n, b, shared, brought, inside);
      for (ValueId v : g_.nodes[n].inputs) {
        const int p = v == kNoValue || !whole.insert(v).second ? -1 : uses_.producer[static_cast<size_t>(v)];
        if (p < 0 || !is_contract(static_cast<size_t>(p))) continue;
        const Step product = step_of(static_cast<size_t>(p), b, shared, brought, inside);
        step.array += product.array, step.before += product.before, step.after += product.after;
      }
      before += run_cost(machine_, step.array, step.before), after += run_cost(machine_, step.array, step.after) + b * options_.step_cycles;
      slack += std::max<int64_t>(0, dram_bound_cycles(machine_, step.after) - step.array);
    }
    add_followers(followers, shared, slack, before, after);
    if (before - after < before / 32) return {};
    return Run{{nodes_, b, std::move(shared), followers.tainted, followers.list}, before - after};
  }

  size_t most_apart() const { return options_.copies ? kMostApartWithCopies : kMostApart; }

  /// Whether all nodes that read of the run and are not part of it follow it.
  bool passes(const Followers& followers) const {
    return std::all_of(passed_.begin(), passed_.end(), [&](size_t n) {
      const auto at = std::lower_bound(followers.list.begin(), followers.list.end(), n, [](const Follower& f, size_t node) { return f.node < node; });
      return n > nodes_.back() || (at != followers.list.end() && at->node == n);
    });
  }
  /// If products are among them. All that the run reads of large values is brought in then.
  Followers find_followers(int64_t b, std::set<ValueId>& shared) const {
    std::set<ValueId> brought = shared;
    for (ValueId v : from_outside_) {
      if (bytes(v) >= large_ && std::all_of(nodes_.begin(), nodes_.end(), [&](size_t n) { return own_block(g_, g_.nodes[n], v, b); })) brought.insert(v);
    }
    std::set<ValueId> values = made_;
    values.insert(brought.begin(), brought.end());
    Followers f = followers_of(g_, uses_, nodes_, values, b, nodes_.back() + kMostApartFollowed);
    if (std::none_of(f.list.begin(), f.list.end(), [&](const Follower& o) { return is_contract(o.node); })) return {};
    shared = std::move(brought);
    return f;
  }
  /// They keep the array busy while DRAM has not delivered, `slack` cycles, and read nothing once more.
  void add_followers(const Followers& followers, const std::set<ValueId>& shared, int64_t slack, int64_t& before, int64_t& after) const {
    for (const Follower& f : followers.list) {
      const Node& node = g_.nodes[f.node];
      if (is_contract(f.node)) {
        const int64_t array = ideal_matrix_cycles(machine_, multiply_adds(g_, node), std::get<Contract>(node.op).format), hidden = std::min(array, slack);
        before += array, after += array - hidden + options_.step_cycles, slack -= hidden;
      } else if (made_.count(node.inputs[0]) || shared.count(node.inputs[0])) {
        before += run_cost(machine_, 0, bytes(node.outputs[0]));
      }
    }
  }
  /// By the followers of a block.
  int64_t bytes_made(const Followers& followers, int64_t block) const {
    int64_t sum = 0;
    for (const Follower& f : followers.list) {
      const Op& op = g_.nodes[f.node].op;
      if (f.block == block && !std::holds_alternative<Contract>(op) && !std::holds_alternative<View>(op)) sum += bytes(g_.nodes[f.node].outputs[0]);
    }
    return sum;
  }

  /// Cycles of the array, and bytes of DRAM's traffic without blocks and with them.
  struct Step {
    int64_t array = 0, before = 0, after = 0;
  };
  Step step_of(size_t n, int64_t b, const std::set<ValueId>& shared, std::set<ValueId>& brought, const NodeSet& inside) const {
    const Node& node = g_.nodes[n];
    const ValueId out = node.outputs[0];
    Step s;
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      const ValueId v = node.inputs[k];
      if (v == kNoValue || std::count(node.inputs.begin(), node.inputs.begin() + static_cast<std::ptrdiff_t>(k), v)) continue;  // once
      const int p = uses_.producer[static_cast<size_t>(v)];
      const bool weights = is_contract(n) && k == 1 && g_.value(v).shape[0] == 1;
      if (weights) s.before += bytes(v), s.after += bytes(v) * b;
      if (weights || bytes(v) < large_ || g_.value(v).constant || (p >= 0 && is_contract(static_cast<size_t>(p)))) continue;
      s.before += bytes(v);
      if (!made_.count(v) && (!shared.count(v) || brought.insert(v).second)) s.after += bytes(v);
    }
    if (is_contract(n)) {
      s.array = ideal_matrix_cycles(machine_, multiply_adds(g_, node), std::get<Contract>(node.op).format);
    } else if (bytes(out) >= large_) {
      s.before += bytes(out), s.after += inside.needed_outside(out) ? bytes(out) : 0;
    }
    return s;
  }

  /// Whether its contractions, several of them, make each pixel of one: in groups of rows, of which many fit.
  bool pixel_by_pixel() const {
    int64_t products = 0;
    for (size_t n : nodes_) {
      const auto* c = std::get_if<Contract>(&g_.nodes[n].op);
      if (c && (c->kernel_h != 1 || c->kernel_w != 1 || c->stride_h != 1 || c->stride_w != 1)) return false;
      products += c != nullptr;
    }
    return products > 1;
  }

  bool is_contract(size_t n) const { return std::holds_alternative<Contract>(g_.nodes[n].op); }
  int64_t bytes(ValueId v) const { return element_count(g_.value(v).shape) * bytes_of(g_.value(v).type); }

  /// A node that reads a large value from outside that the run reads too.
  bool shares(const Node& node) const {
    if (bytes(node.outputs[0]) < large_) return false;
    return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return v != kNoValue && from_outside_.count(v) && bytes(v) >= large_; });
  }

  bool add(size_t n) {
    const Node& node = g_.nodes[n];
    std::vector<int64_t> counts;
    std::copy_if(counts_.begin(), counts_.end(), std::back_inserter(counts), [&](int64_t b) { return suits(node, b); });
    if (counts.empty()) return false;
    counts_ = std::move(counts);
    if (!nodes_.empty()) apart_ = std::max(apart_, n - nodes_.back());
    nodes_.push_back(n), made_.insert(node.outputs[0]);
    for (ValueId v : node.inputs) {
      if (v != kNoValue && !made_.count(v) && !g_.value(v).constant) from_outside_.insert(v);
    }
    return true;
  }
  bool suits(const Node& node, int64_t blocks) const {
    const ValueId out = node.outputs[0];
    if (!Cut::possible(g_.value(out).shape, blocks)) return false;
    if (const auto* view = std::get_if<View>(&node.op)) return !view->offset_bytes && made_.count(node.inputs[0]) && bytes(node.inputs[0]) == bytes(out) && !uses_.readers[static_cast<size_t>(out)].empty();
    const bool contract = std::holds_alternative<Contract>(node.op);
    const bool move = std::holds_alternative<Move>(node.op);
    if (!contract && !move && !std::holds_alternative<Map>(node.op)) return false;
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      const ValueId v = node.inputs[k];
      if (v == kNoValue) continue;
      const int producer = uses_.producer[static_cast<size_t>(v)];
      const bool made = made_.count(v) != 0, of_images = move || (contract && (k == 0 || (k == 1 && g_.value(v).shape[0] > 1)));
      if (!made && producer >= 0 && std::holds_alternative<Contract>(g_.nodes[static_cast<size_t>(producer)].op)) return false;
      if (of_images && g_.value(v).constant) return false;
      if ((made || of_images) && !own_block(g_, node, v, blocks)) return false;
    }
    return true;
  }

  /// What lies in the scratchpad at once if the batch were one block.
  int64_t peak_bytes(const NodeSet& inside, const std::set<ValueId>& shared) const {
    std::vector<int64_t> change(nodes_.size() + 1, 0);
    const auto live = [&](ValueId v, size_t from) { change[from] += bytes(v), change[last_reader(v, from) + 1] -= bytes(v); };
    for (size_t i = 0; i < nodes_.size(); ++i) {
      const Node& node = g_.nodes[nodes_[i]];
      if (!std::holds_alternative<Contract>(node.op) && !std::holds_alternative<View>(node.op) && inside.readers_inside(node.outputs[0]) > 0) live(node.outputs[0], i);
    }
    for (ValueId v : shared) live(v, 0);  // brought in first
    int64_t peak = 0, now = 0;
    for (int64_t c : change) now += c, peak = std::max(peak, now);
    return peak;
  }
  /// Position in the run of the last node that reads the value, as it is or through views; `otherwise` where none does.
  size_t last_reader(ValueId v, size_t otherwise) const {
    size_t last = otherwise;
    for (int r : uses_.readers[static_cast<size_t>(v)]) {
      const auto at = std::lower_bound(nodes_.begin(), nodes_.end(), static_cast<size_t>(r));
      if (at == nodes_.end() || *at != static_cast<size_t>(r)) continue;
      const auto position = static_cast<size_t>(at - nodes_.begin());
      last = std::max(last, std::holds_alternative<View>(g_.nodes[*at].op) ? last_reader(g_.nodes[*at].outputs[0], position) : position);
    }
    return last;
  }

  const Graph& g_;
  const Uses& uses_;
  const Machine& machine_;
  const int64_t large_;
  const LayerBlocks& options_;
  std::vector<size_t> nodes_;
  size_t apart_ = 0;  ///< two of them that follow each other, at most
  std::vector<size_t> passed_;  ///< that read what the run makes, and have to follow it
  std::set<ValueId> made_, from_outside_;
  std::vector<int64_t> counts_;  ///< that suit all
};

}  // namespace

bool tile_layers(Graph& graph, const Machine& machine, const LayerBlocks& options) {
  const Uses uses(graph);
  const auto runs = best_runs<Run>(graph.nodes.size(), [&](size_t first, auto&& offer) {
    Growth growth(graph, uses, machine, options);
    if (!growth.begin(first)) return;
    for (size_t next = first + 1; next < graph.nodes.size() && growth.take(next); ++next) {
      if (auto run = growth.last() == next ? growth.run() : std::nullopt) offer(next, std::move(*run));
    }
  });
  size_t limit = graph.nodes.size();
  for (Run run : runs) {  // the last one first: what stands before it stays
    std::erase_if(run.blocks.followers, [&](const Follower& f) { return f.node >= limit; });
    limit = run.blocks.nodes.front();
    write_blocks(graph, uses, run.blocks);
  }
  return !runs.empty();
}

}  // namespace systole
