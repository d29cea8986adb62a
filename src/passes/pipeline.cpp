#include "passes/pipeline.h"

namespace systole {
namespace {

/// True when the observer asks to stop after this phase.
bool reached(FrontResult& r, const char* phase, const PhaseObserver& observer) {
  verify(r.graph, phase);
  r.stopped = observer && !observer(phase, r.graph);
  return r.stopped;
}

}  // namespace

FrontResult run_onnx_passes(Graph graph, const std::string& precision, const PhaseObserver& observer) {
  FrontResult r;
  r.graph = std::move(graph);
  if (reached(r, "import", observer)) return r;
  simplify(r.graph);
  recognise_gelu(r.graph);
  recognise_normalization(r.graph);
  if (reached(r, "simplify", observer)) return r;
  r.precision = policy_name(r.graph, precision);
  r.policy = choose_policy(r.graph, precision);
  recognise_qdq(r.graph);
  reached(r, "quantise", observer);
  return r;
}

FrontResult run_simplify(Graph graph, const std::string& precision) {
  FrontResult r;
  r.graph = std::move(graph);
  simplify(r.graph);
  r.precision = policy_name(r.graph, precision), r.policy = choose_policy(r.graph, precision);
  return r;
}

FrontResult run_front(Graph graph, const std::string& precision, const PhaseObserver& observer) {
  FrontResult r = run_onnx_passes(std::move(graph), precision, observer);
  if (r.stopped) return r;
  r.graph = legalise(r.graph, r.policy);
  if (reached(r, "legalise", observer)) return r;
  fuse_maps(r.graph);
  reached(r, "fuse", observer);
  return r;
}

}  // namespace systole
