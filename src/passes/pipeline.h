// The front half of the compiler: ONNX graph in, fused primitives out. The list of phases, on one page.
#pragma once
#include <functional>
#include <string>

#include "passes/passes.h"

namespace systole {

/// Names of the phases in order, as --stop-after takes them. The back half (schedule, codegen) continues the list.
inline constexpr const char* kFrontPhases[] = {"import", "simplify", "quantise", "legalise", "fuse"};

/// Called after each phase with its name and the graph; returns false to stop there.
using PhaseObserver = std::function<bool(const std::string& phase, const Graph& graph)>;

struct FrontResult {
  Graph graph;
  bool stopped = false;   ///< the observer asked to stop
  std::string precision;  ///< resolved name
  FloatPolicy policy;
};
/// The passes over ONNX operators alone: import's graph, simplified, and recognised what it writes in parts or quantised.
FrontResult run_onnx_passes(Graph graph, const std::string& precision, const PhaseObserver& observer = {});
/// The first of them alone, for what goes back to the user as ONNX: its operators stay those of the file.
FrontResult run_simplify(Graph graph, const std::string& precision);
/// All of them: everything must lower to primitives.
FrontResult run_front(Graph graph, const std::string& precision, const PhaseObserver& observer = {});

}  // namespace systole
