#include "train/fp8.h"

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include "train/builder.h"
#include "train/copies.h"

namespace systole {
namespace {

struct Format {
  DType type;
  double largest;
};
constexpr Format kE4M3 = {DType::kF8E4M3, 448}, kE5M2 = {DType::kF8E5M2, 57344};
constexpr double kLeastMagnitude = 0x1p-40;  ///< of a tensor of zeros: products of two scales, and biases times them, stay finite

/// By value: whether it depends on the seed. Nodes are in order.
std::vector<char> gradients_from(const Graph& g, ValueId seed) {
  std::vector<char> is(g.values.size(), 0);
  is[static_cast<size_t>(seed)] = 1;
  for (const Node& n : g.nodes) {
    bool any = false;
    for (ValueId v : n.inputs) any = any || (v != kNoValue && is[static_cast<size_t>(v)]);
    for (ValueId v : n.outputs) {
      if (any && v != kNoValue) is[static_cast<size_t>(v)] = 1;
    }
  }
  return is;
}

class Rounder {
 public:
  Rounder(Graph& g, ValueId seed) : g_(g), b_(g, "fp8."), gradient_(gradients_from(g, seed)) {
    for (size_t i = 0; i < g.nodes.size(); ++i) producer_[g.nodes[i].outputs[0]] = i;
  }

  void run() {
    const size_t count = g_.nodes.size();
    for (size_t i = 0; i < count; ++i) {
      if (is_product(g_.nodes[i])) round(i);
    }
  }

 private:
  struct Rounded {
    ValueId value, scale;
  };

  Rounded rounded(ValueId v) {
    if (const auto found = rounded_.find(v); found != rounded_.end()) return found->second;
    if (const auto copied = rounded_before(v)) return rounded_[v] = *copied;
    const Format& f = gradient_[static_cast<size_t>(v)] ? kE5M2 : kE4M3;
    std::vector<int64_t> axes;
    for (int64_t a = 0; a < b_.rank(v); ++a) axes.push_back(a);
    const ValueId most = b_.binary("Max", b_.max(b_.unary("Abs", v), axes, false), b_.scalar(kLeastMagnitude));
    const ValueId scale = b_.div(b_.scalar(f.largest), most);
    const ValueId eight = cast(b_.mul(v, scale), f.type);
    return rounded_[v] = {cast(eight, DType::kF32), scale};
  }
  /// A copy of a rounded tensor, or of parts of one, where `v` copies a tensor: a tensor is rounded once, with one scale, however it is cut.
  std::optional<Rounded> rounded_before(ValueId v) {
    constexpr const char* kCopies[] = {"Slice", "Reshape", "Transpose", "Concat", "Pad"};
    const auto p = producer_.find(v);
    if (p == producer_.end()) return {};
    Node copy = g_.nodes[p->second];
    const auto* op = std::get_if<OnnxOp>(&copy.op);
    if (!op || std::find(std::begin(kCopies), std::end(kCopies), op->type) == std::end(kCopies)) return {};
    const size_t tensors = op->type == "Concat" ? copy.inputs.size() : 1;
    if (op->type == "Pad" && copy.inputs.size() > 2 && g_.value(copy.inputs[2]).constant->at(0) != 0) return {};
    ValueId scale = kNoValue;
    for (size_t k = 0; k < tensors; ++k) {
      const Rounded r = rounded(copy.inputs[k]);
      if (k && r.scale != scale) return {};
      copy.inputs[k] = r.value, scale = r.scale;
    }
    const Value like = g_.value(v);
    copy.name += ".fp8";
    const ValueId value = g_.add_value(copy.name, like.type, like.shape);
    g_.value(value).shape_known = true;
    copy.outputs = {value};
    g_.nodes.push_back(std::move(copy));
    return Rounded{value, scale};
  }
  ValueId cast(ValueId v, DType to) {
    const ValueId y = b_.node("Cast", {v}, b_.shape(v), {{"systole_to", static_cast<int64_t>(to)}}, to);
    std::get<OnnxOp>(g_.nodes.back().op).opset = 19;  // the first with 8-bit floats
    return y;
  }

  void round(size_t i) {
    Node n = g_.nodes[i];
    const Rounded x = rounded(n.inputs[0]), y = rounded(n.inputs[1]);
    const ValueId product = b_.mul(x.scale, y.scale), out = n.outputs[0];
    n.inputs[0] = x.value, n.inputs[1] = y.value;
    if (n.inputs.size() > 2 && n.inputs[2] != kNoValue) n.inputs[2] = b_.mul(n.inputs[2], product);
    const Value& like = g_.value(out);
    const ValueId sums = g_.add_value(n.name + ".fp8", like.type, Shape(like.shape));
    g_.value(sums).shape_known = true;
    n.outputs[0] = sums;
    const auto attributes = std::get<OnnxOp>(n.op).attributes;
    g_.nodes[i] = std::move(n);
    b_.div(sums, product);
    g_.nodes.back().outputs[0] = out;
    if (const auto exact = attributes.find("systole_exact"); exact != attributes.end()) std::get<OnnxOp>(g_.nodes.back().op).attributes.insert(*exact);
  }

  Graph& g_;
  Builder b_;
  const std::vector<char> gradient_;
  std::map<ValueId, Rounded> rounded_;
  std::map<ValueId, size_t> producer_;
};

}  // namespace

void round_to_fp8(Graph& g, ValueId seed) { Rounder(g, seed).run(); }

}  // namespace systole
