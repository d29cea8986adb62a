#include "train/copies.h"

#include <algorithm>

namespace systole {
namespace {

constexpr const char* kCopies[] = {"Transpose", "Reshape", "Slice", "Flatten", "Squeeze", "Unsqueeze", "Identity"};

class Reader {
 public:
  explicit Reader(Graph& g) : g_(g), uses_(g) {}

  /// Nodes that read `v` for products alone.
  std::vector<size_t> for_products(ValueId v) const {
    std::vector<size_t> nodes;
    for (int r : uses_.readers[static_cast<size_t>(v)]) {
      const auto n = static_cast<size_t>(r);
      if (only_multiplied(g_.nodes[n], v) && std::find(nodes.begin(), nodes.end(), n) == nodes.end()) nodes.push_back(n);
    }
    return nodes;
  }
  bool read_by_others(ValueId v, const std::vector<size_t>& nodes) const {
    const auto& readers = uses_.readers[static_cast<size_t>(v)];
    return uses_.is_output[static_cast<size_t>(v)] || std::any_of(readers.begin(), readers.end(), [&](int r) { return std::find(nodes.begin(), nodes.end(), static_cast<size_t>(r)) == nodes.end(); });
  }
  void replace(size_t n, ValueId v, ValueId by) {
    std::replace(g_.nodes[n].inputs.begin(), g_.nodes[n].inputs.end(), v, by);
    narrow(n, g_.value(by).type);
  }

 private:
  bool only_multiplied(const Node& n, ValueId v) const {
    const auto other_inputs = std::count_if(n.inputs.begin() + std::min<std::ptrdiff_t>(is_product(n) ? 2 : 1, std::ssize(n.inputs)), n.inputs.end(), [&](ValueId i) { return i == v; });
    if (other_inputs) return false;  // a bias
    if (is_product(n)) return true;
    const auto* op = std::get_if<OnnxOp>(&n.op);
    const bool copies = op && op->domain.empty() && std::find(std::begin(kCopies), std::end(kCopies), op->type) != std::end(kCopies);
    const ValueId out = n.outputs[0];
    const auto& readers = uses_.readers[static_cast<size_t>(out)];
    return copies && !readers.empty() && !uses_.is_output[static_cast<size_t>(out)] && std::all_of(readers.begin(), readers.end(), [&](int r) { return only_multiplied(g_.nodes[static_cast<size_t>(r)], out); });
  }
  void narrow(size_t n, DType type) {
    if (is_product(g_.nodes[n])) return;
    const ValueId out = g_.nodes[n].outputs[0];
    g_.value(out).type = type;
    for (int r : uses_.readers[static_cast<size_t>(out)]) narrow(static_cast<size_t>(r), type);
  }

  Graph& g_;
  const Uses uses_;  ///< before any change
};

}  // namespace

bool is_product(const Node& n) {
  const auto* op = std::get_if<OnnxOp>(&n.op);
  return op && op->domain.empty() && (op->type == "Conv" || op->type == "ConvTranspose" || op->type == "Gemm" || op->type == "MatMul");
}

std::vector<WeightInput> read_copies(Graph& g, const std::vector<ValueId>& weights, DType type) {
  std::vector<WeightInput> now;
  Reader reader(g);
  for (size_t i = 0; i < weights.size(); ++i) {
    const ValueId w = weights[i];
    const bool whole = g.value(w).type == type || type == DType::kF32;
    const std::vector<size_t> nodes = whole ? std::vector<size_t>{} : reader.for_products(w);
    const auto at = std::find(g.inputs.begin(), g.inputs.end(), w);
    if (nodes.empty() || reader.read_by_others(w, nodes)) now.push_back({i, false});
    if (nodes.empty()) continue;
    const ValueId copy = g.add_value(g.value(w).name + ".copy", type, Shape(g.value(w).shape));
    g.value(copy).shape_known = true;
    for (size_t n : nodes) reader.replace(n, w, copy);
    if (reader.read_by_others(w, nodes)) g.inputs.insert(at + 1, copy);
    else *at = copy;
    now.push_back({i, true});
  }
  return now;
}

}  // namespace systole
