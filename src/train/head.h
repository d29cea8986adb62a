// A last layer of another width: what fine-tuning puts on a trained model for classes of its own.
#pragma once
#include <string>

#include "graph/graph.h"

namespace systole {

struct Head {
  int64_t outputs = 0;  ///< 0: the model's own
  uint64_t seed = 1;    ///< of its weights
  std::string name{};   ///< of the output that the loss looks at, where a model has several
};

/// The graph's outputs with the one of this name first; its only one without a name. Fails (kBadInput) with the names there are.
void put_first(Graph& graph, const std::string& name);

/// Gives the last Gemm, MatMul or Conv before the graph's first output new weights, uniform within 1 / sqrt(inputs of an output), for so many
/// outputs, and a bias of zeros where it has one. Between it and the output may stand Softmax, LogSoftmax, Sigmoid, Flatten, Squeeze, Identity, Dropout
/// and the Add of its bias. Fails (kUnsupported) naming what stands there otherwise, and where other nodes read its weights.
void replace_last_layer(Graph& graph, const Head& head);

}  // namespace systole
