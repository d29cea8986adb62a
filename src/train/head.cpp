#include "train/head.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "base/error.h"
#include "graph/checks.h"

namespace systole {
namespace {

const OnnxOp& op_of(const Node& n) { return std::get<OnnxOp>(n.op); }

class Replacement {
 public:
  Replacement(Graph& graph, const Head& head) : g_(graph), head_(head), rng_(head.seed) {}

  void run() {
    for (ValueId v = g_.outputs.at(0);;) {
      const auto n = std::find_if(g_.nodes.begin(), g_.nodes.end(), [&](const Node& node) { return std::count(node.outputs.begin(), node.outputs.end(), v) > 0; });
      if (n == g_.nodes.end()) fail(ErrorCode::kUnsupported, "the last layer of '" + g_.name + "'", "none before the output", "a Gemm, MatMul or Conv");
      const std::string type = op_of(*n).full_name();
      if (type == "Gemm" || type == "MatMul" || type == "Conv") return layer(*n);
      if (type == "Add") v = past_bias(*n);
      else if (type == "Softmax" || type == "LogSoftmax" || type == "Sigmoid" || type == "Flatten" || type == "Squeeze" || type == "Identity" || type == "Dropout") v = n->inputs[0];
      else unsupported(*n, "another last layer than Gemm, MatMul or Conv");
    }
  }

 private:
  const TensorPtr& constant(const Node& n, size_t k) const {
    if (k >= n.inputs.size() || n.inputs[k] == kNoValue || !g_.value(n.inputs[k]).constant) unsupported(n, "a new last layer where weights are no constants of the file");
    return g_.value(n.inputs[k]).constant;
  }
  /// The constant gets these values; nobody else may read it.
  void replace(const Node& n, size_t k, Tensor t) {
    const ValueId v = n.inputs[k];
    int64_t readers = std::count(g_.outputs.begin(), g_.outputs.end(), v);
    for (const Node& node : g_.nodes) readers += std::count(node.inputs.begin(), node.inputs.end(), v);
    if (readers != 1) unsupported(n, "a new last layer whose weights others read");
    g_.value(v).shape = t.shape;
    g_.value(v).constant = std::make_shared<const Tensor>(std::move(t));
  }
  Tensor drawn(const Shape& shape, int64_t fan_in) {
    Tensor t(DType::kF32, shape);
    const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
    for (int64_t i = 0; i < t.count(); ++i) t.data<float>()[i] = static_cast<float>((static_cast<double>(rng_() >> 11) * 0x1p-52 - 1) * bound);
    return t;
  }

  ValueId past_bias(const Node& n) {
    const size_t k = g_.value(n.inputs[0]).constant ? 0 : 1;
    bias_ = &n, bias_input_ = k;
    constant(n, k);
    return n.inputs[1 - k];
  }
  /// Zeros, with the new width where the old one was; where all extents are 1, at `axis`, or last.
  void new_bias(const Node& n, size_t k, int64_t width, size_t axis) {
    Shape s = constant(n, k)->shape;
    if (s.empty() || element_count(s) != width) unsupported(n, "a new last layer with a bias of shape " + to_string(s));
    if (width > 1) *std::find(s.begin(), s.end(), width) = head_.outputs;
    else s[axis < s.size() ? axis : s.size() - 1] = head_.outputs;
    replace(n, k, Tensor(DType::kF32, s));
  }

  void layer(const Node& n) {
    const bool conv = op_of(n).type == "Conv";
    Shape s = constant(n, 1)->shape;
    if (constant(n, 1)->type != DType::kF32 || s.size() < 2 || (!conv && s.size() != 2) || op_of(n).integer("group", 1) != 1) unsupported(n, "a new last layer of weights " + to_string(s) + ", or in groups");
    const size_t axis = conv || op_of(n).integer("transB", 0) != 0 ? 0 : 1;
    const int64_t width = s[axis];
    s[axis] = head_.outputs;
    const int64_t fan_in = element_count(s) / head_.outputs;
    if (n.inputs.size() > 2 && n.inputs[2] != kNoValue) new_bias(n, 2, width, SIZE_MAX);
    if (bias_) new_bias(*bias_, bias_input_, width, conv ? 1 : SIZE_MAX);
    replace(n, 1, drawn(s, fan_in));
  }

  Graph& g_;
  const Head head_;
  std::mt19937_64 rng_;
  const Node* bias_ = nullptr;
  size_t bias_input_ = 0;
};

}  // namespace

void put_first(Graph& graph, const std::string& name) {
  auto& outputs = graph.outputs;
  const auto named = name.empty() && outputs.size() == 1 ? outputs.begin() : std::find_if(outputs.begin(), outputs.end(), [&](ValueId v) { return graph.value(v).name == name; });
  if (named == outputs.end()) {
    std::string names;
    for (ValueId v : outputs) names += (names.empty() ? "" : ", ") + graph.value(v).name;
    fail(ErrorCode::kBadInput, "--loss-output", name.empty() ? std::to_string(outputs.size()) + " outputs, and none named" : "no output '" + name + "'", outputs.empty() ? "a model with outputs" : "one of " + names);
  }
  std::rotate(outputs.begin(), named, named + 1);
}

void replace_last_layer(Graph& graph, const Head& head) {
  if (head.outputs != 0) Replacement(graph, head).run();
}

}  // namespace systole
