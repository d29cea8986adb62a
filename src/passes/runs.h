// What passes share that choose runs of nodes to go through the scratchpad in blocks.
#pragma once
#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "machine/cost.h"

namespace systole {

/// Cycles, and half of those that DRAM needs: as programs are judged (docs/decisions/0013).
inline int64_t run_cost(const Machine& machine, int64_t array_cycles, int64_t dram_bytes) {
  const int64_t dram_cycles = dram_bound_cycles(machine, dram_bytes);
  return std::max(array_cycles, dram_cycles) + dram_cycles / 2;
}

/// Runs of a graph's nodes, none within another, that save most together, the last one first. `grow(first, offer)` calls offer(last, run) for runs
/// from node `first` to node `last`; a run says its saved_cost.
template <class Run, class Grow>
std::vector<Run> best_runs(size_t nodes, Grow&& grow) {
  struct Best {
    int64_t saved_cost = 0;  ///< by the nodes before this one
    size_t from = 0;         ///< where its last run begins
    std::optional<Run> run;
  };
  std::vector<Best> best(nodes + 1);
  for (size_t first = 0; first < nodes; ++first) {
    if (best[first + 1].saved_cost < best[first].saved_cost) best[first + 1] = {best[first].saved_cost, first, {}};
    grow(first, [&](size_t last, Run run) {
      const int64_t saved = best[first].saved_cost + run.saved_cost;
      if (saved > best[last + 1].saved_cost) best[last + 1] = {saved, first, std::move(run)};
    });
  }
  std::vector<Run> runs;
  for (size_t at = nodes; at > 0; at = best[at].run ? best[at].from : at - 1) {
    if (best[at].run) runs.push_back(std::move(*best[at].run));
  }
  return runs;
}

}  // namespace systole
