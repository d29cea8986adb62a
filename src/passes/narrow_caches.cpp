// Caches of keys and values as int8 with a scale per token and head. Scales are powers of two with room to spare, so that entries
// which only pass through a step come back with the same bits.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "passes/passes.h"

namespace systole {
namespace {

class Narrower {
 public:
  explicit Narrower(Graph& graph) : g_(graph) {}

  /// Input past* [.., size] becomes codes and scales.
  void input(ValueId v) {
    const Value was = g_.value(v);
    Shape scales = was.shape;
    scales.back() = 1;
    const ValueId codes = g_.add_value(was.name, DType::kI8, was.shape), scale = g_.add_value(was.name + ".scale", DType::kF32, scales);
    g_.value(v).name += ".float";
    std::replace(g_.inputs.begin(), g_.inputs.end(), v, codes);
    g_.inputs.push_back(scale);
    std::vector<Node> first = std::move(g_.nodes);
    g_.nodes.clear();
    const ValueId wide = cast(codes, DType::kF32);
    g_.nodes.push_back({was.name + ".dequantised", OnnxOp{"", "Mul", 17, {}}, {wide, scale}, {v}});
    g_.nodes.insert(g_.nodes.end(), std::make_move_iterator(first.begin()), std::make_move_iterator(first.end()));
  }

  /// Output present* likewise: scale = 2^ceil(log2(max |x| / 127.45)), codes = round(x / scale): the greatest code is 64 to 127, and what it
  /// stands for has the same scale again.
  void output(ValueId v) {
    const std::string name = g_.value(v).name;
    const ValueId most = node("Max", {node("ReduceMax", {node("Abs", {v}), constant(Tensor::from_ints({-1}, {1}))}, {{"keepdims", int64_t{1}}}), number(1e-30)});
    const ValueId exponent = node("Ceil", {node("Mul", {node("Log", {node("Mul", {most, number(1 / 127.45)})}), number(1 / std::log(2.0))})});
    const ValueId scale = node("Pow", {number(2), exponent});
    const ValueId codes = cast(node("Clip", {node("Round", {node("Div", {v, scale})}), number(-127), number(127)}), DType::kI8);
    g_.value(v).name += ".float";
    g_.value(codes).name = name, g_.value(scale).name = name + ".scale";
    std::replace(g_.outputs.begin(), g_.outputs.end(), v, codes);
    g_.outputs.push_back(scale);
  }

 private:
  ValueId add(const char* type, std::vector<ValueId> in, std::map<std::string, Attribute> attributes, DType to) {
    const std::string name = std::string("cache/") + type + "_" + std::to_string(next_++);
    const ValueId out = g_.add_value(name, to, {});
    g_.value(out).shape_known = false;
    g_.nodes.push_back({name, OnnxOp{"", type, 18, std::move(attributes)}, std::move(in), {out}});
    return out;
  }
  ValueId node(const char* type, std::vector<ValueId> in, std::map<std::string, Attribute> attributes = {}) { return add(type, std::move(in), std::move(attributes), DType::kF32); }
  ValueId cast(ValueId v, DType to) { return add("Cast", {v}, {{"systole_to", static_cast<int64_t>(to)}}, to); }
  ValueId constant(Tensor t) { return g_.add_constant("cache/c" + std::to_string(next_++), std::make_shared<const Tensor>(std::move(t))); }
  ValueId number(double v) { return constant(Tensor::scalar_f32(static_cast<float>(v))); }

  Graph& g_;
  int next_ = 0;
};

}  // namespace

void narrow_caches(Graph& graph) {
  Narrower narrower(graph);
  const auto inputs = graph.inputs, outputs = graph.outputs;
  auto is_cache = [&](ValueId v, const char* prefix) { return graph.value(v).name.rfind(prefix, 0) == 0 && graph.value(v).type == DType::kF32; };
  size_t found = 0;
  for (ValueId v : outputs) {
    if (is_cache(v, "present")) narrower.output(v), ++found;
  }
  for (ValueId v : inputs) {
    if (is_cache(v, "past") && graph.value(v).shape.size() == 4) narrower.input(v);
  }
  if (found == 0) fail(ErrorCode::kUnsupported, "model '" + graph.name + "'", "no outputs present* of f32", "a decoder with a cache of keys and values");
}

}  // namespace systole
