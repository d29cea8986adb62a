// What training knows before it differentiates: constants, but not weights, and everything that follows from shapes.
#pragma once
#include "graph/graph.h"

namespace systole {

/// Inputs of a node that learn.
std::vector<size_t> weight_inputs(const Node& n);
/// A constant at a place where weights stand that may learn: floats, and no mask (which holds infinities or great negatives).
bool may_learn(const TensorPtr& t);
/// Folds constants but not weights: one that two nodes read, of which one turns it first, must stay one weight.
void fold_around_weights(Graph& g);
/// Shapes become constants where they are known, and what exporters compute from them: sizes to resize to, bounds of slices, pads.
void fold_shapes(Graph& g);

}  // namespace systole
