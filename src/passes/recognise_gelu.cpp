#include <cmath>
#include <numbers>

#include "passes/parts.h"
#include "passes/passes.h"

namespace systole {
namespace {

/// A product of constants, and of values that are no products.
struct Product {
  double constant = 1;
  std::vector<ValueId> factors;
};

class Gelus : Parts {
 public:
  using Parts::Parts;

  struct Found {
    ValueId x;
    bool tanh;
  };
  /// What a node makes: x/2 (1 + erf(x / sqrt 2)), or x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
  std::optional<Found> made_by(const Node& node) const {
    if (type_of(node) != "Mul" && type_of(node) != "Div") return {};
    const Product whole = product_of(node);
    if (whole.factors.size() != 2 || !is(whole.constant, 0.5)) return {};
    for (size_t i : {size_t{0}, size_t{1}}) {
      const ValueId x = whole.factors[i];
      const auto bent = plus_one(whole.factors[1 - i]);
      const Value& of = g_.value(x);
      if (!bent || (of.shape_known && of.shape.empty())) continue;  // constants may have one axis more
      if (type_of(*bent) == "Erf" && is_scaled(bent->inputs[0], 1 / std::numbers::sqrt2, x)) return Found{x, false};
      if (type_of(*bent) == "Tanh" && is_cubic(bent->inputs[0], x)) return Found{x, true};
    }
    return {};
  }

 private:
  template <class Made>
  Product product_of(const Made& made) const {
    Product p;
    multiply(p, made, 0);
    return p;
  }
  void multiply(Product& p, const Node& node, int depth) const {
    const bool divides = type_of(node) == "Div";
    for (size_t k = 0; k < 2; ++k) {
      const ValueId v = node.inputs[k];
      const auto constant = scalar(v);
      if (constant) p.constant = divides && k == 1 ? p.constant / *constant : p.constant * *constant;
      else if (divides && k == 1) p.constant = std::nan("");  // no product
      else multiply(p, v, depth + 1);
    }
  }
  void multiply(Product& p, ValueId v, int depth) const {
    constexpr int kDeepest = 4;  // of a Gelu: x x x
    const Node* n = depth < kDeepest ? maker(v) : nullptr;
    const std::string type = n ? type_of(*n) : "";
    if (type == "Mul" || type == "Div") return multiply(p, *n, depth);
    if (const auto power = type == "Pow" ? scalar(n->inputs[1]) : std::nullopt; power && *power == 3) return p.factors.insert(p.factors.end(), 3, n->inputs[0]), void();
    p.factors.push_back(v);
  }
  /// f of 1 + f(...), if nothing else reads either.
  const Node* plus_one(ValueId v) const {
    const Node* sum = maker(v);
    if (!sum || type_of(*sum) != "Add") return nullptr;
    for (size_t k : {size_t{0}, size_t{1}}) {
      const auto one = scalar(sum->inputs[k]);
      if (one && *one == 1) return maker(sum->inputs[1 - k]);
    }
    return nullptr;
  }
  bool is_scaled(ValueId v, double by, ValueId x) const {
    const Product p = product_of(v);
    return is(p.constant, by) && p.factors == std::vector<ValueId>{x};
  }
  bool is_cubic(ValueId v, ValueId x) const {
    const Product p = product_of(v);
    if (!is(p.constant, std::sqrt(2 / std::numbers::pi)) || p.factors.size() != 1) return false;
    const Node* sum = maker(p.factors[0]);
    if (!sum || type_of(*sum) != "Add") return false;
    for (size_t k : {size_t{0}, size_t{1}}) {
      if (sum->inputs[k] != x) continue;
      const Product cube = product_of(sum->inputs[1 - k]);
      if (is(cube.constant, 0.044715) && cube.factors == std::vector<ValueId>(3, x)) return true;
    }
    return false;
  }
};

}  // namespace

void recognise_gelu(Graph& graph) {
  const Gelus gelus(graph);
  std::vector<std::pair<size_t, Gelus::Found>> found;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    if (const auto gelu = gelus.made_by(graph.nodes[n])) found.emplace_back(n, *gelu);
  }
  constexpr int kGeluOpset = 20;
  for (const auto& [n, gelu] : found) {
    OnnxOp op{"", "Gelu", kGeluOpset, {}};
    if (gelu.tanh) op.attributes["approximate"] = std::string("tanh");
    graph.nodes[n].op = std::move(op), graph.nodes[n].inputs = {gelu.x};
  }
  prune_and_sort(graph);
}

}  // namespace systole
