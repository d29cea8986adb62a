#include "train/recognise.h"

#include <cmath>
#include <numbers>
#include <optional>

namespace systole {
namespace {

/// A product of constants, and of values that are no products.
struct Product {
  double constant = 1;
  std::vector<ValueId> factors;
};

class Gelus {
 public:
  explicit Gelus(const Graph& g) : g_(g), uses_(g) {}

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
      if (!bent || g_.value(x).shape != g_.value(node.outputs[0]).shape) continue;
      if (type_of(*bent) == "Erf" && is_scaled(bent->inputs[0], 1 / std::numbers::sqrt2, x)) return Found{x, false};
      if (type_of(*bent) == "Tanh" && is_cubic(bent->inputs[0], x)) return Found{x, true};
    }
    return {};
  }

 private:
  static std::string type_of(const Node& n) { return std::get<OnnxOp>(n.op).full_name(); }
  static bool is(double v, double wanted) { return std::fabs(v - wanted) <= 1e-4 * wanted; }
  /// Who makes a value for one reader.
  const Node* maker(ValueId v) const {
    const auto i = static_cast<size_t>(v);
    return uses_.producer[i] < 0 || uses_.is_output[i] || uses_.readers[i].size() != 1 ? nullptr : &g_.nodes[static_cast<size_t>(uses_.producer[i])];
  }
  std::optional<double> scalar(ValueId v) const {
    const TensorPtr t = g_.value(v).constant;
    return t && t->count() == 1 && is_float(t->type) ? std::optional(t->at(0)) : std::nullopt;
  }
  template <class Made>
  Product product_of(const Made& made) const {
    Product p;
    multiply(p, made);
    return p;
  }
  void multiply(Product& p, const Node& node) const {
    const bool divides = type_of(node) == "Div";
    for (size_t k = 0; k < 2; ++k) {
      const ValueId v = node.inputs[k];
      const auto constant = scalar(v);
      if (constant) p.constant = divides && k == 1 ? p.constant / *constant : p.constant * *constant;
      else if (divides && k == 1) p.constant = std::nan("");  // no product
      else multiply(p, v);
    }
  }
  void multiply(Product& p, ValueId v) const {
    const Node* n = maker(v);
    const std::string type = n ? type_of(*n) : "";
    if (type == "Mul" || type == "Div") return multiply(p, *n);
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

  const Graph& g_;
  const Uses uses_;
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

void pool_before_relu(Graph& graph) {
  const Uses uses(graph);
  const auto is = [&](size_t n, const char* type) {
    const auto* op = std::get_if<OnnxOp>(&graph.nodes[n].op);
    return op && op->full_name() == type;
  };
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    if (!is(n, "MaxPool") || graph.nodes[n].outputs.size() != 1) continue;
    const ValueId cut = graph.nodes[n].inputs[0], pooled = graph.nodes[n].outputs[0];
    const auto c = static_cast<size_t>(cut);
    if (uses.producer[c] < 0 || !is(static_cast<size_t>(uses.producer[c]), "Relu") || uses.readers[c].size() != 1 || uses.is_output[c]) continue;
    Node &relu = graph.nodes[static_cast<size_t>(uses.producer[c])], &pool = graph.nodes[n];
    const Value like = graph.value(pooled);
    const ValueId greatest = graph.add_value(like.name + ".greatest", like.type, like.shape);
    graph.value(greatest).shape_known = like.shape_known;
    std::swap(relu.op, pool.op), std::swap(relu.name, pool.name);
    relu.outputs = {greatest}, pool.inputs = {greatest};  // each is the other now
  }
}

}  // namespace systole
