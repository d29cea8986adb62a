#include "passes/pipeline.h"

namespace systole {

FrontResult run_front(Graph graph, const std::string& precision, const PhaseObserver& observer) {
  FrontResult r;
  r.graph = std::move(graph);
  auto reached = [&](const char* phase) {
    verify(r.graph, phase);
    r.stopped = observer && !observer(phase, r.graph);
    return r.stopped;
  };
  if (reached("import")) return r;
  check_supported(r.graph);
  simplify(r.graph);
  if (reached("simplify")) return r;
  r.precision = policy_name(r.graph, precision);
  const FloatPolicy policy = choose_policy(r.graph, precision);
  recognise_qdq(r.graph);
  if (reached("quantise")) return r;
  r.graph = legalise(r.graph, policy);
  if (reached("legalise")) return r;
  fuse_maps(r.graph);
  reached("fuse");
  return r;
}

}  // namespace systole
