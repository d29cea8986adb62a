// A float graph with QuantizeLinear and DequantizeLinear pairs where integers will do.
#pragma once
#include <map>
#include <set>
#include <string>

#include "graph/graph.h"
#include "quantize/ranges.h"

namespace systole {

struct RewriteOptions {
  std::string method = "percentile", weights = "int8";  ///< weights: int8 or int4 (weights alone, in groups)
  int64_t group = 32;                                    ///< of int4 weights along the contracted axis
  bool bias_correction = true;
  std::set<std::string> keep_float;                      ///< names of nodes that stay in float
};

/// Values whose ranges calibration has to find.
std::vector<ValueId> activations_to_observe(const Graph& graph);
/// Products that can be quantised, in order: with weights, and for int8 those of two activations as well.
std::vector<std::string> quantisable_nodes(const Graph& graph, const std::string& weights);
/// `histograms` by value. Per-channel symmetric int8 weights, uint8 activations, int32 biases; opset 13 on (int4: 21).
Graph insert_qdq(Graph graph, std::map<ValueId, Histogram> histograms, const RewriteOptions& options);

/// Cross-layer equalisation (Nagel et al. 2019, section 4.1): scales of channels between two convolutions, with at most a
/// Relu between them, are made equal. Returns the number of pairs.
int equalise(Graph& graph);

}  // namespace systole
