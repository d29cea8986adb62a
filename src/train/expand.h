// Operators that learn in their parts: written out as others, whose gradients are known.
#pragma once
#include <vector>

#include "train/builder.h"

namespace systole {

/// y = (x - mean) / sqrt(variance + epsilon) scale + bias, along axis 1 (BatchNormalization 15).
ValueId expand_batch_normalization(Builder& b, const Node& n, ValueId x, ValueId scale, ValueId bias, ValueId mean, ValueId variance);

/// LayerNormalization 17, with its mean and inverse deviation as outputs for its gradient.
ValueId expand_layer_normalization(Builder& b, const Node& n, ValueId x, ValueId scale, ValueId bias);

/// RMSNormalization 23 and SimplifiedLayerNormalization.
ValueId expand_rms_normalization(Builder& b, const Node& n, ValueId x, ValueId scale);
/// InstanceNormalization 6: each image and channel by itself.
ValueId expand_instance_normalization(Builder& b, const Node& n, ValueId x, ValueId scale, ValueId bias);

/// Operators without a gradient of their own that the compiler writes as others (Attention, GroupNormalization, the fused ones of
/// com.microsoft), as those: their parts learn. Shapes of all values are known before and after.
void write_out(Graph& graph);

/// Whether `type` is LSTM, GRU or RNN.
bool is_recurrent(const std::string& type);
/// LSTM 14, GRU 14, RNN 14, step after step; a value per output of the node (kNoValue where it has none). Fails (kUnsupported)
/// on peepholes, sequence lengths, clipping, layout 1 and activations of one's own. `inputs` are the node's, weights included.
std::vector<ValueId> expand_recurrent(Builder& b, const Node& n, const std::vector<ValueId>& inputs);

}  // namespace systole
