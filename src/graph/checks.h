// Errors about a node of a model, and the rules of shapes and axes that all operators share.
#pragma once
#include <string>

#include "graph/graph.h"

namespace systole {

/// The model is valid, but this is not implemented (kUnsupported).
[[noreturn]] void unsupported(const Node& node, const std::string& why);
/// The model breaks the operator's schema (kBadInput).
[[noreturn]] void malformed(const Node& node, const std::string& found, const std::string& expected);
/// ONNX (numpy) broadcasting of two shapes; fails naming the node.
Shape broadcast_shapes(const Node& node, const Shape& a, const Shape& b);
/// Axis in [0, rank) from a possibly negative one; fails naming the node.
int64_t normalise_axis(const Node& node, int64_t axis, size_t rank);

}  // namespace systole
