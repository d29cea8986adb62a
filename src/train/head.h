// A last layer of another width: what fine-tuning puts on a trained model for classes of its own.
#pragma once
#include "graph/graph.h"

namespace systole {

struct Head {
  int64_t outputs = 0;  ///< 0: the model's own
  uint64_t seed = 1;    ///< of its weights
};

/// Gives the last Gemm, MatMul or Conv before the graph's only output new weights, uniform within 1 / sqrt(inputs of an output), for so many
/// outputs, and a bias of zeros where it has one. Between it and the output may stand Softmax, LogSoftmax, Sigmoid, Flatten, Squeeze, Identity, Dropout
/// and the Add of its bias. Fails (kUnsupported) naming what stands there otherwise, and where other nodes read its weights.
void replace_last_layer(Graph& graph, const Head& head);

}  // namespace systole
