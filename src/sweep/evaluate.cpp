#include "sweep/evaluate.h"

#include "base/error.h"
#include "base/file.h"
#include "codegen/compile.h"
#include "passes/partition.h"
#include "passes/pipeline.h"
#include "runtime/model_file.h"
#include "sim/energy/energy.h"
#include "sim/timing/timing.h"

namespace systole {

SweepModel primitives_of(const FrontResult& front, const std::string& name) {
  SweepModel m;
  m.name = name, m.precision = front.precision;
  Partition p = partition(front.graph, front.policy);
  m.host_nodes = p.host_nodes;
  m.graphs = fused_programs(std::move(p), front.policy);
  if (m.graphs.empty()) fail(ErrorCode::kUnsupported, name, "a model whose programs are compiled only when a run brings its data, or that the host runs alone", "shapes that are known", "'systole check' says why");
  return m;
}

SweepModel read_model(const std::string& path, const CompileOptions& options) {
  const auto bytes = read_file(path);
  SweepModel m = primitives_of(run_onnx_passes(read_onnx(path, options), options.precision), model_name(path));
  m.content = content_hash({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  return m;
}

PointCost evaluate(const std::vector<SweepModel>& models, const Machine& machine, Effort effort) {
  PointCost cost;
  try {
    const EnergyModel energy(machine);
    cost.area_mm2 = energy.area_mm2().total();
    for (const SweepModel& m : models) {
      ModelCost c;
      for (const Graph& g : m.graphs) {
        const isa::Program program = generate(g, machine, m.precision, {.judge = judge_on(machine), .effort = effort, .code_only = true});
        const isa::Sequence sequence = isa::sequence(program);
        const Timing timing = simulate(sequence, machine);
        const ProgramEnergy e = program_energy(energy, machine, sequence, timing);
        c.cycles += timing.cycles;
        c.energy_j += e.dynamic.total() + e.constant.total();
      }
      c.latency_s = static_cast<double>(c.cycles) / static_cast<double>(machine.clock_hz);
      cost.models.push_back(c);
    }
  } catch (const Failure& f) {
    cost.error = f.what();
    cost.models.clear();
  }
  return cost;
}

}  // namespace systole
