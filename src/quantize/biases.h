// MatMul and the addition of its bias as one Gemm.
#pragma once
#include <map>

#include "graph/graph.h"
#include "quantize/ranges.h"

namespace systole {

/// A MatMul with constant weights [K, N] whose only reader adds a constant of N values becomes a Gemm, its input flattened to two dimensions if it has more
/// (with `histograms` of its own). Its bias is then one of the sums, and runtimes that keep products without codes behind them in float compute a Gemm in
/// integers. Where the input's shape is not known nothing changes.
void join_biases(Graph& graph, std::map<ValueId, Histogram>& histograms);

}  // namespace systole
