// The compiler's only IR: an SSA graph. Nodes are ONNX operators after import, and the primitives contract, map and
// move (plus view, which moves nothing) after legalisation. It prints and parses back at every phase (graph/text.h).
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "graph/primitives.h"
#include "numerics/tensor.h"

namespace systole {

using ValueId = int32_t;
inline constexpr ValueId kNoValue = -1;  ///< an optional input that is absent

struct Graph;
using GraphPtr = std::shared_ptr<const Graph>;
using Attribute = std::variant<int64_t, float, std::string, TensorPtr, std::vector<int64_t>, std::vector<float>, std::vector<std::string>, GraphPtr>;

/// An operator as ONNX names it; `opset` is the version that its domain was imported at.
struct OnnxOp {
  std::string domain, type;
  int opset = 0;
  std::map<std::string, Attribute> attributes;

  int64_t integer(const char* name, int64_t otherwise) const;
  float real(const char* name, float otherwise) const;
  std::string text(const char* name, const char* otherwise) const;
  std::vector<int64_t> integers(const char* name) const;  ///< empty when absent
  const Graph& graph(const char* name) const;           ///< a subgraph; fails when absent
  std::vector<float> reals(const char* name) const;     ///< empty when absent
  std::vector<std::string> texts(const char* name) const;
  bool has(const char* name) const { return attributes.count(name) != 0; }
  /// "Conv", or "com.microsoft.QGemm" outside the default domain.
  std::string full_name() const { return domain.empty() ? type : domain + "." + type; }
};

using Op = std::variant<OnnxOp, Contract, Map, Move, View, Join>;
std::string op_name(const Op& op);

struct Value {
  std::string name;
  DType type = DType::kF32;
  Shape shape;
  bool shape_known = false;
  TensorPtr constant;  ///< set for initializers and folded values
};

struct Node {
  std::string name;  ///< of the ONNX node it comes from
  Op op;
  std::vector<ValueId> inputs, outputs;
};

struct Graph {
  std::string name;
  std::vector<Value> values;
  std::vector<Node> nodes;  ///< in topological order
  std::vector<ValueId> inputs, outputs;
  /// Subgraphs: the last inputs are values of the graphs around; captures[i] is their position among the node's inputs.
  std::vector<int> captures;

  ValueId add_value(std::string value_name, DType type, Shape shape);
  ValueId add_constant(std::string value_name, TensorPtr tensor);
  const Value& value(ValueId id) const { return values[static_cast<size_t>(id)]; }
  Value& value(ValueId id) { return values[static_cast<size_t>(id)]; }
};

/// Gives constants that share bytes (with a model file) bytes of their own.
void own_constants(Graph& graph);

/// For each value, the nodes that read it; graph outputs count through `is_output`.
struct Uses {
  std::vector<std::vector<int>> readers;
  std::vector<int> producer;  ///< -1: none
  std::vector<bool> is_output;
  explicit Uses(const Graph& graph);
};

/// Drops nodes whose outputs nobody reads, and orders the rest topologically. Fails (kBadInput) on a cycle.
void prune_and_sort(Graph& graph);

/// Of a contract.
int64_t multiply_adds(const Graph& graph, const Node& contract);

/// The IR's rules: ids in range, one producer per value, order, and for primitives that every access stays inside its
/// tensor and maps alone read what a contract makes. A violation is a bug of the pass named in `after`.
void verify(const Graph& graph, const char* after);

}  // namespace systole
