// Text form of a graph: one JSON object per line (a value, a node, or the interface), so that any phase can be printed,
// compared line by line, edited and read back.
#pragma once
#include <string>

#include "graph/graph.h"

namespace systole {

/// `with_data` writes constants in full (needed to parse back); otherwise only their content hash.
std::string print_graph(const Graph& graph, bool with_data);
/// Reads what print_graph(graph, true) wrote. Fails with `source`:line.
Graph parse_graph(const std::string& text, const std::string& source);

}  // namespace systole
