#include "quantize/biases.h"

#include <set>

#include "graph/checks.h"
#include "quantize/roles.h"

namespace systole {
namespace {

class Joiner {
 public:
  Joiner(Graph& graph, std::map<ValueId, Histogram>& histograms) : graph_(graph), uses_(graph), histograms_(histograms) {}

  void run() {
    std::vector<Node> nodes;
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      const Node node = graph_.nodes[n];
      const int addition = bias_of(node);
      if (addition >= 0) join(node, graph_.nodes[static_cast<size_t>(addition)], nodes), gone_.insert(static_cast<size_t>(addition));
      else if (!gone_.count(n)) nodes.push_back(node);
    }
    graph_.nodes = std::move(nodes);
    prune_and_sort(graph_);
  }

 private:
  const OnnxOp& op_of(const Node& n) const { return std::get<OnnxOp>(n.op); }

  /// The node that adds the bias, or -1.
  int bias_of(const Node& n) const {
    if (op_of(n).type != "MatMul" || role_of(graph_, n) != Role::kWeighted || !graph_.value(n.inputs[0]).shape_known || graph_.value(n.inputs[0]).shape.size() < 2 || element_count(graph_.value(n.inputs[0]).shape) == 0) return -1;
    const auto& readers = uses_.readers[static_cast<size_t>(n.outputs[0])];
    if (readers.size() != 1 || uses_.is_output[static_cast<size_t>(n.outputs[0])]) return -1;
    const Node& reader = graph_.nodes[static_cast<size_t>(readers[0])];
    if (!op_of(reader).domain.empty() || op_of(reader).type != "Add") return -1;
    const TensorPtr bias = constant_bias(reader);
    const int64_t columns = constant_input(graph_, n, 1)->shape[1];
    return bias && bias->type == DType::kF32 && !bias->shape.empty() && bias->count() == columns && bias->shape.back() == columns && bias->shape.size() <= graph_.value(n.inputs[0]).shape.size() ? readers[0] : -1;
  }
  TensorPtr constant_bias(const Node& addition) const {
    const TensorPtr first = constant_input(graph_, addition, 0);
    return first ? first : constant_input(graph_, addition, 1);
  }

  void join(const Node& product, const Node& addition, std::vector<Node>& nodes) {
    const ValueId x = product.inputs[0], y = addition.outputs[0];
    const Shape shape = graph_.value(x).shape;
    Tensor bias = *constant_bias(addition);
    const int64_t k = shape.back(), columns = bias.count();
    bias.shape = {columns};
    const ValueId b = graph_.add_constant(product.name + ".bias", std::make_shared<const Tensor>(std::move(bias)));
    const OnnxOp gemm{"", "Gemm", 13, {}};
    if (shape.size() == 2) return nodes.push_back({product.name, gemm, {x, product.inputs[1], b}, {y}});
    const auto [flat, is_new] = flat_.try_emplace(x, kNoValue);
    if (is_new) {
      flat->second = reshaped(x, {-1, k}, graph_.value(x).name + ".flat", nodes);
      graph_.value(flat->second).shape = {element_count(shape) / k, k}, graph_.value(flat->second).shape_known = true;
      if (const auto h = histograms_.find(x); h != histograms_.end()) {
        Histogram& own = histograms_[flat->second] = h->second;
        own.channel_sums.clear();  // of an axis that is no longer the channels'
      }
    }
    const ValueId sums = graph_.add_value(product.name + ".sums", DType::kF32, {});
    nodes.push_back({product.name, gemm, {flat->second, product.inputs[1], b}, {sums}});
    std::vector<int64_t> to(shape.begin(), shape.end());
    to[0] = -1, to.back() = columns;
    nodes.push_back({product.name + ".shaped", OnnxOp{"", "Reshape", 13, {}}, {sums, shape_constant(product.name, to)}, {y}});
  }
  ValueId shape_constant(const std::string& name, const std::vector<int64_t>& to) { return graph_.add_constant(name + ".shape", std::make_shared<const Tensor>(Tensor::from_ints(to, {static_cast<int64_t>(to.size())}))); }
  ValueId reshaped(ValueId v, const std::vector<int64_t>& to, const std::string& name, std::vector<Node>& nodes) {
    const ValueId out = graph_.add_value(name, DType::kF32, {});
    nodes.push_back({name, OnnxOp{"", "Reshape", 13, {}}, {v, shape_constant(name, to)}, {out}});
    return out;
  }

  Graph& graph_;
  const Uses uses_;
  std::map<ValueId, Histogram>& histograms_;
  std::set<size_t> gone_;             ///< additions
  std::map<ValueId, ValueId> flat_;  ///< inputs in two dimensions
};

}  // namespace

void join_biases(Graph& graph, std::map<ValueId, Histogram>& histograms) { Joiner(graph, histograms).run(); }

}  // namespace systole
