#include "train/fold.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "passes/passes.h"
#include "runtime/observe.h"
#include "train/expand.h"

namespace systole {
namespace {
const OnnxOp& op_of(const Node& n) { return std::get<OnnxOp>(n.op); }
}  // namespace

std::vector<size_t> weight_inputs(const Node& n) {
  const std::string& t = op_of(n).type;
  if (t == "Conv" || t == "ConvTranspose" || t == "Gemm" || t == "BatchNormalization" || t == "LayerNormalization" || t == "InstanceNormalization" || t == "RMSNormalization" || t == "PRelu") return {1, 2};
  if (t == "MatMul" || t == "Add" || t == "Mul") return {0, 1};
  if (is_recurrent(t)) return {1, 2, 3};
  if (t == "Gather") return {0};
  return {};
}

bool may_learn(const TensorPtr& t) {
  if (!t || t->type != DType::kF32 || t->count() < 2) return false;
  for (int64_t i = 0; i < t->count(); ++i) {
    if (const float v = t->load<float>(i); !std::isfinite(v) || v <= -1e4f) return false;
  }
  return true;
}

void fold_around_weights(Graph& g) {
  std::map<ValueId, TensorPtr> weights;
  for (const Node& n : g.nodes) {
    for (size_t k : weight_inputs(n)) {
      if (k < n.inputs.size() && n.inputs[k] != kNoValue && may_learn(g.value(n.inputs[k]).constant)) weights[n.inputs[k]] = g.value(n.inputs[k]).constant;
    }
  }
  const auto inputs = g.inputs;
  for (const auto& [v, t] : weights) {
    g.value(v).shape = t->shape, g.value(v).type = t->type, g.value(v).shape_known = true;
    g.value(v).constant = nullptr, g.inputs.push_back(v);
  }
  fold_constants(g);
  for (const auto& [v, t] : weights) g.value(v).constant = t;
  g.inputs = inputs;
}

namespace {

/// Whether there was one to fold.
bool fold_known_shapes(Graph& g) {
  for (Node& n : g.nodes) {
    if (op_of(n).full_name() != "Shape" || !g.value(n.inputs[0]).shape_known) continue;
    const Shape x = g.value(n.inputs[0]).shape;
    const int64_t rank = static_cast<int64_t>(x.size());
    const auto place = [&](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + rank : at, 0, rank); };
    const int64_t start = place(op_of(n).integer("start", 0)), end = std::max(start, place(op_of(n).integer("end", rank)));
    const std::vector<int64_t> part(x.begin() + start, x.begin() + end);
    Value& v = g.value(n.outputs[0]);
    v.constant = std::make_shared<const Tensor>(Tensor::from_ints(part, {end - start}));
    v.type = DType::kI64, v.shape = v.constant->shape, v.shape_known = true;
    n.outputs.clear();
  }
  return std::erase_if(g.nodes, [](const Node& n) { return n.outputs.empty(); }) > 0;
}

}  // namespace

void fold_shapes(Graph& g) {
  for (bool again = true; again; infer_shapes(g)) {  // what is folded tells the shapes of others
    again = fold_known_shapes(g);
    fold_around_weights(g);
    prune_and_sort(g);
  }
}

}  // namespace systole
