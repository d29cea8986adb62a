// Einsum (12): terms are contracted from left to right, each pair as one product of matrices.
#include <algorithm>
#include <string>

#include "host/einsum.h"
#include "ops/operator.h"

namespace systole {
namespace {

constexpr size_t kMostAxes = 6;  ///< that transposes and maps take

bool has(const std::string& labels, char l) { return labels.find(l) != std::string::npos; }

/// A value and the label of each of its axes.
struct Term {
  ValueId value = kNoValue;
  std::string labels;
};

class EinsumWriter {
 public:
  EinsumWriter(Expander& x, const EinsumEquation& e) : x_(x), e_(e) {}

  /// False where a step has more axes than this compiler takes.
  bool run() {
    Term whole;
    for (size_t k = 0; k < e_.terms.size(); ++k) {
      std::string needed = e_.result;
      for (size_t later = k + 1; later < e_.terms.size(); ++later) needed += e_.terms[later];
      const Term next = input(k);
      whole = summed(k == 0 ? next : product(whole, next, needed), needed);
      if (whole.labels.size() > kMostAxes) return false;
    }
    const Term last = in_order(whole, own_of(e_.result, whole));
    const bool broadcast = last.labels != e_.result;  // a label of extent 1 in every term
    x_.result(0, broadcast ? x_.reshape(last.value, shape_of(e_.result)) : last.value);
    return true;
  }

 private:
  int64_t extent(char l) const { return e_.extents.at(l); }
  Shape shape_of(const std::string& labels) const {
    Shape s;
    for (char l : labels) s.push_back(extent(l));
    return s;
  }
  /// Those of `labels` that the term has.
  static std::string own_of(const std::string& labels, const Term& t) {
    std::string own;
    for (char l : labels) own += has(t.labels, l) ? std::string(1, l) : "";
    return own;
  }

  /// Input k without its axes of extent 1, which say nothing.
  Term input(size_t k) {
    Term t{x_.in(k), ""};
    for (size_t d = 0; d < e_.terms[k].size(); ++d) t.labels += x_.shape(k)[d] == 1 ? "" : std::string(1, e_.terms[k][d]);
    if (t.labels.size() < e_.terms[k].size()) t.value = x_.reshape(t.value, shape_of(t.labels));
    return t;
  }
  Term in_order(const Term& t, const std::string& order) {
    if (t.labels == order) return t;
    std::vector<int64_t> perm;
    for (char l : order) perm.push_back(static_cast<int64_t>(t.labels.find(l)));
    return {x_.transpose(t.value, perm), order};
  }
  /// The term with the sum over what nobody needs.
  Term summed(const Term& t, const std::string& needed) {
    std::vector<int64_t> axes;
    for (size_t d = 0; d < t.labels.size(); ++d) {
      if (!has(needed, t.labels[d])) axes.push_back(static_cast<int64_t>(d));
    }
    if (axes.empty()) return t;
    return {x_.call("ReduceSum", {t.value, x_.ints(axes)}, {{"keepdims", int64_t{0}}}), own_of(t.labels, {kNoValue, needed})};
  }

  Term product(const Term& first, const Term& second, const std::string& needed) {
    Term a = summed(first, needed + second.labels), b = summed(second, needed + first.labels);
    std::string batch, sum, rows, columns;
    for (char l : needed) {
      if (has(a.labels, l) && has(b.labels, l) && !has(batch, l)) batch += l;
    }
    for (char l : a.labels) {
      if (!has(b.labels, l)) rows += l;
      else if (!has(needed, l)) sum += l;
    }
    for (char l : b.labels) columns += has(a.labels, l) ? "" : std::string(1, l);
    if (sum.empty() || (rows.empty() && columns.empty())) return elementwise(a, b, batch + rows + columns + sum);
    // What the result has last is made as columns.
    const size_t last = e_.result.find_last_of(rows + columns);
    if (last != std::string::npos && has(rows, e_.result[last])) std::swap(a, b), std::swap(rows, columns);
    return matrices(a, b, batch, rows, columns, sum);
  }
  Term elementwise(const Term& a, const Term& b, const std::string& order) {
    auto spread = [&](const Term& t) {
      Shape shape;
      for (char l : order) shape.push_back(has(t.labels, l) ? extent(l) : 1);
      const Term own = in_order(t, own_of(order, t));
      return own.labels == order ? own.value : x_.reshape(own.value, shape);
    };
    return {x_.mul(spread(a), spread(b)), order};
  }
  Term matrices(const Term& a, const Term& b, const std::string& batch, const std::string& rows, const std::string& columns, const std::string& sum) {
    const std::string order = batch + rows + columns;
    const Shape outer = batch.size() <= kMostAxes - 2 ? shape_of(batch) : Shape{element_count(shape_of(batch))};
    auto matrix = [&](const Term& t, const std::string& left, const std::string& right) {
      const Term own = in_order(t, batch + left + right);
      Shape shape = outer;
      shape.push_back(element_count(shape_of(left))), shape.push_back(element_count(shape_of(right)));
      return shape == shape_of(own.labels) ? own.value : x_.reshape(own.value, shape);
    };
    const ValueId made = x_.call("MatMul", {matrix(a, rows, sum), matrix(b, sum, columns)});
    const bool plain = rows.size() == 1 && columns.size() == 1 && outer.size() == batch.size();
    return {plain ? made : x_.reshape(made, shape_of(order)), order};
  }

  Expander& x_;
  const EinsumEquation& e_;
};

bool expand_einsum(Expander& x) {
  std::vector<Shape> shapes;
  for (size_t k = 0; k < x.node.inputs.size(); ++k) {
    if (!is_float(x.type(k))) return false;
    shapes.push_back(x.shape(k));
  }
  const EinsumEquation e(x.node, shapes);
  for (const std::string& term : e.terms) {
    for (char l : term) {
      if (std::count(term.begin(), term.end(), l) > 1) return false;  // a diagonal
    }
    if (term.size() > kMostAxes) return false;
  }
  if (e.result.size() > kMostAxes || std::any_of(e.extents.begin(), e.extents.end(), [](const auto& of) { return of.second < 1; })) return false;
  return EinsumWriter(x, e).run();
}

constexpr Operator kOperators[] = {{"", "Einsum", nullptr, "expands", 1, expand_einsum}};

}  // namespace

std::span<const Operator> einsum_operators() { return kOperators; }

}  // namespace systole
