#include <algorithm>
#include <set>

#include "passes/passes.h"

namespace systole {
namespace {

constexpr int kRegisters = 8;

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

/// Every loop of the reader indexes exactly one dimension, unchanged, so each element is read once.
bool reads_once(const Map& reader, const Access& access, const Shape& shape) {
  if (access.guarded) return false;
  std::vector<int> seen(reader.extents.size(), 0);
  for (size_t d = 0; d < access.index.size(); ++d) {
    const IndexExpr& e = access.index[d];
    if (e.offset != 0 || e.terms.size() > 1) return false;
    if (e.terms.empty()) {
      if (shape[d] != 1) return false;
      continue;
    }
    const size_t loop = static_cast<size_t>(e.terms[0].loop);
    if (e.terms[0].coefficient != 1 || reader.extents[loop] != shape[d]) return false;
    ++seen[loop];
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
      if (auto* m = std::get_if<Map>(&n.op)) forward_unit_views(n, *m);
    }
    prune_and_sort(graph_);
    uses_ = Uses(graph_);
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      while (std::holds_alternative<Map>(graph_.nodes[i].op) && fuse_into(i)) {
      }
    }
    std::erase_if(graph_.nodes, [](const Node& n) { return n.outputs.empty(); });
    prune_and_sort(graph_);
  }

 private:
  /// Reads through views that only add or drop unit dimensions.
  void forward_unit_views(Node& n, Map& m) {
    for (size_t k = 0; k < n.inputs.size(); ++k) {
      const int p = uses_.producer[static_cast<size_t>(n.inputs[k])];
      if (p < 0 || !std::holds_alternative<View>(graph_.nodes[static_cast<size_t>(p)].op) || m.accesses[k].guarded) continue;
      const ValueId source = graph_.nodes[static_cast<size_t>(p)].inputs[0];
      const Shape &from = graph_.value(source).shape, &to = graph_.value(n.inputs[k]).shape;
      std::vector<IndexExpr> significant;
      Shape a, b;
      for (size_t d = 0; d < to.size(); ++d) {
        if (to[d] != 1) significant.push_back(m.accesses[k].index[d]), b.push_back(to[d]);
      }
      std::copy_if(from.begin(), from.end(), std::back_inserter(a), [](int64_t e) { return e != 1; });
      if (a != b) continue;
      Access access{{}, false, m.accesses[k].zero_point};
      size_t next = 0;
      for (int64_t e : from) access.index.push_back(e == 1 ? IndexExpr{} : significant[next++]);
      m.accesses[k] = access;
      n.inputs[k] = source;
    }
  }

  bool reads_contract(const Node& n) const {
    return std::any_of(n.inputs.begin(), n.inputs.end(), [&](ValueId v) {
      const int p = uses_.producer[static_cast<size_t>(v)];
      return p >= 0 && std::holds_alternative<Contract>(graph_.nodes[static_cast<size_t>(p)].op);
    });
  }

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
      if (!std::holds_alternative<Map>(producer.op) || !is_float(graph_.value(v).type)) continue;
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

void fuse_maps(Graph& graph) { Fuser(graph).run(); }

}  // namespace systole
