// Weights in the type that products multiply. Masters keep their digits in fp32; the update writes their rounded copies beside them, once, where
// every forward and backward would read a master and write a copy of it.
#pragma once
#include <vector>

#include "graph/graph.h"

namespace systole {

/// Whether a node of ONNX multiplies its first two inputs on the array.
bool is_product(const Node& node);

/// A graph's input: a weight, or its copy.
struct WeightInput {
  size_t weight = 0;
  bool copy = false;
};

/// Products, and what only brings weights to them (transpositions, slices and the like), read copies of type `type` of the inputs `weights`, which are as
/// many new inputs; a weight that nothing else reads is no input any more. Says which weights and copies the inputs are now, in their order. Nothing changes
/// where `type` is fp32 or a weight has another type already.
std::vector<WeightInput> read_copies(Graph& graph, const std::vector<ValueId>& weights, DType type);

}  // namespace systole
