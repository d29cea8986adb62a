// What is rounded to half the bytes after it was copied is rounded before: copies then move less, and all copies of one tensor share
// the rounding.
#include <algorithm>
#include <bit>
#include <map>

#include "numerics/formats.h"
#include "passes/passes.h"

namespace systole {
namespace {

/// A map that only converts fp32 to a float of two bytes.
bool narrows(const Graph& g, const Node& n) {
  const auto* m = std::get_if<Map>(&n.op);
  if (!m || m->reduced || m->pre.size() != 1 || !m->post.empty() || m->accesses.size() != 1 || m->accesses[0].guarded) return false;
  const Value &from = g.value(n.inputs[0]), &to = g.value(n.outputs[0]);
  if (from.type != DType::kF32 || !is_float(to.type) || bytes_of(to.type) != 2 || from.shape != to.shape || m->extents != to.shape) return false;
  for (size_t d = 0; d < to.shape.size(); ++d) {
    const IndexExpr& e = m->accesses[0].index[d];
    if (to.shape[d] != 1 && (e.offset || e.terms != std::vector<IndexTerm>{{static_cast<int>(d), 1}})) return false;
  }
  return m->pre[0].op == isa::Micro::kMove && m->pre[0].operands[0].kind == Operand::Kind::kInput;
}

class Narrower {
 public:
  explicit Narrower(Graph& g) : g_(g), uses_(g) {}

  bool run() {
    struct Read {
      int64_t elements = 0, copies = 0;
    };
    std::map<std::pair<ValueId, DType>, Read> read;  // by copies that narrow what they read
    std::vector<size_t> found;
    for (size_t i = 0; i < g_.nodes.size(); ++i) {
      const Node& n = g_.nodes[i];
      if (!narrows(g_, n)) continue;
      narrowed_.emplace(std::pair(n.inputs[0], g_.value(n.outputs[0]).type), n.outputs[0]);
      if (const Node* copy = copy_before(n)) {
        found.push_back(i);
        for (const auto& [v, elements] : elements_read(*copy)) {
          Read& r = read[{v, g_.value(n.outputs[0]).type}];
          r.elements += elements, ++r.copies;
        }
      }
    }
    bool changed = false;
    for (size_t i : found) {
      const DType type = g_.value(g_.nodes[i].outputs[0]).type;
      const Node copy = *copy_before(g_.nodes[i]);
      // All of a tensor is rounded for parts of it only where the parts are as much. One copy of an input loads it as well as rounding it would.
      const bool worth = std::all_of(copy.inputs.begin(), copy.inputs.end(), [&](ValueId v) {
        const Read& r = read[{v, type}];
        const bool input = uses_.producer[static_cast<size_t>(v)] < 0;
        return !g_.value(v).constant && g_.value(v).type == DType::kF32 && (narrowed_.count({v, type}) || (r.elements >= element_count(g_.value(v).shape) && (!input || r.copies > 1)));
      });
      if (worth) rewrite(i, copy, type), changed = true;
    }
    if (changed) insert_added();
    return changed;
  }

 private:
  /// The copy or view that makes what `n` narrows, where nobody needs it as it is.
  const Node* copy_before(const Node& n) const {
    const auto v = static_cast<size_t>(n.inputs[0]);
    const int p = uses_.producer[v];
    if (p < 0) return nullptr;
    const Node& copy = g_.nodes[static_cast<size_t>(p)];
    if (std::holds_alternative<View>(copy.op)) return &copy;
    return std::holds_alternative<Move>(copy.op) && uses_.readers[v].size() == 1 && !uses_.is_output[v] ? &copy : nullptr;
  }

  std::map<ValueId, int64_t> elements_read(const Node& copy) const {
    std::map<ValueId, int64_t> list;
    if (std::holds_alternative<View>(copy.op)) return {{copy.inputs[0], element_count(g_.value(copy.outputs[0]).shape)}};
    for (const CopyRegion& r : std::get<Move>(copy.op).regions) {
      if (r.input >= 0) list[copy.inputs[static_cast<size_t>(r.input)]] += element_count(r.extents);
    }
    return list;
  }

  void rewrite(size_t i, Node copy, DType type) {
    for (ValueId& v : copy.inputs) v = narrow(v, type);
    if (auto* view = std::get_if<View>(&copy.op)) view->offset_bytes /= 2;
    if (auto* move = std::get_if<Move>(&copy.op)) {
      const float fill = std::bit_cast<float>(static_cast<uint32_t>(move->fill_bits));
      move->fill_bits = type == DType::kBF16 ? f32_to_bf16(fill) : f32_to_f16(fill);
    }
    g_.nodes[i].op = std::move(copy.op), g_.nodes[i].inputs = std::move(copy.inputs);
  }

  ValueId narrow(ValueId v, DType type) {
    const auto [it, added] = narrowed_.try_emplace({v, type}, kNoValue);
    if (!added) return it->second;
    const Shape shape = g_.value(v).shape;
    Map m;
    m.extents = shape;
    Access direct;
    for (size_t d = 0; d < shape.size(); ++d) direct.index.push_back({0, shape[d] == 1 ? std::vector<IndexTerm>{} : std::vector<IndexTerm>{{static_cast<int>(d), 1}}});
    m.accesses = {direct};
    m.pre = {{isa::Micro::kMove, {Operand::input(0)}}};
    const std::string name = g_.value(v).name + "." + to_string(type);
    it->second = g_.add_value(name, type, shape);
    added_.emplace(uses_.producer[static_cast<size_t>(v)], Node{name, std::move(m), {v}, {it->second}});
    return it->second;
  }

  /// Each behind what it reads: the order of the others stays.
  void insert_added() {
    std::vector<Node> nodes;
    for (int i = -1; i < static_cast<int>(g_.nodes.size()); ++i) {
      if (i >= 0) nodes.push_back(std::move(g_.nodes[static_cast<size_t>(i)]));
      for (auto [at, end] = added_.equal_range(i); at != end; ++at) nodes.push_back(std::move(at->second));
    }
    g_.nodes = std::move(nodes);
    prune_and_sort(g_);
  }

  Graph& g_;
  const Uses uses_;
  std::map<std::pair<ValueId, DType>, ValueId> narrowed_;
  std::multimap<int, Node> added_;  ///< by the node they follow
};

}  // namespace

void narrow_early(Graph& graph) {
  while (Narrower(graph).run()) {
  }
}

}  // namespace systole
