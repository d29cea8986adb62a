#include <algorithm>
#include <optional>
#include <set>

#include "passes/blocks.h"
#include "passes/passes.h"

namespace systole {
namespace {

constexpr int kRegisters = 8;
constexpr int64_t kCopiedSlots = 4;  ///< of a map that is computed more than once, unless its result is never resident

/// Whether a value may stay in a register: storing it in bf16, f16 or f32 is the policy's affair, integers and 8-bit floats are what the model asks for.
/// Truth values are 0 and 1 in a register too.
bool joins(DType type) { return (is_float(type) && !is_narrow_float(type)) || type == DType::kBool; }

/// Greatest number of results of one list that are alive at once; each needs a register.
int live_results(const std::vector<Operation>& list) {
  std::vector<int> last(list.size(), -1);
  for (size_t i = 0; i < list.size(); ++i) {
    for (const Operand& o : list[i].operands) {
      if (o.kind == Operand::Kind::kResult) last[static_cast<size_t>(o.index)] = static_cast<int>(i);
    }
  }
  int most = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    int live = 1;
    for (size_t k = 0; k < i; ++k) live += last[k] >= static_cast<int>(i);
    most = std::max(most, live);
  }
  return most;
}

bool fits(const Map& m) {
  std::set<uint32_t> constants;
  for (const auto* list : {&m.pre, &m.post}) {
    for (const Operation& o : *list) {
      for (const Operand& a : o.operands) {
        if (a.kind == Operand::Kind::kConstant) constants.insert(std::bit_cast<uint32_t>(a.constant));
      }
    }
  }
  return m.accesses.size() <= isa::kVectorInputs && m.pre.size() + m.post.size() <= isa::kMicroOps && constants.size() <= isa::kMicroConstants && live_results(m.pre) < kRegisters &&
         live_results(m.post) < kRegisters;
}

bool uses_input(const std::vector<Operation>& list, int k) {
  return std::any_of(list.begin(), list.end(), [&](const Operation& o) {
    return std::any_of(o.operands.begin(), o.operands.end(), [&](const Operand& a) { return a.kind == Operand::Kind::kInput && a.index == k; });
  });
}

/// Every loop of the reader indexes exactly one dimension, alone or as a digit of its index, so each element is read once.
bool reads_once(const Map& reader, const Access& access, const Shape& shape) {
  if (access.guarded) return false;
  std::vector<int> seen(reader.extents.size(), 0);
  for (size_t d = 0; d < access.index.size(); ++d) {
    const IndexExpr& e = access.index[d];
    if (e.offset != 0) return false;
    std::vector<IndexTerm> digits = e.terms;
    std::sort(digits.begin(), digits.end(), [](const IndexTerm& x, const IndexTerm& y) { return x.coefficient < y.coefficient; });
    int64_t unit = 1;
    for (const IndexTerm& t : digits) {
      if (t.coefficient != unit) return false;
      unit *= reader.extents[static_cast<size_t>(t.loop)];
      ++seen[static_cast<size_t>(t.loop)];
    }
    if (unit != shape[d]) return false;
  }
  for (size_t i = 0; i < seen.size(); ++i) {
    if (seen[i] > 1 || (seen[i] == 0 && reader.extents[i] != 1)) return false;
  }
  return true;
}

class Fuser {
 public:
  explicit Fuser(Graph& graph) : graph_(graph), uses_(graph) {}

  void run() {
    for (Node& n : graph_.nodes) {
      if (auto* m = std::get_if<Map>(&n.op)) forward_views(n, *m);
    }
    prune_and_sort(graph_);
    uses_ = Uses(graph_);
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      while (std::holds_alternative<Map>(graph_.nodes[i].op) && fuse_into(i)) {
      }
      if (std::holds_alternative<Map>(graph_.nodes[i].op)) copy_into_readers(i);
    }
    std::erase_if(graph_.nodes, [](const Node& n) { return n.outputs.empty(); });
    drain_at_once();
    prune_and_sort(graph_);
  }

 private:
  /// Reads through views that add or drop unit dimensions; and through those that cut one dimension into several, where the map behind
  /// them may be computed here.
  void forward_views(Node& n, Map& m) {
    for (size_t k = 0; k < n.inputs.size(); ++k) {
      const int p = uses_.producer[static_cast<size_t>(n.inputs[k])];
      const auto* view = p < 0 ? nullptr : std::get_if<View>(&graph_.nodes[static_cast<size_t>(p)].op);
      if (!view || view->offset_bytes || m.accesses[k].guarded) continue;
      const ValueId source = graph_.nodes[static_cast<size_t>(p)].inputs[0];
      const Value &from = graph_.value(source), &to = graph_.value(n.inputs[k]);
      if (from.type != to.type || element_count(from.shape) != element_count(to.shape)) continue;
      if (significant(from.shape) != significant(to.shape) && !may_join(source)) continue;
      if (auto index = through_view(from.shape, to.shape, m.accesses[k].index)) m.accesses[k].index = std::move(*index), n.inputs[k] = source;
    }
  }

  bool may_join(ValueId v) const {
    const int p = uses_.producer[static_cast<size_t>(v)];
    const auto* m = p < 0 ? nullptr : std::get_if<Map>(&graph_.nodes[static_cast<size_t>(p)].op);
    return m && !m->reduced && !reads_contract(graph_.nodes[static_cast<size_t>(p)]);
  }

  /// The source's indices, where each of its dimensions is one or several whole dimensions of the view.
  static std::optional<std::vector<IndexExpr>> through_view(const Shape& from, const Shape& to, const std::vector<IndexExpr>& index) {
    std::vector<IndexExpr> out(from.size());
    size_t t = 0;
    for (size_t d = 0; d < from.size(); ++d) {
      if (from[d] == 1) continue;
      for (int64_t covered = 1; covered < from[d]; ++t) {
        if (t == to.size()) return {};
        if (to[t] == 1) continue;
        covered *= to[t];
        if (from[d] % covered) return {};
        const int64_t coefficient = from[d] / covered;
        out[d].offset += coefficient * index[t].offset;
        for (const IndexTerm& x : index[t].terms) out[d].terms.push_back({x.loop, x.coefficient * coefficient});
      }
    }
    return out;
  }

  /// A map that was joined with what drains a contract stands where its inputs are there, not where the last of its parts was.
  void drain_at_once() {
    uses_ = Uses(graph_);
    std::vector<std::pair<size_t, size_t>> order;  // after which node, own number
    std::vector<size_t> place(graph_.nodes.size());
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& n = graph_.nodes[i];
      place[i] = i;
      if (std::holds_alternative<Map>(n.op) && reads_contract(n)) {
        place[i] = 0;
        for (ValueId v : n.inputs) {
          if (const int p = uses_.producer[static_cast<size_t>(v)]; p >= 0) place[i] = std::max(place[i], place[static_cast<size_t>(p)]);
        }
      }
      order.push_back({place[i], i});
    }
    std::sort(order.begin(), order.end());
    std::vector<Node> nodes;
    for (const auto& [after, i] : order) nodes.push_back(std::move(graph_.nodes[i]));
    graph_.nodes = std::move(nodes);
  }

  bool reads_contract(const Node& n) const { return systole::reads_contract(graph_, uses_, n); }

  /// Tries to join one producer into node i; true when it did.
  bool fuse_into(size_t i) {
    Node& reader = graph_.nodes[i];
    std::vector<size_t> order(reader.inputs.size());
    for (size_t k = 0; k < order.size(); ++k) order[k] = k;
    // The latest producer first: of two convolutions that are added, the later one drains through the sum.
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return uses_.producer[static_cast<size_t>(reader.inputs[a])] > uses_.producer[static_cast<size_t>(reader.inputs[b])]; });
    for (size_t k : order) {
      const ValueId v = reader.inputs[k];
      const int p = uses_.producer[static_cast<size_t>(v)];
      if (p < 0 || uses_.readers[static_cast<size_t>(v)].size() != 1 || uses_.is_output[static_cast<size_t>(v)] || std::count(reader.inputs.begin(), reader.inputs.end(), v) != 1) continue;
      Node& producer = graph_.nodes[static_cast<size_t>(p)];
      if (!std::holds_alternative<Map>(producer.op) || !joins(graph_.value(v).type)) continue;
      Node joined = reader;
      const bool done = std::get<Map>(producer.op).reduced > 0 ? append(producer, reader, k, joined) : inline_into(producer, reader, k, joined);
      if (!done || !fits(std::get<Map>(joined.op))) continue;
      joined.name = producer.name.size() < reader.name.size() && reads_contract(producer) ? producer.name : reads_contract(producer) ? producer.name : reader.name;
      for (ValueId in : producer.inputs) {
        auto& list = uses_.readers[static_cast<size_t>(in)];
        std::replace(list.begin(), list.end(), p, static_cast<int>(i));
      }
      producer.outputs.clear();
      producer.inputs.clear();
      reader = std::move(joined);
      return true;
    }
    return false;
  }

  /// A cheap map that only maps read is computed in each of them where that moves fewer bytes than to keep its result.
  void copy_into_readers(size_t i) {
    Node& producer = graph_.nodes[i];
    const Map& m = std::get<Map>(producer.op);
    const ValueId v = producer.outputs[0];
    std::vector<int> readers = uses_.readers[static_cast<size_t>(v)];
    std::sort(readers.begin(), readers.end());
    if (readers.size() < 2 || uses_.is_output[static_cast<size_t>(v)] || m.reduced || reads_contract(producer) || !joins(graph_.value(v).type)) return;
    if (std::adjacent_find(readers.begin(), readers.end()) != readers.end()) return;
    std::vector<Node> joined;
    for (int r : readers) {
      const Node& reader = graph_.nodes[static_cast<size_t>(r)];
      const auto at = std::find(reader.inputs.begin(), reader.inputs.end(), v);
      joined.push_back(reader);
      if (!std::holds_alternative<Map>(reader.op) || !inline_into(producer, reader, static_cast<size_t>(at - reader.inputs.begin()), joined.back()) || !fits(std::get<Map>(joined.back().op))) return;
    }
    if (!pays(producer, readers)) return;
    for (ValueId in : producer.inputs) {
      auto& list = uses_.readers[static_cast<size_t>(in)];
      std::erase(list, static_cast<int>(i));
      for (int r : readers) {
        if (!std::count(list.begin(), list.end(), r)) list.push_back(r);
      }
    }
    for (size_t k = 0; k < readers.size(); ++k) graph_.nodes[static_cast<size_t>(readers[k])] = std::move(joined[k]);
    producer.outputs.clear(), producer.inputs.clear();
  }

  /// What a map in each of its readers moves and computes, against what it does once: a byte of DRAM's time is two slots of a lane.
  bool pays(const Node& producer, const std::vector<int>& readers) const {
    const Map& m = std::get<Map>(producer.op);
    const int64_t slots = issue_slots(m.pre);
    const auto bytes = [&](ValueId v) { return element_count(graph_.value(v).shape) * bytes_of(graph_.value(v).type); };
    if (slots > kCopiedSlots && bytes(producer.outputs[0]) < kNeverResident) return false;
    const auto copies = static_cast<int64_t>(readers.size());
    int64_t gain = (1 + copies) * bytes(producer.outputs[0]) - slots * (copies - 1) * element_count(m.extents) / 2;
    for (ValueId in : producer.inputs) {
      gain += bytes(in);
      for (int r : readers) {
        const auto& have = graph_.nodes[static_cast<size_t>(r)].inputs;
        gain -= std::count(have.begin(), have.end(), in) ? 0 : bytes(in);
      }
    }
    return gain > 0;
  }

  static int add_input(Node& node, Map& m, ValueId id, const Access& access) {
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      if (node.inputs[k] == id && m.accesses[k] == access) return static_cast<int>(k);
    }
    node.inputs.push_back(id);
    m.accesses.push_back(access);
    return static_cast<int>(node.inputs.size() - 1);
  }

  /// Producer without a reduction: its expression is computed inside the reader's.
  bool inline_into(const Node& producer, const Node& reader, size_t k, Node& joined) const {
    const Map &inner = std::get<Map>(producer.op), &outer = std::get<Map>(reader.op);
    if (!reads_once(outer, outer.accesses[k], graph_.value(reader.inputs[k]).shape)) return false;
    if (std::any_of(inner.accesses.begin(), inner.accesses.end(), [](const Access& a) { return a.guarded; })) return false;
    const bool contract = reads_contract(producer);
    if (contract && (outer.reduced > 0 || reads_contract(reader))) return false;
    if (contract && (!same_order(outer.accesses[k]) || outer.extents != graph_.value(reader.inputs[k]).shape)) return false;
    const bool in_pre = uses_input(outer.pre, static_cast<int>(k)), in_post = uses_input(outer.post, static_cast<int>(k));
    if (in_pre == in_post) return false;
    Map m = outer;
    m.pre.clear(), m.post.clear(), m.accesses.clear();
    joined.inputs.clear();
    std::vector<int> outer_input(reader.inputs.size(), -1), inner_input(producer.inputs.size());
    for (size_t j = 0; j < reader.inputs.size(); ++j) {
      if (j != k) outer_input[j] = add_input(joined, m, reader.inputs[j], outer.accesses[j]);
    }
    for (size_t j = 0; j < producer.inputs.size(); ++j) inner_input[j] = add_input(joined, m, producer.inputs[j], compose(inner.accesses[j], outer.accesses[k]));
    std::vector<Operation> prefix = inner.pre;
    for (Operation& o : prefix) {
      for (Operand& a : o.operands) {
        if (a.kind == Operand::Kind::kInput) a.index = inner_input[static_cast<size_t>(a.index)];
      }
    }
    const Operand result = prefix.empty() ? Operand::input(inner_input[0]) : Operand::result(static_cast<int>(prefix.size() - 1));
    auto rewrite = [&](const std::vector<Operation>& list, bool prefixed) {
      std::vector<Operation> out = prefixed ? prefix : std::vector<Operation>{};
      const int shift = static_cast<int>(out.size());
      for (Operation o : list) {
        for (Operand& a : o.operands) {
          if (a.kind == Operand::Kind::kResult) a.index += shift;
          else if (a.kind == Operand::Kind::kInput) a = a.index == static_cast<int>(k) ? result : Operand::input(outer_input[static_cast<size_t>(a.index)]);
        }
        out.push_back(std::move(o));
      }
      return drop_moves(std::move(out));
    };
    m.pre = rewrite(outer.pre, in_pre);
    m.post = rewrite(outer.post, in_post);
    joined.op = std::move(m);
    return true;
  }

  /// Producer with a reduction, reader elementwise over the same output: the reader's expression follows the reduction.
  bool append(const Node& producer, const Node& reader, size_t k, Node& joined) const {
    const Map &inner = std::get<Map>(producer.op), &outer = std::get<Map>(reader.op);
    const Shape& shape = graph_.value(reader.inputs[k]).shape;
    if (outer.reduced > 0 || outer.extents != shape || !same_order(outer.accesses[k]) || outer.accesses[k].guarded) return false;
    if (std::any_of(outer.accesses.begin(), outer.accesses.end(), [](const Access& a) { return a.guarded; })) return false;
    if (reads_contract(reader)) return false;
    Map m = inner;
    joined.inputs = producer.inputs;
    std::vector<int> outer_input(reader.inputs.size(), -1);
    for (size_t j = 0; j < reader.inputs.size(); ++j) {
      if (j != k) outer_input[j] = add_input(joined, m, reader.inputs[j], outer.accesses[j]);
    }
    const Operand result = m.post.empty() ? Operand::reduced() : Operand::result(static_cast<int>(m.post.size() - 1));
    const int shift = static_cast<int>(m.post.size());
    for (Operation o : outer.pre) {
      for (Operand& a : o.operands) {
        if (a.kind == Operand::Kind::kResult) a.index += shift;
        else if (a.kind == Operand::Kind::kInput) a = a.index == static_cast<int>(k) ? result : Operand::input(outer_input[static_cast<size_t>(a.index)]);
      }
      m.post.push_back(std::move(o));
    }
    m.out_zero = outer.out_zero, m.out_lo = outer.out_lo, m.out_hi = outer.out_hi;
    joined.op = std::move(m);
    return true;
  }

  /// Dimension d is loop d.
  static bool same_order(const Access& a) {
    for (size_t d = 0; d < a.index.size(); ++d) {
      const IndexExpr& e = a.index[d];
      if (e.offset != 0 || (e.terms.size() == 1 && (e.terms[0].loop != static_cast<int>(d) || e.terms[0].coefficient != 1)) || e.terms.size() > 1) return false;
    }
    return true;
  }

  /// inner's loops are the dimensions that `through` indexes.
  static Access compose(const Access& inner, const Access& through) {
    Access out{{}, false, inner.zero_point};
    for (const IndexExpr& e : inner.index) {
      IndexExpr c{e.offset, {}};
      for (const IndexTerm& t : e.terms) {
        const IndexExpr& x = through.index[static_cast<size_t>(t.loop)];
        c.offset += t.coefficient * x.offset;
        for (const IndexTerm& u : x.terms) c.terms.push_back({u.loop, u.coefficient * t.coefficient});
      }
      out.index.push_back(std::move(c));
    }
    return out;
  }

  /// Removes `mov`s whose value something later reads; the last operation stays.
  static std::vector<Operation> drop_moves(std::vector<Operation> list) {
    for (size_t i = 0; i + 1 < list.size();) {
      if (list[i].op != isa::Micro::kMove) {
        ++i;
        continue;
      }
      const Operand source = list[i].operands[0];
      list.erase(list.begin() + static_cast<long>(i));
      for (size_t j = i; j < list.size(); ++j) {
        for (Operand& a : list[j].operands) {
          if (a.kind != Operand::Kind::kResult) continue;
          if (a.index == static_cast<int>(i)) a = source;
          else if (a.index > static_cast<int>(i)) --a.index;
        }
      }
    }
    return list;
  }

  Graph& graph_;
  Uses uses_;
};

}  // namespace

void fuse_maps(Graph& graph) {
  merge_duplicates(graph);
  narrow_early(graph);
  slices_as_views(graph);
  join_moves(graph);
  repeats_as_maps(graph);
  merge_loops(graph);
  Fuser(graph).run();
}

}  // namespace systole
