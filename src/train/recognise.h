// Activations as training likes them: those that a model writes in parts become one operator, whose gradient needs the input alone where those
// of the parts need each other, and ReLUs stand where they have less to do.
#pragma once
#include "graph/graph.h"

namespace systole {

/// Gelu 20, exact or by tanh, from the products and sums that exporters write for it. Shapes of all values are known before and after.
void recognise_gelu(Graph& graph);

/// A Relu that a MaxPool alone reads goes behind it: the greatest of what is cut off below 0 is the greatest, cut off (zeros may differ in their
/// sign). Its gradient then masks what was pooled, a quarter or a ninth of the values.
void pool_before_relu(Graph& graph);

}  // namespace systole
