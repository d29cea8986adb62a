// Operators that learn in their parts: written out as others, whose gradients are known.
#pragma once
#include <vector>

#include "train/builder.h"

namespace systole {

/// y = (x - mean) / sqrt(variance + epsilon) scale + bias, along axis 1 (BatchNormalization 15).
ValueId expand_batch_normalization(Builder& b, const Node& n, ValueId x, ValueId scale, ValueId bias, ValueId mean, ValueId variance);

/// LayerNormalization 17, with its mean and inverse deviation as outputs for its gradient.
ValueId expand_layer_normalization(Builder& b, const Node& n, ValueId x, ValueId scale, ValueId bias);

/// LayerNormalization, RMSNormalization 23 and SimplifiedLayerNormalization, InstanceNormalization 6, LSTM, GRU and RNN as nodes that have
/// gradients: a value per output of the node. Empty for others.
std::vector<ValueId> expand_for_gradients(Builder& b, const Node& n);

/// Operators without a gradient of their own that the compiler writes as others (Attention, GroupNormalization, the fused ones of
/// com.microsoft), as those: their parts learn. Shapes of all values are known before and after.
void write_out(Graph& graph);

/// Whether `type` is LSTM, GRU or RNN.
bool is_recurrent(const std::string& type);

}  // namespace systole
