// A model for one sample as a model for several at once: most files fix a batch of 1, in their inputs and in the shapes that exporters write.
#pragma once
#include "graph/graph.h"

namespace systole {

/// Whether a recurrent layer reads an input itself, whose first axis is time then.
bool begins_with_time(const Graph& graph);

/// Gives every input's first axis `batch` samples. Where outputs do not follow, constant shapes to reshape to that begin with 1 begin with
/// `batch`; or samples are followed to the axes where the model puts them (tokens, heads or windows of all samples), which grow, and constants
/// beside them are repeated. Either only if samples stay by themselves: their outputs are compared with those of each alone. Fails (kUnsupported) where inputs have no
/// common first extent or begin with time, or where outputs do not follow.
void rebatch(Graph& graph, int64_t batch);

}  // namespace systole
