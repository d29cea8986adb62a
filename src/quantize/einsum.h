// Einsum as products of matrices, which are what is quantised.
#pragma once
#include "graph/graph.h"

namespace systole {

bool has_einsum(const Graph& graph);
/// Einsum nodes whose shapes are known become MatMul, with Transpose and Reshape around it where they have to.
void write_einsum_as_matmul(Graph& graph);

}  // namespace systole
