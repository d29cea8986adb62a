// Graph of ONNX operators to a file: what the quantiser and the trainer hand back to the user.
#pragma once
#include <string>

#include "graph/graph.h"

namespace systole {

/// `doc` is stored as the model's doc_string.
void write_onnx(const Graph& graph, int opset, const std::string& doc, const std::string& path);

}  // namespace systole
