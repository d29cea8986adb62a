// A reshape between two maps keeps one from being computed inside the other. Where a map reads [a b, c] as [a, b, c], its loops over a
// and b become one, so that it reads the value itself; and one that reads a drained product takes that product's loops, [1, 1, a b, c].
// So a bias over [8, 128, 768] is added to [1, 1, 1024, 768] while it drains.
#include <algorithm>
#include <optional>
#include <set>

#include "passes/blocks.h"
#include "passes/passes.h"

namespace systole {
namespace {

/// Loops first .. last of a map become one.
struct Range {
  int first, last;
};

/// The loop that alone indexes this dimension, one to one, or -1.
int plain_loop(const Map& m, const Access& a, size_t d, int64_t extent) {
  const IndexExpr& e = a.index[d];
  const bool plain = e.offset == 0 && e.terms.size() == 1 && e.terms[0].coefficient == 1 && m.extents[static_cast<size_t>(e.terms[0].loop)] == extent;
  return plain ? e.terms[0].loop : -1;
}

bool uses(const IndexExpr& e, Range r) {
  return std::any_of(e.terms.begin(), e.terms.end(), [&](const IndexTerm& t) { return t.loop >= r.first && t.loop <= r.last; });
}

class LoopMerger {
 public:
  explicit LoopMerger(Graph& g) : g_(g), view_of_(g.values.size(), kNoValue) {}

  void run() {
    std::vector<Node> nodes = std::move(g_.nodes);
    g_.nodes.clear();
    for (Node& n : nodes) {
      if (std::holds_alternative<Map>(n.op)) {
        while (const auto range = range_for(n)) merge(n, *range);
        follow_product(n);
      }
      if (std::holds_alternative<Contract>(n.op)) products_.insert(n.outputs[0]);
      note_view(n);
      g_.nodes.push_back(std::move(n));
      for (Node& later : restored_) note_view(later), g_.nodes.push_back(std::move(later));
      restored_.clear();
    }
    prune_and_sort(g_);
  }

 private:
  void note_view(const Node& n) {
    view_of_.resize(g_.values.size(), kNoValue);
    const auto* v = std::get_if<View>(&n.op);
    if (!v || v->offset_bytes || g_.value(n.inputs[0]).type != g_.value(n.outputs[0]).type || element_count(g_.value(n.inputs[0]).shape) != element_count(g_.value(n.outputs[0]).shape)) return;
    view_of_[static_cast<size_t>(n.outputs[0])] = root(n.inputs[0]);
  }
  /// What a value is a reshape of, or itself.
  ValueId root(ValueId v) const {
    const ValueId r = static_cast<size_t>(v) < view_of_.size() ? view_of_[static_cast<size_t>(v)] : kNoValue;
    return r == kNoValue ? v : r;
  }

  /// Loops to merge so that one of the node's inputs is read as what it is a reshape of.
  std::optional<Range> range_for(const Node& n) const {
    const Map& m = std::get<Map>(n.op);
    for (size_t k = 0; k < n.inputs.size(); ++k) {
      const ValueId source = root(n.inputs[k]);
      if (source == n.inputs[k] || m.accesses[k].guarded) continue;
      for (const auto& [first, last] : splits(g_.value(source).shape, g_.value(n.inputs[k]).shape)) {
        const int lo = plain_loop(m, m.accesses[k], first, g_.value(n.inputs[k]).shape[first]), hi = plain_loop(m, m.accesses[k], last, g_.value(n.inputs[k]).shape[last]);
        if (lo >= 0 && hi > lo && mergeable(n, {lo, hi})) return Range{lo, hi};
      }
    }
    return {};
  }

  /// Runs of target's dimensions that are one dimension of the source: first and last of each, neither of extent 1.
  static std::vector<std::pair<size_t, size_t>> splits(const Shape& source, const Shape& target) {
    std::vector<std::pair<size_t, size_t>> found;
    size_t t = 0;
    for (int64_t whole : source) {
      if (whole == 1) continue;
      while (t < target.size() && target[t] == 1) ++t;
      const size_t first = t;
      size_t last = t;
      int64_t product = 1;
      for (; t < target.size() && product < whole; ++t) {
        if (target[t] != 1) last = t, product *= target[t];
      }
      if (product != whole) return found;  // the rest is cut elsewhere
      if (last > first) found.push_back({first, last});
    }
    return found;
  }

  bool mergeable(const Node& n, Range r) const {
    const Map& m = std::get<Map>(n.op);
    const int rank = static_cast<int>(m.output_rank());
    if (r.first < rank && r.last >= rank) return false;
    for (size_t k = 0; k < n.inputs.size(); ++k) {
      if (!merges(m, m.accesses[k], g_.value(n.inputs[k]), r)) return false;
    }
    return true;
  }

  /// The access names none of the loops, or all of them, one per dimension and in order, with nothing but unit dimensions between.
  static bool merges(const Map& m, const Access& a, const Value& v, Range r) {
    int next = r.first;
    bool inside = false;
    for (size_t d = 0; d < a.index.size(); ++d) {
      if (!uses(a.index[d], r)) {
        if (inside && next <= r.last && v.shape[d] != 1) return false;
        continue;
      }
      const int loop = plain_loop(m, a, d, v.shape[d]);
      while (next < loop && m.extents[static_cast<size_t>(next)] == 1) ++next;
      if (a.guarded || loop < 0 || loop != next) return false;
      inside = true, ++next;
    }
    while (inside && next <= r.last && m.extents[static_cast<size_t>(next)] == 1) ++next;
    return !inside || next > r.last;
  }

  void merge(Node& n, Range r) {
    Map& m = std::get<Map>(n.op);
    for (size_t k = 0; k < n.inputs.size(); ++k) merge_access(n, m, k, r);
    const int64_t rank = m.output_rank();
    int64_t extent = 1;
    for (int l = r.first; l <= r.last; ++l) extent *= m.extents[static_cast<size_t>(l)];
    m.extents.erase(m.extents.begin() + r.first + 1, m.extents.begin() + r.last + 1);
    m.extents[static_cast<size_t>(r.first)] = extent;
    if (r.first >= rank) {
      m.reduced -= r.last - r.first;
      return;
    }
    replace_output(n, {m.extents.begin(), m.extents.begin() + (rank - (r.last - r.first))});
  }

  void merge_access(Node& n, Map& m, size_t k, Range r) {
    const Value v = g_.value(n.inputs[k]);
    const Access from = m.accesses[k];
    Access to{{}, from.guarded, from.zero_point};
    Shape shape;
    bool placed = false;
    for (size_t d = 0; d < from.index.size(); ++d) {
      if (uses(from.index[d], r)) {
        if (!placed) to.index.push_back({0, {{r.first, 1}}}), shape.push_back(v.shape[d]);
        else shape[merged_] *= v.shape[d];
        if (!placed) merged_ = shape.size() - 1;
        placed = true;
        continue;
      }
      IndexExpr e = from.index[d];
      for (IndexTerm& t : e.terms) t.loop -= t.loop > r.last ? r.last - r.first : 0;
      to.index.push_back(std::move(e)), shape.push_back(v.shape[d]);
    }
    if (shape != v.shape) n.inputs[k] = reshaped(n.inputs[k], shape);
    m.accesses[k] = std::move(to);
  }

  /// Elementwise on a product, or on what was made of one so: the same loops, and so on.
  void follow_product(Node& n) {
    Map& m = std::get<Map>(n.op);
    if (m.reduced) return;
    for (size_t k = 0; k < n.inputs.size(); ++k) {
      const ValueId source = root(n.inputs[k]);
      const Shape shape = g_.value(source).shape;
      if (!products_.count(source) || m.accesses[k].guarded || !in_order(m, m.accesses[k]) || significant(shape) != significant(m.extents)) continue;
      if (m.extents != shape) take_loops(n, shape);
      n.inputs[k] = source;
      m.accesses[k].index.clear();
      for (size_t d = 0; d < shape.size(); ++d) m.accesses[k].index.push_back(shape[d] == 1 ? IndexExpr{} : IndexExpr{0, {{static_cast<int>(d), 1}}});
      products_.insert(n.outputs[0]);
      return;
    }
  }

  /// The loops of more than one step index the dimensions, one each, in order.
  static bool in_order(const Map& m, const Access& a) {
    int next = 0;
    const int loops = static_cast<int>(m.extents.size());
    auto skip = [&] {
      while (next < loops && m.extents[static_cast<size_t>(next)] == 1) ++next;
    };
    for (const IndexExpr& e : a.index) {
      if (e.offset) return false;
      for (const IndexTerm& t : e.terms) {
        if (m.extents[static_cast<size_t>(t.loop)] == 1) continue;
        skip();
        if (e.terms.size() != 1 || t.coefficient != 1 || t.loop != next) return false;
        ++next;
      }
    }
    skip();
    return next == loops;
  }

  /// The same loops with unit loops elsewhere.
  void take_loops(Node& n, const Shape& shape) {
    Map& m = std::get<Map>(n.op);
    std::vector<int> at(m.extents.size(), -1);
    size_t d = 0;
    for (size_t l = 0; l < at.size(); ++l) {
      if (m.extents[l] == 1) continue;
      while (shape[d] == 1) ++d;
      at[l] = static_cast<int>(d++);
    }
    for (Access& a : m.accesses) {
      for (IndexExpr& e : a.index) {
        std::erase_if(e.terms, [&](const IndexTerm& t) { return at[static_cast<size_t>(t.loop)] < 0; });
        for (IndexTerm& t : e.terms) t.loop = at[static_cast<size_t>(t.loop)];
      }
    }
    m.extents = shape;
    replace_output(n, shape);
  }

  void replace_output(Node& n, const Shape& shape) {
    const ValueId old = n.outputs[0];
    const Value copy = g_.value(old);
    n.outputs[0] = g_.add_value(copy.name + ".rows", copy.type, shape);
    restored_.insert(restored_.begin(), {copy.name + ".shape", View{}, {n.outputs[0]}, {old}});
  }

  ValueId reshaped(ValueId v, const Shape& shape) {
    const Value from = g_.value(v);
    if (from.constant) {
      auto t = std::make_shared<Tensor>(*from.constant);
      t->shape = shape;
      return g_.add_constant(from.name + ".rows", std::move(t));
    }
    if (g_.value(root(v)).shape == shape) return root(v);
    const ValueId out = g_.add_value(from.name + ".rows", from.type, shape);
    g_.nodes.push_back({from.name + ".rows", View{}, {root(v)}, {out}});
    note_view(g_.nodes.back());
    return out;
  }

  Graph& g_;
  std::vector<ValueId> view_of_;
  std::vector<Node> restored_;  ///< views of merged outputs in their old shape, behind the map
  std::set<ValueId> products_;  ///< contracts' outputs and what follows them elementwise
  size_t merged_ = 0;
};

}  // namespace

void merge_loops(Graph& graph) { LoopMerger(graph).run(); }

}  // namespace systole
