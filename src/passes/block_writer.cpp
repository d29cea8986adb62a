#include "passes/block_writer.h"

#include <algorithm>

#include "passes/blocks.h"

namespace systole {
namespace {

bool map_takes_own_block(const Graph& g, const Node& node, ValueId v, const Cut& from, const Cut& to) {
  const Shape &shape = g.value(v).shape, &out = g.value(node.outputs[0]).shape;
  for (size_t k = 0; k < node.inputs.size(); ++k) {
    if (node.inputs[k] != v) continue;
    const Access& a = std::get<Map>(node.op).accesses[k];
    for (size_t d = 0; d < shape.size(); ++d) {
      const auto at = std::find(from.dims.begin(), from.dims.end(), d);
      const IndexExpr& e = a.index[d];
      if (at == from.dims.end()) {
        if (std::any_of(e.terms.begin(), e.terms.end(), [&](const IndexTerm& t) { return std::count(to.dims.begin(), to.dims.end(), static_cast<size_t>(t.loop)) != 0; })) return false;
        continue;
      }
      const size_t loop = to.dims[static_cast<size_t>(at - from.dims.begin())];
      if (e.offset || e.terms.size() != 1 || e.terms[0].coefficient != 1 || static_cast<size_t>(e.terms[0].loop) != loop || out[loop] != shape[d]) return false;
    }
  }
  return true;
}

/// A's images, or its rows where kernels have one tap; B has one matrix for all of them, or one per image.
bool contract_takes_own_block(const Graph& g, const Node& node, ValueId v, const Cut& from, const Cut& to) {
  const auto& c = std::get<Contract>(node.op);
  const Shape &a = g.value(node.inputs[0]).shape, &b = g.value(node.inputs[1]).shape, &out = g.value(node.outputs[0]).shape;
  for (size_t k = 1; k < node.inputs.size(); ++k) {
    if (node.inputs[k] == v && (k > 1 || b[0] != a[0] || from.dims != std::vector<size_t>{0})) return false;
  }
  if (from.dims != to.dims) return false;
  const bool whole[] = {true, c.kernel_h == 1 && c.stride_h == 1 && c.pad_top == 0 && a[1] == out[1], c.kernel_w == 1 && c.stride_w == 1 && c.pad_left == 0 && a[2] == out[2], false};
  return std::all_of(from.dims.begin(), from.dims.end(), [&](size_t d) { return whole[d] && (d == 0 || b[0] == 1); });
}

/// The move of the first block, where each block of the output is made of the same block of every input.
std::optional<Move> first_block(const Graph& g, const Node& node, int64_t blocks) {
  Move move = std::get<Move>(node.op);
  const auto size = [&](ValueId v) { return element_count(g.value(v).shape) / blocks; };
  const int64_t out = size(node.outputs[0]);
  for (CopyRegion& r : move.regions) {
    const int64_t in = r.input < 0 ? 0 : size(node.inputs[static_cast<size_t>(r.input)]);
    const auto cuts = [&](size_t d) {
      const int64_t step = r.extents[d] / blocks;
      return r.extents[d] % blocks == 0 && r.dst_strides[d] * step == out && (r.input < 0 || r.src_strides[d] * step == in);
    };
    size_t d = 0;
    while (d < r.extents.size() && !cuts(d)) ++d;
    if (d == r.extents.size()) return {};
    r.extents[d] /= blocks;
    const auto to = range_of(r.dst_offset, r.extents, r.dst_strides), from = range_of(r.src_offset, r.extents, r.src_strides);
    if (to.first < 0 || to.second >= out || (r.input >= 0 && (from.first < 0 || from.second >= in))) return {};
  }
  return move;
}

}  // namespace

bool Cut::possible(const Shape& shape, int64_t blocks) {
  for (size_t d = 0; d < shape.size() && blocks > 1; ++d) {
    if (shape[d] % blocks == 0) return true;
    if (blocks % shape[d] != 0) return false;
    blocks /= shape[d];
  }
  return blocks == 1;
}

std::optional<Cut> Cut::of(const Shape& shape, int64_t blocks) {
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

std::vector<int64_t> Cut::start(const Shape& shape, int64_t number) const {
  std::vector<int64_t> at(shape.size(), 0);
  for (size_t i = dims.size(); i-- > 0;) {
    const int64_t count = shape[dims[i]] / block[dims[i]];
    at[dims[i]] = number % count * block[dims[i]], number /= count;
  }
  return at;
}

bool own_block(const Graph& graph, const Node& node, ValueId v, int64_t blocks) {
  if (!std::count(node.inputs.begin(), node.inputs.end(), v)) return true;
  if (std::holds_alternative<Move>(node.op)) return Cut::possible(graph.value(v).shape, blocks) && first_block(graph, node, blocks).has_value();
  const bool map = std::holds_alternative<Map>(node.op);
  if (!map && !std::holds_alternative<Contract>(node.op)) return false;
  const auto from = Cut::of(graph.value(v).shape, blocks), to = Cut::of(graph.value(node.outputs[0]).shape, blocks);
  if (!from || !to || from->dims.size() != to->dims.size()) return false;
  return (map ? map_takes_own_block : contract_takes_own_block)(graph, node, v, *from, *to);
}

bool NodeSet::needed_outside(ValueId v) const {
  const auto& readers = uses_.readers[static_cast<size_t>(v)];
  return uses_.is_output[static_cast<size_t>(v)] || std::any_of(readers.begin(), readers.end(), [&](int r) {
           const Node& reader = g_.nodes[static_cast<size_t>(r)];
           return !has(static_cast<size_t>(r)) || (std::holds_alternative<View>(reader.op) && needed_outside(reader.outputs[0]));
         });
}

int64_t NodeSet::readers_inside(ValueId v) const {
  const auto& readers = uses_.readers[static_cast<size_t>(v)];
  return std::count_if(readers.begin(), readers.end(), [&](int r) { return has(static_cast<size_t>(r)); });
}

std::set<ValueId> NodeSet::shared_inputs(int64_t blocks, int64_t least_bytes) const {
  std::set<ValueId> shared, seen;
  for (size_t n : nodes_) {
    for (ValueId v : g_.nodes[n].inputs) {
      if (v == kNoValue || !seen.insert(v).second || g_.value(v).constant || element_count(g_.value(v).shape) * bytes_of(g_.value(v).type) < least_bytes) continue;
      const int producer = uses_.producer[static_cast<size_t>(v)];
      if ((producer >= 0 && has(static_cast<size_t>(producer))) || readers_inside(v) < 2) continue;
      if (std::all_of(nodes_.begin(), nodes_.end(), [&](size_t o) { return own_block(g_, g_.nodes[o], v, blocks); })) shared.insert(v);
    }
  }
  return shared;
}

namespace {

class Writer {
 public:
  Writer(Graph& graph, const Uses& uses, const Blocks& blocks) : g_(graph), blocks_(blocks), inside_(graph, uses, all_nodes(blocks)) {
    for (const Follower& f : blocks.followers) followers_[f.block].push_back(graph.nodes[f.node]);
    for (size_t n : blocks.nodes) {
      const Node& node = graph.nodes[n];
      chain_.push_back(node);
      const ValueId v = node.outputs[0];
      if (!inside_.needed_outside(v)) continue;
      if (std::holds_alternative<View>(node.op)) views_.push_back(node);
      else joins_[v] = {g_.value(v).name + ".join", Join{}, {}, {v}};
    }
  }

  std::vector<Node> run() {
    const bool early = !blocks_.followers.empty();
    if (early) bring_weights();
    for (number_ = 0; number_ < blocks_.count; ++number_) {
      part_ = number_ > 0 && early ? std::move(next_) : brought_in(number_);
      seen_.clear();
      follow_what_came();
      if (early && number_ + 1 < blocks_.count) next_ = brought_in(number_ + 1);  // while this one is computed
      for (const Node& n : chain_) {
        write(n);
        const auto join = joins_.find(n.outputs[0]);
        // A copy leaves as soon as there is something to be copied.
        if (join != joins_.end()) join->second.inputs.push_back(inside_.readers_inside(join->first) > 0 ? copy_out(join->first) : part_.at(join->first));
      }
      for (const Node& n : followers_[number_]) follow(n);
    }
    for (auto& [v, join] : joins_) nodes_.push_back(std::move(join));
    std::move(views_.begin(), views_.end(), std::back_inserter(nodes_));
    return std::move(nodes_);
  }

 private:
  static std::vector<size_t> all_nodes(const Blocks& blocks) {
    std::vector<size_t> nodes = blocks.nodes;
    for (const Follower& f : blocks.followers) nodes.push_back(f.node);
    return nodes;
  }
  ValueId add(const std::string& of, ValueId like, Op op, std::vector<ValueId> inputs, int64_t number) {
    const Value was = g_.value(like);
    return add_node(of + "." + std::to_string(number), was.type, Cut::of(was.shape, blocks_.count)->block, std::move(op), std::move(inputs));
  }
  ValueId add_node(std::string name, DType type, Shape shape, Op op, std::vector<ValueId> inputs) {
    const ValueId v = g_.add_value(name, type, std::move(shape));
    nodes_.push_back({std::move(name), std::move(op), std::move(inputs), {v}});
    return v;
  }
  int64_t block_elements(ValueId v) const { return element_count(g_.value(v).shape) / blocks_.count; }
  int64_t block_bytes(ValueId v) const { return block_elements(v) * bytes_of(g_.value(v).type); }
  static Move whole(const Shape& shape, int64_t from) {
    const auto strides = row_major_strides(shape);
    return {{{0, shape, from, 0, strides, strides}}, 0};
  }
  /// These blocks of values from outside.
  std::map<ValueId, ValueId> brought_in(int64_t number) {
    std::map<ValueId, ValueId> parts;
    for (ValueId v : blocks_.shared) parts[v] = add(g_.value(v).name + ".in", v, whole(Cut::of(g_.value(v).shape, blocks_.count)->block, number * block_elements(v)), {v}, number);
    return parts;
  }
  /// The block of a value made here, for a Join.
  ValueId copy_out(ValueId v) { return add(g_.value(v).name + ".out", v, whole(Cut::of(g_.value(v).shape, blocks_.count)->block, 0), {part_.at(v)}, number_); }
  /// Weights of the run's products, once for all blocks, where they are few.
  void bring_weights() {
    constexpr int64_t kFewBytes = 128 << 10;
    for (Node& n : chain_) {
      if (!std::holds_alternative<Contract>(n.op)) continue;
      const Value w = g_.value(n.inputs[1]);
      if (w.constant || w.shape[0] > 1 || element_count(w.shape) * bytes_of(w.type) > kFewBytes) continue;
      n.inputs[1] = add_node(w.name + ".in", w.type, w.shape, whole(w.shape, 0), {n.inputs[1]});
    }
  }
  /// The block that a contraction or move reads: made here, or where it lies in the whole.
  ValueId operand(ValueId v) {
    if (const auto own = part_.find(v); own != part_.end()) return own->second;
    const auto [at, is_new] = seen_.try_emplace(v, kNoValue);
    if (is_new) at->second = add(g_.value(v).name + ".seen", v, View{number_ * block_bytes(v)}, {v}, number_);
    return at->second;
  }

  void write(const Node& n) {
    Op op = n.op;
    std::vector<ValueId> in = n.inputs;
    if (auto* map = std::get_if<Map>(&op)) {
      const Shape& shape = g_.value(n.outputs[0]).shape;
      const Cut cut = *Cut::of(shape, blocks_.count);
      std::copy(cut.block.begin(), cut.block.end(), map->extents.begin());
      read_block(*map, in, part_, cut.start(shape, number_));
    } else if (std::holds_alternative<Contract>(op)) {
      in[0] = operand(in[0]);
      if (g_.value(in[1]).shape[0] > 1) in[1] = operand(in[1]);
    } else {
      if (std::holds_alternative<Move>(op)) op = *first_block(g_, n, blocks_.count);
      for (ValueId& v : in) v = operand(v);
    }
    part_[n.outputs[0]] = add(n.name, n.outputs[0], std::move(op), std::move(in), number_);
  }

  /// Those followers that show or turn what was brought in: before the block is computed.
  void follow_what_came() {
    std::set<ValueId> there;
    std::erase_if(followers_[number_], [&](const Node& n) {
      const bool copies = std::holds_alternative<View>(n.op) || std::holds_alternative<Move>(n.op);
      if (!copies || !std::all_of(n.inputs.begin(), n.inputs.end(), [&](ValueId v) { return part_.count(v) || there.count(v); })) return false;
      there.insert(n.outputs[0]);
      follow(n);
      return true;
    });
  }
  /// A follower is what it was, but for where its block lies.
  void follow(Node n) {
    for (size_t k = 0; k < n.inputs.size(); ++k) {
      const ValueId v = n.inputs[k];
      const auto own = part_.find(v);
      if (own == part_.end()) continue;
      n.inputs[k] = own->second;
      if (auto* view = std::get_if<View>(&n.op)) view->offset_bytes -= number_ * block_bytes(v);
      else for (CopyRegion& r : std::get<Move>(n.op).regions) r.src_offset -= r.input == static_cast<int>(k) ? number_ * block_elements(v) : 0;
    }
    nodes_.push_back(std::move(n));
  }

  Graph& g_;
  const Blocks& blocks_;
  const NodeSet inside_;
  std::vector<Node> chain_;
  std::map<int64_t, std::vector<Node>> followers_;  ///< by block
  std::map<ValueId, Node> joins_;    ///< of values that are needed outside
  std::vector<Node> views_;          ///< of such values, that are needed outside themselves
  int64_t number_ = 0;
  std::map<ValueId, ValueId> next_;         ///< brought in for the next block
  std::map<ValueId, ValueId> part_, seen_;  ///< of this block: made or brought in; where it lies in a value from outside
  std::vector<Node> nodes_;
};

}  // namespace

void write_blocks(Graph& graph, const Uses& uses, const Blocks& blocks) {
  std::vector<Node> written = Writer(graph, uses, blocks).run();
  std::set<size_t> gone(blocks.nodes.begin(), blocks.nodes.end());
  for (const Follower& f : blocks.followers) gone.insert(f.node);
  std::vector<Node> nodes, after;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const bool inside = i >= blocks.nodes.front() && i <= blocks.nodes.back();
    const bool depends = std::any_of(graph.nodes[i].outputs.begin(), graph.nodes[i].outputs.end(), [&](ValueId v) { return blocks.tainted.count(v) != 0; });
    if (!gone.count(i)) (inside && depends ? after : nodes).push_back(std::move(graph.nodes[i]));
    if (i != blocks.nodes.back()) continue;
    for (auto* list : {&written, &after}) std::move(list->begin(), list->end(), std::back_inserter(nodes));
  }
  graph.nodes = std::move(nodes);
}

}  // namespace systole
