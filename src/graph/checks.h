// Errors about a node of a model, and the rules of shapes and axes that all operators share.
#pragma once
#include <stdexcept>
#include <string>

#include "graph/graph.h"

namespace systole {

/// The model is valid, but this is not implemented (kUnsupported).
[[noreturn]] void unsupported(const Node& node, const std::string& why);
/// The model breaks the operator's schema (kBadInput).
[[noreturn]] void malformed(const Node& node, const std::string& found, const std::string& expected);
/// Runs f; a checked access that fails inside of it (an input, axis or list entry that is not there) is an error of the node.
template <class F>
void checked(const Node& node, F&& f) {
  try {
    f();
  } catch (const std::out_of_range&) {
    malformed(node, "inputs, attributes or ranks that do not fit together", "those of the operator's schema");
  }
}
/// ONNX (numpy) broadcasting of two shapes; fails naming the node.
Shape broadcast_shapes(const Node& node, const Shape& a, const Shape& b);
/// Axis in [0, rank) from a possibly negative one; fails naming the node.
int64_t normalise_axis(const Node& node, int64_t axis, size_t rank);

}  // namespace systole
