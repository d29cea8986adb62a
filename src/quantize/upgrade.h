// Operators of older opsets in the form of a newer one.
#pragma once
#include "graph/graph.h"

namespace systole {

/// Rewrites nodes of the default domain so that their meaning at `opset` is the one they had. Fails (kUnsupported) naming
/// a node whose meaning would change.
void upgrade_opset(Graph& graph, int opset);

}  // namespace systole
