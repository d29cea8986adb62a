// Activations computed twice instead of kept: the forward graph in segments, of which only the borders stay until backward; the rest is
// computed again from them (Chen et al. 2016, "Training deep nets with sublinear memory cost").
#pragma once
#include <cstdint>
#include <string>

#include "graph/graph.h"

namespace systole {

struct RecomputeOptions {
  std::string mode = "none";  ///< none; block: every block by itself; full: the least memory; auto: as little work again as the budget allows
  int64_t budget_bytes = 0;   ///< of auto
};

struct Recomputed {
  int64_t segments = 1;
  size_t nodes = 0;             ///< computed twice
  int64_t kept_bytes = 0;       ///< estimate: greatest total of tensors that live at once
};

/// Rewrites a step's graph whose first `forward_nodes` nodes are the forward pass, in order. Results keep their bits in fp32; in
/// bf16 other maps are fused, and round at other places. Fails (kBadInput)
/// on an unknown mode.
Recomputed recompute(Graph& graph, size_t forward_nodes, const RecomputeOptions& options);

}  // namespace systole
