// Activations that a model writes in parts become one operator: its gradient needs the input alone, those of the parts need each other.
#pragma once
#include "graph/graph.h"

namespace systole {

/// Gelu 20, exact or by tanh, from the products and sums that exporters write for it. Shapes of all values are known before and after.
void recognise_gelu(Graph& graph);

}  // namespace systole
