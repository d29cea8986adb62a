#include <algorithm>

#include "passes/parts.h"
#include "passes/passes.h"

namespace systole {
namespace {

/// (x - mean) / sqrt(variance + epsilon) scale + bias over the last axis; root mean square: x / sqrt(mean of squares + epsilon) scale.
struct Normalisation {
  ValueId x = kNoValue, scale = kNoValue, bias = kNoValue;
  double epsilon = 0;
  bool root_mean_square = false;
  const Node* last = nullptr;  ///< whose output it is
};

class Normalisations : Parts {
 public:
  using Parts::Parts;

  /// That a node scales, with the bias behind it.
  std::optional<Normalisation> scaled_by(const Node& node) const {
    if (type_of(node) != "Mul") return {};
    for (size_t k : {size_t{0}, size_t{1}}) {
      const Node* inner = per_channel(node.inputs[k]) ? maker(node.inputs[1 - k]) : nullptr;
      auto found = inner ? standardised(*inner) : std::nullopt;
      if (!found) continue;
      found->scale = node.inputs[k], found->last = &node;
      if (!found->root_mean_square) add_bias(*found);
      return found;
    }
    return {};
  }

 private:
  /// A constant along the last axis.
  bool per_channel(ValueId v) const {
    const TensorPtr t = constant(v);
    return t && t->shape.size() == 1 && t->count() > 1 && is_float(t->type);
  }
  void add_bias(Normalisation& n) const {
    const Node* sum = reader(n.last->outputs[0]);
    if (!sum || type_of(*sum) != "Add") return;
    const ValueId bias = sum->inputs[sum->inputs[0] == n.last->outputs[0] ? 1 : 0];
    if (per_channel(bias) && constant(bias)->count() == constant(n.scale)->count()) n.bias = bias, n.last = sum;
  }
  /// Of d / sqrt(mean of d^2 + epsilon), d = x - mean of x or x itself.
  std::optional<Normalisation> standardised(const Node& node) const {
    for (size_t k : {size_t{0}, size_t{1}}) {
      const Node* root = type_of(node) == "Div" && k == 1 ? maker(node.inputs[1]) : type_of(node) == "Mul" ? inverted(node.inputs[k]) : nullptr;
      const Node* sum = root && (type_of(*root) == "Sqrt" || is_power(*root, 0.5)) ? maker(root->inputs[0]) : nullptr;
      if (!sum || type_of(*sum) != "Add") continue;
      for (size_t e : {size_t{0}, size_t{1}}) {
        const auto epsilon = scalar(sum->inputs[e]);
        const Node* mean = epsilon ? maker(sum->inputs[1 - e]) : nullptr;
        if (!mean || !is_mean(*mean) || *epsilon < 0) continue;
        const ValueId d = node.inputs[1 - k], squared = square_of(mean->inputs[0]);
        if (squared == kNoValue || !same(d, squared)) continue;
        const ValueId x = centred(d);
        return Normalisation{x == kNoValue ? d : x, kNoValue, kNoValue, *epsilon, x == kNoValue, nullptr};
      }
    }
    return {};
  }
  /// The root r where a value is 1 / r.
  const Node* inverted(ValueId v) const {
    const Node* n = maker(v);
    if (!n) return nullptr;
    if (type_of(*n) == "Reciprocal") return maker(n->inputs[0]);
    const auto one = type_of(*n) == "Div" ? scalar(n->inputs[0]) : std::nullopt;
    return one && *one == 1 ? maker(n->inputs[1]) : nullptr;
  }
  bool is_power(const Node& node, double exponent) const {
    const auto e = type_of(node) == "Pow" ? scalar(node.inputs[1]) : std::nullopt;
    return e && *e == exponent;
  }
  /// v where a value is v^2.
  ValueId square_of(ValueId v) const {
    const Node* n = maker(v);
    if (!n) return kNoValue;
    const bool square = is_power(*n, 2) || (type_of(*n) == "Mul" && n->inputs[0] == n->inputs[1]);
    return square ? n->inputs[0] : kNoValue;
  }
  /// Over the last axis, which stays.
  bool is_mean(const Node& node) const {
    if (type_of(node) != "ReduceMean" || op_of(node).integer("keepdims", 1) != 1) return false;
    std::vector<int64_t> axes = op_of(node).integers("axes");
    if (node.inputs.size() > 1 && node.inputs[1] != kNoValue) {
      const TensorPtr given = constant(node.inputs[1]);
      if (!given || given->type != DType::kI64) return false;
      axes = given->to_ints();
    }
    const Value& v = g_.value(node.inputs[0]);
    return axes.size() == 1 && (axes[0] == -1 || (v.shape_known && axes[0] == static_cast<int64_t>(v.shape.size()) - 1));
  }
  /// x where a value is x - mean of x.
  ValueId centred(ValueId v) const {
    const Node* n = producer(v);
    if (!n || type_of(*n) != "Sub") return kNoValue;
    const Node* mean = producer(n->inputs[1]);
    return mean && is_mean(*mean) && mean->inputs[0] == n->inputs[0] ? n->inputs[0] : kNoValue;
  }
  /// One value, or two that are centred alike.
  bool same(ValueId a, ValueId b) const { return a == b || (centred(a) != kNoValue && centred(a) == centred(b)); }
};

}  // namespace

void recognise_normalization(Graph& graph) {
  const Normalisations all(graph);
  std::vector<Normalisation> found;
  for (const Node& n : graph.nodes) {
    if (const auto normalisation = all.scaled_by(n)) found.push_back(*normalisation);
  }
  constexpr int kLayerOpset = 17, kRootMeanSquareOpset = 23;
  for (const Normalisation& n : found) {
    Node& node = graph.nodes[static_cast<size_t>(n.last - graph.nodes.data())];
    OnnxOp op{"", n.root_mean_square ? "RMSNormalization" : "LayerNormalization", n.root_mean_square ? kRootMeanSquareOpset : kLayerOpset, {}};
    op.attributes["axis"] = int64_t{-1}, op.attributes["epsilon"] = static_cast<float>(n.epsilon);
    node.op = std::move(op), node.inputs = {n.x, n.scale};
    if (n.bias != kNoValue) node.inputs.push_back(n.bias);
  }
  prune_and_sort(graph);
}

}  // namespace systole
