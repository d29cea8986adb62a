// Runs of maps over large tensors, in blocks: where each of them computes row i from row i of what the others made, a block of rows goes
// through all of them while it is in the scratchpad. Normalisations, activations and softmax, forward and backward, are such runs: a
// training step's tensors do not fit, and each map alone would pass them through DRAM. Each element's arithmetic is what it was.
#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "passes/blocks.h"
#include "passes/passes.h"

namespace systole {
namespace {

constexpr int64_t kMostBlocks = 2048;

/// A tensor cut into equal blocks along its leading dimensions, each contiguous.
struct Cut {
  Shape block;
  std::vector<size_t> dims;  ///< that are cut, outermost first; all but the last of them to 1

  /// Whether there is one: asked thousands of times for a map, of which few have an answer.
  static bool possible(const Shape& shape, int64_t blocks) {
    for (size_t d = 0; d < shape.size() && blocks > 1; ++d) {
      if (shape[d] % blocks == 0) return true;
      if (blocks % shape[d] != 0) return false;
      blocks /= shape[d];
    }
    return blocks == 1;
  }
  static std::optional<Cut> of(const Shape& shape, int64_t blocks) {
    if (!possible(shape, blocks)) return {};
    Cut c{shape, {}};
    for (size_t d = 0; d < shape.size() && blocks > 1; ++d) {
      if (shape[d] == 1) continue;
      c.dims.push_back(d);
      if (shape[d] % blocks == 0) c.block[d] = shape[d] / blocks, blocks = 1;
      else if (blocks % shape[d] == 0) c.block[d] = 1, blocks /= shape[d];
      else return {};
    }
    return blocks == 1 ? std::optional(c) : std::nullopt;
  }
  /// First index of a block along each dimension.
  std::vector<int64_t> start(const Shape& shape, int64_t number) const {
    std::vector<int64_t> at(shape.size(), 0);
    for (size_t i = dims.size(); i-- > 0;) {
      const int64_t count = shape[dims[i]] / block[dims[i]];
      at[dims[i]] = number % count * block[dims[i]], number /= count;
    }
    return at;
  }
};

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
    return {};
  }

  /// By others, as it is or through a view.
  bool needed_outside(const Chain& c, ValueId v) const {
    const auto& readers = uses_.readers[static_cast<size_t>(v)];
    return uses_.is_output[static_cast<size_t>(v)] || std::any_of(readers.begin(), readers.end(), [&](int r) {
             const Node& reader = g_.nodes[static_cast<size_t>(r)];
             return !std::count(c.nodes.begin(), c.nodes.end(), static_cast<size_t>(r)) || (std::holds_alternative<View>(reader.op) && needed_outside(c, reader.outputs[0]));
           });
  }
  int64_t readers_inside(const Chain& c, ValueId v) const {
    const auto& readers = uses_.readers[static_cast<size_t>(v)];
    return std::count_if(readers.begin(), readers.end(), [&](int r) { return std::count(c.nodes.begin(), c.nodes.end(), static_cast<size_t>(r)) != 0; });
  }
  /// Values from outside that several maps of the run read block by block.
  std::set<ValueId> shared_inputs(const Chain& c, int64_t blocks) const {
    std::set<ValueId> shared;
    for (size_t n : c.nodes) {
      const Node& node = g_.nodes[n];
      for (size_t k = 0; k < node.inputs.size(); ++k) {
        const ValueId v = node.inputs[k];
        if (c.made.count(v) || g_.value(v).constant || readers_inside(c, v) < 2 || bytes(v) < scratchpad_bytes_ / 8) continue;
        const bool all = std::all_of(c.nodes.begin(), c.nodes.end(), [&](size_t o) { return own_rows(g_.nodes[o], v, blocks); });
        if (all) shared.insert(v);
      }
    }
    return shared;
  }

 private:
  int64_t bytes(ValueId v) const { return element_count(g_.value(v).shape) * bytes_of(g_.value(v).type); }

  /// A map that reads a large value from outside that the run reads too, for which it would pass through DRAM twice.
  bool shares(const Chain& c, const Node& node) const {
    return std::holds_alternative<Map>(node.op) && bytes(node.outputs[0]) >= scratchpad_bytes_ / 8 && std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) {
      return !c.made.count(v) && !g_.value(v).constant && bytes(v) >= scratchpad_bytes_ / 8 && readers_inside(c, v) > 0;
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
    return Cut::possible(g_.value(node.outputs[0]).shape, blocks) && std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return !c.made.count(v) || own_rows(node, v, blocks); });
  }
  /// A block of the map's output reads the same block of `v`, if it reads it.
  bool own_rows(const Node& node, ValueId v, int64_t blocks) const {
    const auto* m = std::get_if<Map>(&node.op);
    if (!m) return !std::count(node.inputs.begin(), node.inputs.end(), v);
    const Shape &shape = g_.value(v).shape, &out = g_.value(node.outputs[0]).shape;
    const auto from = Cut::of(shape, blocks), to = Cut::of(out, blocks);
    if (!from || !to || from->dims.size() != to->dims.size()) return false;
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      if (node.inputs[k] != v) continue;
      const Access& a = m->accesses[k];
      if (a.guarded) return false;
      for (size_t d = 0; d < shape.size(); ++d) {
        const auto at = std::find(from->dims.begin(), from->dims.end(), d);
        const IndexExpr& e = a.index[d];
        if (at == from->dims.end()) {
          if (std::any_of(e.terms.begin(), e.terms.end(), [&](const IndexTerm& t) { return std::count(to->dims.begin(), to->dims.end(), static_cast<size_t>(t.loop)) != 0; })) return false;
          continue;
        }
        const size_t loop = to->dims[static_cast<size_t>(at - from->dims.begin())];
        if (e.offset || e.terms.size() != 1 || e.terms[0].coefficient != 1 || static_cast<size_t>(e.terms[0].loop) != loop || out[loop] != shape[d]) return false;
      }
    }
    return true;
  }

  /// Of DRAM's traffic, for values that cannot stay in the scratchpad.
  int64_t saved_bytes(const Chain& c) const {
    int64_t saved = 0;
    for (ValueId v : c.made) {
      const int p = uses_.producer[static_cast<size_t>(v)];
      if (std::holds_alternative<View>(g_.nodes[static_cast<size_t>(p)].op) || bytes(v) < scratchpad_bytes_ / 8) continue;
      saved += bytes(v) * (readers_inside(c, v) + (needed_outside(c, v) ? 0 : 1));
    }
    for (ValueId v : shared_inputs(c, c.counts.front())) saved += bytes(v) * (readers_inside(c, v) - 1);
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

class Tiler {
 public:
  Tiler(Graph& graph, const Finder& finder, const Chain& chain, int64_t blocks) : g_(graph), blocks_(blocks), shared_(finder.shared_inputs(chain, blocks)) {
    for (size_t n : chain.nodes) {
      const ValueId v = graph.nodes[n].outputs[0];
      if (!finder.needed_outside(chain, v)) continue;
      if (std::holds_alternative<View>(graph.nodes[n].op)) views_.push_back(graph.nodes[n]);
      else outside_[v] = finder.readers_inside(chain, v) > 0;
    }
  }

  std::vector<Node> run(const std::vector<Node>& chain) {
    std::map<ValueId, Node> joins;
    for (const auto& [v, inside] : outside_) joins[v] = {g_.value(v).name + ".join", Join{}, {}, {v}};
    for (number_ = 0; number_ < blocks_; ++number_) {
      part_.clear();
      for (ValueId v : shared_) part_[v] = copy(v, true);
      for (const Node& n : chain) std::holds_alternative<View>(n.op) ? view(n) : map(n);
      for (const auto& [v, inside] : outside_) joins[v].inputs.push_back(inside ? copy(v, false) : part_.at(v));
    }
    for (auto& [v, join] : joins) nodes_.push_back(std::move(join));
    std::move(views_.begin(), views_.end(), std::back_inserter(nodes_));
    return std::move(nodes_);
  }

 private:
  std::string name(const std::string& of) const { return of + "." + std::to_string(number_); }
  ValueId add(const std::string& of, ValueId like, Op op, std::vector<ValueId> inputs) {
    const Value was = g_.value(like);
    const ValueId v = g_.add_value(name(of), was.type, Cut::of(was.shape, blocks_)->block);
    nodes_.push_back({name(of), std::move(op), std::move(inputs), {v}});
    return v;
  }
  /// The block of a value from outside, brought in; or of one made here, for a Join.
  ValueId copy(ValueId v, bool in) {
    const Value was = g_.value(v);
    const Cut cut = *Cut::of(was.shape, blocks_);
    const auto strides = row_major_strides(cut.block);
    const int64_t offset = in ? number_ * element_count(cut.block) : 0;
    return add(was.name + (in ? ".in" : ".out"), v, Move{{{0, cut.block, offset, 0, strides, strides}}, 0}, {in ? v : part_.at(v)});
  }
  void view(const Node& n) { part_[n.outputs[0]] = add(n.name, n.outputs[0], View{}, {part_.at(n.inputs[0])}); }

  void map(const Node& n) {
    Map m = std::get<Map>(n.op);
    const Shape shape = g_.value(n.outputs[0]).shape;
    const Cut cut = *Cut::of(shape, blocks_);
    const auto start = cut.start(shape, number_);
    std::copy(cut.block.begin(), cut.block.end(), m.extents.begin());
    std::vector<ValueId> in = n.inputs;
    read_block(m, in, part_, start);
    part_[n.outputs[0]] = add(n.name, n.outputs[0], std::move(m), std::move(in));
  }

  Graph& g_;
  const int64_t blocks_;
  const std::set<ValueId> shared_;
  std::map<ValueId, bool> outside_;  ///< values that are needed outside: whether the run reads them too
  std::vector<Node> views_;          ///< of such values, that are needed outside themselves
  int64_t number_ = 0;
  std::map<ValueId, ValueId> part_;  ///< of this block
  std::vector<Node> nodes_;
};

/// Puts the blocks where the run was: before what depends on it, after what is between its nodes and does not.
void replace(Graph& g, const Chain& chain, std::vector<Node> blocks) {
  const std::set<size_t> gone(chain.nodes.begin(), chain.nodes.end());
  std::vector<Node> nodes, after;
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    const bool inside = i >= chain.nodes.front() && i <= chain.nodes.back();
    const bool depends = std::any_of(g.nodes[i].outputs.begin(), g.nodes[i].outputs.end(), [&](ValueId v) { return chain.tainted.count(v) != 0; });
    if (!gone.count(i)) (inside && depends ? after : nodes).push_back(std::move(g.nodes[i]));
    if (i != chain.nodes.back()) continue;
    for (auto* list : {&blocks, &after}) std::move(list->begin(), list->end(), std::back_inserter(nodes));
  }
  g.nodes = std::move(nodes);
}

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
    std::vector<Node> nodes;
    for (size_t i : chain.nodes) nodes.push_back(graph.nodes[i]);
    replace(graph, chain, Tiler(graph, *finder, chain, blocks).run(nodes));
    finder = std::make_unique<Finder>(graph, scratchpad_bytes);
    --n;  // what stood between the run's nodes stands here now
    tiled = true;
  }
  return tiled;
}

}  // namespace systole
