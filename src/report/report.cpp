#include "report/report.h"

#include <algorithm>

#include "isa/geometry.h"
#include "machine/cost.h"
#include "machine/instruction_cost.h"

namespace systole {

std::string LayerReport::bound_by() const {
  if (mx_cycles >= vx_cycles && mx_cycles >= dma_cycles) return "MX";
  return vx_cycles >= dma_cycles ? "VX" : "DMA";
}

namespace {
/// Cycles of each layer's busiest engine: at work, and stalled before one of the layer's instructions.
void split_cycles(Report& r, const isa::Program& program, const isa::Sequence& sequence, const Timing& timing) {
  using Cycles = std::array<int64_t, 1 + kStalls>;  // busy, then the stalls
  std::vector<std::array<Cycles, isa::kEngines>> of(r.layers.size());
  for (size_t i = 0; i < sequence.ops.size(); ++i) {
    Cycles& c = of[program.layer_of[sequence.ops[i].index]][static_cast<size_t>(sequence.ops[i].engine)];
    c[0] += timing.events[i].retire - timing.events[i].start;
    for (size_t s = 0; s < kStalls; ++s) c[1 + s] += timing.events[i].stalled[s];
  }
  for (size_t l = 0; l < of.size(); ++l) {
    const Cycles& busiest = *std::max_element(of[l].begin(), of[l].end(), [](const Cycles& a, const Cycles& b) { return a[0] < b[0]; });
    r.layers[l].cycles_by_reason["busy"] = busiest[0];
    for (size_t s = 0; s < kStalls; ++s) {
      if (static_cast<Stall>(s) != Stall::kDone && static_cast<Stall>(s) != Stall::kFetch) r.layers[l].cycles_by_reason[to_string(static_cast<Stall>(s))] = busiest[1 + s];
    }
  }
}
}  // namespace

Report make_report(const isa::Program& program, const Machine& machine, const isa::Sequence& sequence, const Timing& timing) {
  Report r;
  r.model = program.model, r.machine = program.machine_name, r.precision = program.precision;
  r.cycles = timing.cycles, r.macs = timing.macs, r.instructions = static_cast<int64_t>(sequence.ops.size());
  r.clock_hz = static_cast<double>(machine.clock_hz);
  r.latency_s = static_cast<double>(r.cycles) / r.clock_hz;
  r.throughput_per_s = r.cycles ? 1 / r.latency_s : 0;
  for (const auto& l : program.layers) {
    LayerReport layer;
    layer.name = l.name, layer.kind = l.kind, layer.macs = l.macs, layer.ideal_mx_cycles = l.ideal_mx_cycles;
    layer.first_cycle = INT64_MAX;
    r.layers.push_back(layer);
    r.bound_cycles += l.ideal_mx_cycles;
  }
  r.bound_cycles = std::max(r.bound_cycles, dram_bound_cycles(machine, program.compulsory_dram_bytes));
  if (sequence.ops.empty()) r.bound_cycles = 0;  // outputs that are their inputs under another shape
  r.efficiency = r.cycles ? static_cast<double>(r.bound_cycles) / static_cast<double>(r.cycles) : 0;
  for (size_t i = 0; i < sequence.ops.size(); ++i) {
    const auto& op = sequence.ops[i];
    const Event& e = timing.events[i];
    LayerReport& l = r.layers[program.layer_of[op.index]];
    ++l.instructions;
    l.first_cycle = std::min(l.first_cycle, e.start), l.last_cycle = std::max(l.last_cycle, e.retire);
    if (op.engine == isa::Engine::kMatrix) l.mx_cycles += e.retire - e.start;
    else if (op.engine == isa::Engine::kVector) l.vx_cycles += e.retire - e.start;
    else if (const auto* c = std::get_if<isa::CopyOp>(&op.op)) {
      const bool dram = c->src == isa::Space::kDram || c->dst == isa::Space::kDram;
      const int64_t bytes = isa::runs_of(*c->desc).bytes();
      l.dma_cycles += std::max<int64_t>(1, bytes / (dram ? machine.dram.bytes_per_cycle : machine.dma.bytes_per_cycle));
      if (dram) l.dram_bytes += bytes;
    } else if (const auto* d = std::get_if<isa::DequantizeOp>(&op.op)) {
      l.dma_cycles += std::max(port_cycles(machine, *d), d->source_bytes() / machine.dram.bytes_per_cycle);
      l.dram_bytes += d->source_bytes();
    }
  }
  split_cycles(r, program, sequence, timing);
  for (LayerReport& l : r.layers) {
    if (l.first_cycle == INT64_MAX) l.first_cycle = l.last_cycle = 0;
  }
  for (size_t e = 0; e < isa::kEngines; ++e) {
    EngineReport engine;
    engine.name = isa::to_string(static_cast<isa::Engine>(e));
    engine.busy_cycles = timing.engines[e].busy;
    for (int s = 0; s < kStalls; ++s) engine.stall_cycles[to_string(static_cast<Stall>(s))] = timing.engines[e].stalled[static_cast<size_t>(s)];
    r.engines.push_back(std::move(engine));
  }
  r.dram_read_bytes = timing.dram_read_bytes, r.dram_write_bytes = timing.dram_write_bytes;
  r.weights_bytes = program.weights_bytes, r.scratchpad_peak_bytes = program.scratchpad_peak_bytes, r.dram_footprint_bytes = static_cast<int64_t>(program.dram_bytes);
  r.nodes_on_npu = static_cast<int64_t>(program.layers.size());
  add_energy(r, program, machine, sequence, timing);
  derive_power(r);
  return r;
}

}  // namespace systole
