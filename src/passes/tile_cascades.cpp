// Layers of an image, depth first: some rows of one layer's result, then the rows that the next layers make of them, while they are in the
// scratchpad. Rows that the next stripe needs once more are kept, not made again. Each element's arithmetic is what it was.
#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "passes/cascade.h"
#include "passes/passes.h"
#include "passes/runs.h"

namespace systole {
namespace {

constexpr size_t kFewestNodes = 4, kMostNodes = 32;  ///< of a cascade
constexpr size_t kMostApart = 16;  ///< nodes between two of them that are not part of it

bool is_contract(const Node& node) { return std::holds_alternative<Contract>(node.op); }

/// What a cascade in stripes costs, and what its layers cost one after the other.
class Costs {
 public:
  Costs(const Graph& g, const Uses& uses, const Machine& machine, int64_t step_cycles) : g_(g), uses_(uses), machine_(machine), large_(machine.memory.scratchpad_bytes / 4), step_cycles_(step_cycles) {}

  int64_t before(const Cascade& c) const {
    int64_t sum = 0;
    for_layers(c, [&](const Layer& l) {
      int64_t dram = l.weights + large(l.made);
      for (ValueId v : l.reads) dram += large(v);
      sum += run_cost(machine_, l.array, dram);
    });
    return sum;
  }
  int64_t after(const Cascade& c, const std::vector<Stripe>& stripes) const {
    const auto count = static_cast<int64_t>(stripes.size());
    int64_t sum = 0;
    for_layers(c, [&](const Layer& l) {
      int64_t dram = l.weights * count + (l.made == c.result() ? large(l.made) : 0);
      for (ValueId v : l.reads) dram += c.makes(v) ? 0 : large(v);
      sum += run_cost(machine_, l.array, dram) + count * step_cycles_;
    });
    return sum;
  }
  /// Bytes in the scratchpad at once, at most: what stripes leave each other, and what a layer reads and makes.
  int64_t peak_bytes(const Cascade& c, const std::vector<Stripe>& stripes) const {
    std::map<ValueId, int64_t> most, kept;  // held, and held over
    for (size_t s = 0; s < stripes.size(); ++s) {
      for (const auto& [v, rows] : stripes[s].held) {
        most[v] = std::max(most[v], row_bytes(v) * rows.count());
        if (s > 0 && rows.lo < stripes[s].made.at(v).lo) kept[v] = most[v];
      }
    }
    int64_t always = 0, now = 0;
    for (const auto& [v, bytes] : kept) always += bytes;
    for_layers(c, [&](const Layer& l) {
      int64_t here = most.count(l.made) ? most[l.made] : 0;
      for (ValueId v : l.reads) here += most.count(v) && !kept.count(v) ? most[v] : 0;
      now = std::max(now, here);
    });
    return always + now;
  }

 private:
  /// A map, with the contraction that it drains.
  struct Layer {
    int64_t array = 0, weights = 0;
    ValueId made = kNoValue;
    std::set<ValueId> reads;
  };
  template <class F>
  void for_layers(const Cascade& c, F&& visit) const {
    Layer l;
    for (size_t n : c.nodes()) {
      const Node& node = g_.nodes[n];
      for (size_t k = 0; k < node.inputs.size(); ++k) {
        const ValueId v = node.inputs[k];
        if (v == kNoValue) continue;
        if (g_.value(v).constant) l.weights += bytes(v);
        else if (const int p = uses_.producer[static_cast<size_t>(v)]; p < 0 || !is_contract(g_.nodes[static_cast<size_t>(p)])) l.reads.insert(v);
      }
      if (const auto* contract = std::get_if<Contract>(&node.op)) {
        l.array += ideal_matrix_cycles(machine_, multiply_adds(g_, node), contract->format);
        continue;
      }
      // What a move puts side by side is made there, mostly.
      if (std::holds_alternative<Move>(node.op)) l = {};
      l.made = node.outputs[0];
      if (!std::holds_alternative<Move>(node.op) || l.made == c.result()) visit(std::as_const(l));
      l = {};
    }
  }
  int64_t bytes(ValueId v) const { return element_count(g_.value(v).shape) * bytes_of(g_.value(v).type); }
  int64_t row_bytes(ValueId v) const { return bytes(v) / std::max<int64_t>(1, g_.value(v).shape[1]); }
  int64_t large(ValueId v) const { return bytes(v) >= large_ ? bytes(v) : 0; }

  const Graph& g_;
  const Uses& uses_;
  const Machine& machine_;
  const int64_t large_, step_cycles_;
};

struct Choice {
  std::vector<size_t> nodes;
  std::vector<Stripe> stripes;
  int64_t saved_cost = 0;
};

/// In how many rows a cascade goes best, if it should.
std::optional<Choice> choose(const Graph& g, const Cascade& c, const Costs& costs, int64_t block_bytes) {
  const int64_t height = g.value(c.result()).shape[1], before = costs.before(c);
  std::optional<Choice> best;
  for (int64_t rows = 1; rows <= (height + 1) / 2; rows += std::max<int64_t>(1, rows / 4)) {
    auto stripes = c.stripes(rows);
    if (costs.peak_bytes(c, stripes) > block_bytes) break;
    const int64_t saved = before - costs.after(c, stripes);
    if (saved > before / 16 && saved > (best ? best->saved_cost : 0)) best = Choice{c.nodes(), std::move(stripes), saved};
  }
  return best;
}

/// Offers the cascades that begin with a node, each with its last node.
template <class Offer>
void grow(const Graph& g, const Uses& uses, const Costs& costs, int64_t block_bytes, size_t first, Offer&& offer) {
  Cascade c(g, uses);
  if (!is_contract(g.nodes[first]) || !c.add(first)) return;
  for (size_t next = first + 1; next < g.nodes.size() && c.nodes().size() < kMostNodes && next - c.nodes().back() <= kMostApart; ++next) {
    const auto& inputs = g.nodes[next].inputs;
    if (std::none_of(inputs.begin(), inputs.end(), [&](ValueId v) { return c.makes(v); })) continue;
    if (!c.add(next)) return;
    if (c.nodes().size() < kFewestNodes || !c.may_end()) continue;
    if (auto choice = choose(g, c, costs, block_bytes)) offer(next, std::move(*choice));
  }
}

/// The nodes of a cascade, stripe by stripe.
class Writer {
 public:
  Writer(Graph& g, const Choice& choice) : g_(g), choice_(choice) {}

  std::vector<Node> run() {
    std::vector<Node> chain;
    for (size_t n : choice_.nodes) chain.push_back(g_.nodes[n]);
    const ValueId result = chain.back().outputs[0];
    Node join{g_.value(result).name + ".join", Join{}, {}, {result}};
    for (number_ = 0; number_ < choice_.stripes.size(); ++number_) {
      const Stripe& s = choice_.stripes[number_];
      for (const Node& node : chain) {
        const ValueId v = node.outputs[0];
        const Rows made = s.made.at(v);
        if (made.count() == 0) continue;
        if (v == result) join.inputs.push_back(write(node, made));
        else hold(node, made, s.held.at(v));
      }
    }
    nodes_.push_back(std::move(join));
    return std::move(nodes_);
  }

 private:
  struct Part {
    ValueId value;
    Rows rows;
  };
  ValueId add(const std::string& of, ValueId like, int64_t rows, Op op, std::vector<ValueId> inputs) {
    const Value was = g_.value(like);
    Shape shape = was.shape;
    shape[1] = rows;
    const std::string name = of + "." + std::to_string(number_);
    const ValueId v = g_.add_value(name, was.type, shape);
    nodes_.push_back({name, std::move(op), std::move(inputs), {v}});
    return v;
  }

  /// Makes what this stripe holds of a value: the rows that it makes, behind those that are left of the stripes before.
  void hold(const Node& node, const Rows& made, const Rows& held) {
    const ValueId v = node.outputs[0];
    if (is_contract(node) || held.lo >= made.lo) return void(part_[v] = {write(node, made), made});
    const Part before = part_.at(v);
    const Shape shape = g_.value(v).shape;
    const int64_t row = row_elements(shape), kept = made.lo - held.lo;
    const auto region = [&](int input, int64_t rows, int64_t from, int64_t to) {
      const std::vector<int64_t> strides = {row, shape[3], 1};
      return CopyRegion{input, {rows, shape[2], shape[3]}, from * row, to * row, strides, strides};
    };
    Move whole{{}, 0};
    std::vector<ValueId> in;
    if (std::holds_alternative<Move>(node.op)) {  // it puts its rows there itself
      in = node.inputs, whole = move(node, in, made);
      for (CopyRegion& r : whole.regions) r.dst_offset += kept * row;
    } else {
      in = {write(node, made)}, whole.regions = {region(0, made.count(), 0, kept)};
    }
    whole.regions.push_back(region(static_cast<int>(in.size()), kept, held.lo - before.rows.lo, 0));
    in.push_back(before.value);
    part_[v] = {add(g_.value(v).name + ".held", v, held.count(), std::move(whole), std::move(in)), held};
  }
  Move move(const Node& node, std::vector<ValueId>& in, const Rows& made) {
    std::vector<int64_t> first(in.size(), 0);
    for (size_t k = 0; k < in.size(); ++k) {
      const auto own = part_.find(node.inputs[k]);
      if (own != part_.end()) in[k] = own->second.value, first[k] = own->second.rows.lo;
    }
    return *rows_of_move(g_, node, made, first);
  }

  ValueId write(const Node& node, const Rows& made) {
    Op op = node.op;
    std::vector<ValueId> in = node.inputs;
    if (auto* c = std::get_if<Contract>(&op)) {
      const Rows rows = rows_needed(g_, node, 0, made);
      c->pad_top = rows.lo - (made.lo * c->stride_h - c->pad_top);
      in[0] = rows_of(in[0], rows);
    } else if (std::holds_alternative<Move>(op)) {
      op = move(node, in, made);
    } else {
      read(std::get<Map>(op), node, in, made);
    }
    return add(node.name, node.outputs[0], made.count(), std::move(op), std::move(in));
  }

  /// Just these rows of a value, made inside or not.
  ValueId rows_of(ValueId v, const Rows& rows) {
    const auto own = part_.find(v);
    const int64_t lo = own == part_.end() ? 0 : own->second.rows.lo;
    const ValueId from = own == part_.end() ? v : own->second.value;
    if (g_.value(from).shape[1] == rows.count() && rows.lo == lo) return from;
    return add(g_.value(v).name + ".seen", v, rows.count(), View{(rows.lo - lo) * row_elements(g_.value(v).shape) * bytes_of(g_.value(v).type)}, {from});
  }

  void read(Map& map, const Node& node, std::vector<ValueId>& in, const Rows& made) {
    map.extents[1] = made.count();
    for (size_t k = 0; k < in.size(); ++k) {
      for (IndexExpr& e : map.accesses[k].index) {
        for (const IndexTerm& t : e.terms) e.offset += t.loop == 1 ? t.coefficient * made.lo : 0;
      }
      const auto own = part_.find(node.inputs[k]);
      if (own == part_.end()) continue;
      in[k] = own->second.value, map.accesses[k].index[1].offset -= own->second.rows.lo;
    }
  }

  Graph& g_;
  const Choice& choice_;
  size_t number_ = 0;
  std::map<ValueId, Part> part_;
  std::vector<Node> nodes_;
};

}  // namespace

bool tile_cascades(Graph& graph, const Machine& machine, int64_t block_bytes, int64_t step_cycles) {
  const Uses uses(graph);
  const Costs costs(graph, uses, machine, step_cycles);
  const auto cascades = best_runs<Choice>(graph.nodes.size(), [&](size_t first, auto&& offer) { grow(graph, uses, costs, block_bytes, first, offer); });
  for (const Choice& c : cascades) {  // the last one first: what stands before it stays
    std::vector<Node> written = Writer(graph, c).run(), nodes;
    const std::set<size_t> gone(c.nodes.begin(), c.nodes.end());
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
      if (!gone.count(i)) nodes.push_back(std::move(graph.nodes[i]));
      if (i == c.nodes.back()) std::move(written.begin(), written.end(), std::back_inserter(nodes));
    }
    graph.nodes = std::move(nodes);
  }
  return !cascades.empty();
}

}  // namespace systole
