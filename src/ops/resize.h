// Resize and Upsample as matrices, for what has to know more than their results: gradients.
#pragma once
#include <functional>
#include <vector>

#include "graph/graph.h"

namespace systole {

/// Per axis, the weights [extent, new extent] by which the node's output is a product of its input (of shape `in`) along that axis; an empty
/// tensor where the axis stays. `constant(k)` is input k, null where it is not known: kUnsupported, as for crops.
std::vector<Tensor> resize_weights(const Node& node, const Shape& in, const std::function<TensorPtr(size_t)>& constant);

}  // namespace systole
