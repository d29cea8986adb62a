// Activations as training likes them.
#pragma once
#include "graph/graph.h"

namespace systole {

/// A Relu that a MaxPool alone reads goes behind it: the greatest of what is cut off below 0 is the greatest, cut off (zeros may differ in their
/// sign). Its gradient then masks what was pooled, a quarter or a ninth of the values.
void pool_before_relu(Graph& graph);

}  // namespace systole
