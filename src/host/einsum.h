// The equation of Einsum: a label for each axis of each term and of the result.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace systole {

/// Source: ONNX Einsum (12), which follows numpy.einsum.
struct EinsumEquation {
  std::vector<std::string> terms;  ///< a label per axis; those of "..." are digits, '0' the last
  std::string result;
  std::map<char, int64_t> extents;  ///< an axis of extent 1 is broadcast

  /// `shapes` of the node's inputs. Fails (kMalformed) where the equation and they do not agree.
  EinsumEquation(const Node& node, const std::vector<Shape>& shapes);
  /// Labels that the result lacks, over which is summed.
  std::string summed() const;
};

}  // namespace systole
