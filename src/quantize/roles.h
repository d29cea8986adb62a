// What each node of a float graph is to the quantiser, and which of them stay in float with their neighbours.
#pragma once
#include <vector>

#include "graph/graph.h"

namespace systole {

enum class Role : uint8_t {
  kWeighted,     ///< Conv, Gemm or MatMul with constant weights
  kProduct,      ///< MatMul of two activations, as attention has them
  kElementwise,  ///< Add, Mul and clamps, which 8 bits serve as well as floats
  kSelects,      ///< pools and Concat
  kMoves,        ///< elements to other places
  kFloat,        ///< computes on floats alone: normalisations, functions, sums
};
Role role_of(const Graph& graph, const Node& node);

/// Input k where it is a constant, else null.
TensorPtr constant_input(const Graph& graph, const Node& node, size_t k);

/// Elementwise nodes that belong to float nodes: between a product and the next one a GELU, say, is one map, which codes between its operations would only
/// make longer and less exact. `graph` and `uses` must outlive it; without known shapes all tensors count as equally large.
class FloatMaps {
 public:
  FloatMaps(const Graph& graph, const Uses& uses);
  bool has(size_t node) const { return in_float_[node]; }
  /// Whether such a node reads input `v` as floats; `codes` says that others read it in 8 bits. So it does what a normalisation makes, for the sums of
  /// residual branches lose 7 dB in 8 bits (BERT-base: 33 to 26 dB); and without codes what a float node, another such map or its own last product makes,
  /// with which it is one map. Anything else waits in memory, as codes in a quarter of the bytes.
  bool reads_as_floats(const Node& node, ValueId v, bool codes) const;

 private:
  Role role(int node) const { return roles_[static_cast<size_t>(node)]; }
  int producer(ValueId v) const { return uses_.producer[static_cast<size_t>(v)]; }
  template <class F>
  int made_before(ValueId v, F&& passes) const;
  int origin(ValueId v) const;
  int behind_views(ValueId v) const;
  int64_t size(ValueId v) const;
  bool only_use(ValueId v) const;
  bool reads_floats(size_t n) const;
  bool makes_floats(size_t n) const;
  template <class F>
  void for_each_reader(ValueId v, F&& f) const;

  const Graph& graph_;
  const Uses& uses_;
  std::vector<Role> roles_;
  std::vector<bool> in_float_;
};

}  // namespace systole
