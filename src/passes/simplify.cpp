#include <algorithm>
#include <cmath>

#include "host/host.h"
#include "ops/operator.h"
#include "passes/passes.h"

namespace systole {
namespace {

TensorPtr constant_input(const Graph& g, const Node& n, size_t k) { return k < n.inputs.size() && n.inputs[k] != kNoValue ? g.value(n.inputs[k]).constant : nullptr; }

/// W' = W g / sqrt(var + eps) per output channel, b' = (b - mean) g / sqrt(var + eps) + beta, in double, rounded once.
void fold_batch_norms(Graph& graph) {
  const Uses uses(graph);
  for (size_t at = 0; at < graph.nodes.size(); ++at) {
    Node& bn = graph.nodes[at];
    const auto& op = std::get<OnnxOp>(bn.op);
    if (op.type != "BatchNormalization" || op.integer("training_mode", 0) || bn.inputs.size() != 5) continue;
    const ValueId x = bn.inputs[0];
    const int producer = x == kNoValue ? -1 : uses.producer[static_cast<size_t>(x)];
    if (producer < 0 || uses.readers[static_cast<size_t>(x)].size() != 1 || uses.is_output[static_cast<size_t>(x)]) continue;
    Node& conv = graph.nodes[static_cast<size_t>(producer)];
    const auto& conv_op = std::get<OnnxOp>(conv.op);
    if (conv_op.type != "Conv" || !conv_op.domain.empty() || conv.inputs.size() < 2) continue;
    const TensorPtr w = constant_input(graph, conv, 1), b = constant_input(graph, conv, 2);
    std::vector<TensorPtr> p;
    for (size_t k = 1; k <= 4; ++k) p.push_back(constant_input(graph, bn, k));
    if (!w || w->shape.empty() || (conv.inputs.size() > 2 && !b) || std::any_of(p.begin(), p.end(), [](const auto& t) { return !t; })) continue;
    const int64_t channels = w->shape[0], each = channels ? w->count() / channels : 0;
    if (std::any_of(p.begin(), p.end(), [&](const auto& t) { return t->count() != channels; }) || (b && b->count() != channels)) continue;
    auto weights = std::make_shared<Tensor>(DType::kF32, w->shape);
    auto bias = std::make_shared<Tensor>(DType::kF32, Shape{channels});
    for (int64_t c = 0; c < channels; ++c) {
      const double g = p[0]->at(c) / std::sqrt(p[3]->at(c) + static_cast<double>(op.real("epsilon", 1e-5f)));
      for (int64_t i = 0; i < each; ++i) weights->set(c * each + i, w->at(c * each + i) * g);
      bias->set(c, ((b ? b->at(c) : 0) - p[2]->at(c)) * g + p[1]->at(c));
    }
    const std::string name = conv.name + "+" + bn.name;
    conv.inputs.resize(3);
    conv.inputs[1] = graph.add_constant(name + ".weight", weights);
    conv.inputs[2] = graph.add_constant(name + ".bias", bias);
    conv.outputs[0] = bn.outputs[0];
    bn.outputs = {x};
    bn.inputs.clear();
    bn.op = OnnxOp{"", "Constant", 0, {}};  // dead: nobody reads x any more
  }
}

}  // namespace

void inline_constants(Graph& graph) {
  for (Node& n : graph.nodes) {
    const auto& op = std::get<OnnxOp>(n.op);
    if (op.type == "Identity" && op.domain.empty() && n.outputs.size() == 1 && constant_input(graph, n, 0) && !std::count(graph.outputs.begin(), graph.outputs.end(), n.outputs[0])) {
      Value& v = graph.value(n.outputs[0]);
      v.constant = constant_input(graph, n, 0), v.type = v.constant->type, v.shape = v.constant->shape, v.shape_known = true;
      n.outputs.clear();
      continue;
    }
    if (op.type != "Constant" || !op.domain.empty() || n.outputs.size() != 1) continue;
    if (op.attributes.empty() || op.has("sparse_value")) continue;
    const TensorPtr tensor = run_host(n, {}, {}).at(0).tensor;
    if (!tensor || tensor->type == DType::kString) continue;
    Value& v = graph.value(n.outputs[0]);
    v.constant = tensor;
    v.type = v.constant->type, v.shape = v.constant->shape, v.shape_known = true;
    n.outputs.clear();
  }
  std::erase_if(graph.nodes, [](const Node& n) { return n.outputs.empty(); });
}

void simplify(Graph& graph) {
  inline_constants(graph);
  fold_batch_norms(graph);
  prune_and_sort(graph);
}

}  // namespace systole
