#include "passes/cascade.h"

#include <algorithm>

namespace systole {
namespace {

bool is_contract(const Node& node) { return std::holds_alternative<Contract>(node.op); }

bool has_loop(const IndexExpr& e, int loop) {
  return std::any_of(e.terms.begin(), e.terms.end(), [&](const IndexTerm& t) { return t.loop == loop; });
}

/// Whether a map reads rows of input `k` around those that it makes.
bool reads_rows(const Graph& g, const Node& node, size_t k) {
  const Access& a = std::get<Map>(node.op).accesses[k];
  if (g.value(node.inputs[k]).shape.size() != 4 || a.index.size() != 4) return false;
  for (size_t d : {0, 2, 3}) {
    if (has_loop(a.index[d], 1)) return false;
  }
  return std::count_if(a.index[1].terms.begin(), a.index[1].terms.end(), [](const IndexTerm& t) { return t.loop == 1 && t.coefficient > 0; }) == 1 &&
         std::all_of(a.index[1].terms.begin(), a.index[1].terms.end(), [](const IndexTerm& t) { return t.loop == 1 || t.loop > 3; });
}

}  // namespace

Rows rows_needed(const Graph& g, const Node& node, size_t k, const Rows& made) {
  const int64_t height = g.value(node.inputs[k]).shape[1];
  int64_t first = 0, last = 0;
  if (const auto* c = std::get_if<Contract>(&node.op)) {
    first = made.lo * c->stride_h - c->pad_top, last = (made.hi - 1) * c->stride_h - c->pad_top + (c->kernel_h - 1) * c->dilation_h;
  } else if (std::holds_alternative<Move>(node.op)) {
    return made;
  } else {
    const auto& map = std::get<Map>(node.op);
    const IndexExpr& e = map.accesses[k].index[1];
    first = last = e.offset;
    for (const IndexTerm& t : e.terms) {
      const int64_t reach = t.coefficient * (map.extents[static_cast<size_t>(t.loop)] - 1);
      if (t.loop == 1) first += t.coefficient * made.lo, last += t.coefficient * (made.hi - 1);
      else (reach < 0 ? first : last) += reach;
    }
  }
  const int64_t lo = std::clamp<int64_t>(first, 0, height);
  return {lo, std::clamp<int64_t>(last + 1, lo, height)};
}

std::optional<Move> rows_of_move(const Graph& g, const Node& node, const Rows& made, const std::vector<int64_t>& first) {
  Move move = std::get<Move>(node.op);
  const Shape& out = g.value(node.outputs[0]).shape;
  for (CopyRegion& r : move.regions) {
    const Shape& in = r.input < 0 ? out : g.value(node.inputs[static_cast<size_t>(r.input)]).shape;
    if (in.size() != 4 || in[0] != 1 || in[1] != out[1]) return {};
    const auto steps = [&](size_t d) { return r.extents[d] % out[1] == 0 && r.dst_strides[d] * (r.extents[d] / out[1]) == row_elements(out) && (r.input < 0 || r.src_strides[d] * (r.extents[d] / out[1]) == row_elements(in)); };
    size_t rows = 0;
    while (rows < r.extents.size() && !steps(rows)) ++rows;
    if (rows == r.extents.size()) return {};
    const int64_t step = r.extents[rows] / out[1];
    const auto within = [&](int64_t offset, const std::vector<int64_t>& strides, int64_t row) {
      int64_t lo = offset, hi = offset;
      for (size_t d = 0; d < r.extents.size(); ++d) (strides[d] < 0 ? lo : hi) += strides[d] * ((d == rows ? step : r.extents[d]) - 1);
      return lo >= 0 && hi < row;
    };
    if (!within(r.dst_offset, r.dst_strides, row_elements(out)) || (r.input >= 0 && !within(r.src_offset, r.src_strides, row_elements(in)))) return {};
    r.extents[rows] = step * made.count();
    if (r.input >= 0) r.src_offset += (made.lo - first[static_cast<size_t>(r.input)]) * row_elements(in);
  }
  return move;
}

bool Cascade::add(size_t n) {
  const Node& node = g_.nodes[n];
  if (!suits(node)) return false;
  nodes_.push_back(n), made_.insert(node.outputs[0]);
  return true;
}

bool Cascade::may_end() const {
  if (is_contract(g_.nodes[nodes_.back()])) return false;
  return std::all_of(nodes_.begin(), nodes_.end(), [&](size_t n) {
    const ValueId v = g_.nodes[n].outputs[0];
    const auto& readers = uses_.readers[static_cast<size_t>(v)];
    const auto inside = [&](int r) { return std::binary_search(nodes_.begin(), nodes_.end(), static_cast<size_t>(r)); };
    return n == nodes_.back() ? std::none_of(readers.begin(), readers.end(), inside) : !uses_.is_output[static_cast<size_t>(v)] && std::all_of(readers.begin(), readers.end(), inside);
  });
}

std::vector<Stripe> Cascade::stripes(int64_t rows) const {
  std::vector<Stripe> list;
  std::map<ValueId, int64_t> ready;  // rows made so far
  const int64_t height = g_.value(result()).shape[1];
  for (int64_t first = 0; first < height; first += rows) {
    Stripe s;
    s.made[result()] = {first, std::min(height, first + rows)};
    for (size_t i = nodes_.size(); i-- > 0;) {
      const Node& node = g_.nodes[nodes_[i]];
      const ValueId out = node.outputs[0];
      if (i + 1 < nodes_.size()) {  // all readers were looked at: what they need is known
        const Rows& held = s.held[out];
        s.made[out] = {std::max(ready[out], held.lo), held.hi};
        ready[out] = std::max(ready[out], held.hi);
      }
      const Rows made = s.made[out];
      if (made.count() == 0) continue;
      for (size_t k = 0; k < node.inputs.size(); ++k) {
        if (!makes(node.inputs[k])) continue;
        const Rows reads = rows_needed(g_, node, k, made);
        const auto [at, added] = s.held.try_emplace(node.inputs[k], reads);
        if (!added) at->second = {std::min(at->second.lo, reads.lo), std::max(at->second.hi, reads.hi)};
      }
    }
    list.push_back(std::move(s));
  }
  return list;
}

bool Cascade::of_product(ValueId v) const {
  const int p = uses_.producer[static_cast<size_t>(v)];
  return p >= 0 && is_contract(g_.nodes[static_cast<size_t>(p)]);
}

bool Cascade::suits(const Node& node) const {
  if (node.outputs.size() != 1) return false;
  const Shape& out = g_.value(node.outputs[0]).shape;
  if (out.size() != 4 || out[0] != 1 || out[1] < 2) return false;
  if (is_contract(node)) return suits_contract(node) && sees_rows(node, 0);
  if (std::holds_alternative<Map>(node.op)) return suits_map(node);
  const std::vector<int64_t> first(node.inputs.size(), 0);
  return std::holds_alternative<Move>(node.op) && std::none_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return of_product(v); }) && rows_of_move(g_, node, {0, out[1]}, first);
}

bool Cascade::sees_rows(const Node& node, size_t k) const {
  const int64_t height = g_.value(node.outputs[0]).shape[1];
  return rows_needed(g_, node, k, {0, 1}).count() > 0 && rows_needed(g_, node, k, {height - 1, height}).count() > 0;
}

bool Cascade::suits_contract(const Node& node) const {
  const Value& a = g_.value(node.inputs[0]);
  if (a.shape.size() != 4 || a.shape[0] != 1 || a.constant || !(nodes_.empty() || makes(node.inputs[0]))) return false;
  return std::all_of(node.inputs.begin() + 1, node.inputs.end(), [&](ValueId v) { return v == kNoValue || g_.value(v).constant; });
}

bool Cascade::suits_map(const Node& node) const {
  const auto& map = std::get<Map>(node.op);
  if (map.output_rank() != 4) return false;
  for (size_t k = 0; k < node.inputs.size(); ++k) {
    const ValueId v = node.inputs[k];
    if (!makes(v) && of_product(v)) return false;
    if (makes(v) && (!reads_rows(g_, node, k) || !sees_rows(node, k) || (of_product(v) && !(map.accesses[k].index[1] == IndexExpr{0, {{1, 1}}})))) return false;
  }
  return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return makes(v); });
}

}  // namespace systole
