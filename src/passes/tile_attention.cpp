// Attention whose scores do not fit the scratchpad, in blocks: contract - maps - contract over [images, 1, rows, columns] becomes
// one such chain per image and block of rows, so that scores and weights stay on chip. Each row's arithmetic is what it was.
#include <algorithm>
#include <map>
#include <optional>

#include "passes/blocks.h"
#include "passes/passes.h"

namespace systole {
namespace {

/// A value of a chain: its dimensions before `row` number the images, `row` the rows.
struct Layout {
  size_t row = 0;
};

struct Chain {
  size_t first = 0, second = 0, last = 0;  ///< nodes: the contracts, and the map that drains the second
  std::vector<size_t> between;             ///< maps and views, in order
  std::map<ValueId, Layout> layouts;       ///< of every value made inside
  int64_t images = 1, rows = 1, row_bytes = 0;  ///< bytes that one row takes in all values between
};

class Finder {
 public:
  explicit Finder(const Graph& g) : g_(g), uses_(g) {}

  std::optional<Chain> from(size_t first) const {
    const auto* c = contract_at(first);
    if (!c) return {};
    Chain chain;
    const Shape& a = g_.value(g_.nodes[first].inputs[0]).shape;
    chain.first = first, chain.images = a[0], chain.rows = a[2];
    if (a[1] != 1 || chain.rows < 2 || g_.value(g_.nodes[first].inputs[0]).constant) return {};
    chain.layouts[g_.nodes[first].outputs[0]] = {2};
    for (size_t n = first + 1; n < g_.nodes.size(); ++n) {
      const Node& node = g_.nodes[n];
      const bool reads = std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return chain.layouts.count(v) != 0; });
      if (!reads) continue;
      if (std::holds_alternative<Contract>(node.op)) return finish(std::move(chain), n);
      const auto row = std::holds_alternative<View>(node.op) ? through_view(chain, node) : std::holds_alternative<Map>(node.op) ? through_map(chain, node) : std::nullopt;
      if (!row) return {};
      chain.between.push_back(n);
      add(chain, node.outputs[0], *row);
    }
    return {};
  }

 private:
  const Contract* contract_at(size_t n) const {
    const auto* c = std::get_if<Contract>(&g_.nodes[n].op);
    if (!c || c->kernel_h * c->kernel_w != 1 || c->groups != 1 || c->depthwise || c->group_rows || c->stride_h != 1 || c->stride_w != 1 || c->pad_top || c->pad_left) return nullptr;
    const Value& b = g_.value(g_.nodes[n].inputs[1]);
    return b.shape[0] == 1 || !b.constant ? c : nullptr;
  }

  void add(Chain& chain, ValueId v, size_t row) const {
    chain.layouts[v] = {row};
    if (!std::holds_alternative<View>(g_.nodes[static_cast<size_t>(uses_.producer[static_cast<size_t>(v)])].op)) chain.row_bytes += element_count(g_.value(v).shape) * bytes_of(g_.value(v).type) / (chain.images * chain.rows);
  }

  /// The second contract, its drain, and nothing of the chain read elsewhere.
  std::optional<Chain> finish(Chain chain, size_t second) const {
    const Node& node = g_.nodes[second];
    if (!contract_at(second) || !chain.layouts.count(node.inputs[0]) || chain.layouts.count(node.inputs[1]) || chain.layouts.at(node.inputs[0]).row != 2) return {};
    const auto& readers = uses_.readers[static_cast<size_t>(node.outputs[0])];
    if (readers.size() != 1) return {};
    chain.second = second, chain.last = static_cast<size_t>(readers[0]);
    const auto* drain = std::get_if<Map>(&g_.nodes[chain.last].op);
    if (!drain || drain->reduced || g_.value(g_.nodes[chain.last].outputs[0]).shape != g_.value(node.outputs[0]).shape) return {};
    chain.layouts[node.outputs[0]] = {2};
    if (through_map(chain, g_.nodes[chain.last]) != std::optional<size_t>(2)) return {};
    for (const auto& [v, layout] : chain.layouts) {
      if (uses_.is_output[static_cast<size_t>(v)]) return {};
      for (int r : uses_.readers[static_cast<size_t>(v)]) {
        const size_t reader = static_cast<size_t>(r);
        if (reader != second && reader != chain.last && !std::count(chain.between.begin(), chain.between.end(), reader)) return {};
      }
    }
    return chain;
  }

  bool is_layout(const Chain& chain, const Shape& shape, size_t row) const {
    return row < shape.size() && shape[row] == chain.rows && element_count(Shape(shape.begin(), shape.begin() + static_cast<long>(row))) == chain.images;
  }

  std::optional<size_t> through_view(const Chain& chain, const Node& node) const {
    const Shape &from = g_.value(node.inputs[0]).shape, &to = g_.value(node.outputs[0]).shape;
    const size_t row = chain.layouts.at(node.inputs[0]).row;
    for (size_t r = 0; r < to.size(); ++r) {
      if (is_layout(chain, to, r) && element_count(Shape(to.begin() + static_cast<long>(r), to.end())) == element_count(Shape(from.begin() + static_cast<long>(row), from.end()))) return r;
    }
    return {};
  }

  /// Every input of the chain is read at the output's own image and row.
  std::optional<size_t> through_map(const Chain& chain, const Node& node) const {
    const Map& m = std::get<Map>(node.op);
    const Shape& out = g_.value(node.outputs[0]).shape;
    for (size_t row = 0; row < out.size(); ++row) {
      if (is_layout(chain, out, row) && reads_own_rows(chain, node, m, row)) return row;
    }
    return {};
  }
  bool reads_own_rows(const Chain& chain, const Node& node, const Map& m, size_t row) const {
    std::vector<int> image_loops;
    for (size_t l = 0; l < row; ++l) {
      if (m.extents[l] != 1) image_loops.push_back(static_cast<int>(l));
    }
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      const auto found = chain.layouts.find(node.inputs[k]);
      if (found == chain.layouts.end()) continue;
      const Access& a = m.accesses[k];
      const Shape& shape = g_.value(node.inputs[k]).shape;
      if (a.guarded) return false;
      auto loop_of = [&](const IndexExpr& e) { return e.offset == 0 && e.terms.size() == 1 && e.terms[0].coefficient == 1 ? e.terms[0].loop : -1; };
      std::vector<int> loops;
      for (size_t d = 0; d < found->second.row; ++d) {
        if (shape[d] != 1) loops.push_back(loop_of(a.index[d]));
      }
      if (loops != image_loops || loop_of(a.index[found->second.row]) != static_cast<int>(row)) return false;
      for (size_t d = 0; d < loops.size(); ++d) {
        if (m.extents[static_cast<size_t>(loops[d])] != significant(shape, found->second.row)[d]) return false;
      }
      for (size_t d = found->second.row + 1; d < shape.size(); ++d) {
        for (const IndexTerm& t : a.index[d].terms) {
          if (t.loop <= static_cast<int>(row)) return false;
        }
      }
    }
    return true;
  }
  static Shape significant(const Shape& s, size_t row) {
    Shape out;
    std::copy_if(s.begin(), s.begin() + static_cast<long>(row), std::back_inserter(out), [](int64_t e) { return e != 1; });
    return out;
  }

  const Graph& g_;
  const Uses uses_;
};

class Tiler {
 public:
  Tiler(Graph& graph, const Chain& chain, int64_t block_rows) : g_(graph), chain_(chain), block_(block_rows) {}

  /// The nodes that replace the chain; the last one makes its result.
  std::vector<Node> run() {
    const Node last = g_.nodes[chain_.last];
    Node join{last.name + ".join", Join{}, {}, last.outputs};
    for (image_ = 0; image_ < chain_.images; ++image_) {
      for (first_ = 0; first_ < chain_.rows; first_ += block_) {
        rows_ = std::min(block_, chain_.rows - first_);
        part_.clear();
        contract(g_.nodes[chain_.first]);
        for (size_t n : chain_.between) std::holds_alternative<View>(g_.nodes[n].op) ? view(g_.nodes[n]) : map(g_.nodes[n]);
        contract(g_.nodes[chain_.second]);
        map(last);
        join.inputs.push_back(part_.at(last.outputs[0]));
      }
    }
    nodes_.push_back(std::move(join));
    return std::move(nodes_);
  }

 private:
  std::string name(const Node& n) const { return n.name + "." + std::to_string(image_) + "." + std::to_string(first_); }
  Shape part_shape(const Shape& s, size_t row) const {
    Shape out = s;
    std::fill(out.begin(), out.begin() + static_cast<long>(row), 1);
    out[row] = rows_;
    return out;
  }
  void emit(const Node& n, Op op, std::vector<ValueId> inputs, size_t row) {
    const Value was = g_.value(n.outputs[0]);
    const ValueId v = g_.add_value(name(n), was.type, part_shape(was.shape, row));
    part_[n.outputs[0]] = v;
    nodes_.push_back({name(n), std::move(op), std::move(inputs), {v}});
  }

  /// Bytes [offset, ..) of a tensor under a shape, kept as one value where several nodes read it.
  ValueId slice(ValueId v, int64_t elements, Shape shape) {
    const Value from = g_.value(v);
    if (shape == from.shape) return v;
    const auto [it, added] = slices_.try_emplace({v, elements}, kNoValue);
    if (added) {
      it->second = g_.add_value(from.name + ".at" + std::to_string(elements), from.type, shape);
      nodes_.push_back({g_.value(it->second).name, View{elements * bytes_of(from.type)}, {v}, {it->second}});
    }
    return it->second;
  }

  void contract(const Node& n) {
    std::vector<ValueId> in = n.inputs;
    const Shape a = g_.value(in[0]).shape, b = g_.value(in[1]).shape;
    const auto own = part_.find(in[0]);
    in[0] = own != part_.end() ? own->second : slice(in[0], (image_ * a[2] + first_) * a[3], {1, 1, rows_, a[3]});
    if (b[0] != 1) in[1] = slice(in[1], image_ * element_count(b) / b[0], {1, b[1], b[2], b[3], b[4], b[5]});
    emit(n, n.op, std::move(in), 2);
  }
  void view(const Node& n) { emit(n, View{}, {part_.at(n.inputs[0])}, chain_.layouts.at(n.outputs[0]).row); }

  void map(const Node& n) {
    Map m = std::get<Map>(n.op);
    const auto layout = chain_.layouts.find(n.outputs[0]);
    const size_t row = layout == chain_.layouts.end() ? 2 : layout->second.row;
    std::vector<int64_t> start(row + 1, 0);
    int64_t rest = image_;
    for (size_t l = row; l-- > 0;) start[l] = rest % m.extents[l], rest /= m.extents[l], m.extents[l] = 1;
    start[row] = first_, m.extents[row] = rows_;
    std::vector<ValueId> in = n.inputs;
    read_block(m, in, part_, start);
    emit(n, std::move(m), std::move(in), row);
  }

  Graph& g_;
  const Chain& chain_;
  const int64_t block_;
  int64_t image_ = 0, first_ = 0, rows_ = 0;
  std::map<ValueId, ValueId> part_;  ///< of this block
  std::map<std::pair<ValueId, int64_t>, ValueId> slices_;
  std::vector<Node> nodes_;
};

}  // namespace

bool tile_attention(Graph& graph, int64_t scratchpad_bytes, int64_t block_bytes) {
  bool tiled = false;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const auto chain = std::holds_alternative<Contract>(graph.nodes[n].op) ? Finder(graph).from(n) : std::nullopt;
    if (!chain || chain->images * chain->rows * chain->row_bytes <= scratchpad_bytes) continue;
    const int64_t most = std::max<int64_t>(1, block_bytes / std::max<int64_t>(1, chain->row_bytes)), blocks = (chain->rows + most - 1) / most;
    std::vector<Node> parts = Tiler(graph, *chain, (chain->rows + blocks - 1) / blocks).run();
    std::vector<bool> gone(graph.nodes.size(), false);
    for (size_t i : chain->between) gone[i] = true;
    gone[chain->first] = gone[chain->second] = gone[chain->last] = true;
    std::vector<Node> nodes;
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
      if (!gone[i]) nodes.push_back(std::move(graph.nodes[i]));
      if (i == chain->last) std::move(parts.begin(), parts.end(), std::back_inserter(nodes));
    }
    graph.nodes = std::move(nodes);
    tiled = true;
  }
  return tiled;
}

}  // namespace systole
