// The energy part of a report.
#include <algorithm>

#include "machine/cost.h"
#include "report/report.h"
#include "sim/energy/energy.h"

namespace systole {
namespace {

constexpr size_t kPowerSteps = 240;

/// Operations per joule of the array at full rate with its operands already in the scratchpad, leakage and clock included.
double nominal_tops_per_w(const EnergyModel& model, const Machine& machine, bool floats) {
  const double macs = static_cast<double>(floats ? machine.mx.rows * machine.mx.columns * machine.mx.float_units : machine.macs_per_cycle());
  Activity a;
  (floats ? a.bf16_macs : a.integer_macs) = macs;
  a.cell_cycles = macs;
  a.array_bytes = static_cast<double>(machine.mx.a_word_bytes()) / static_cast<double>(std::max<int64_t>(1, machine.mx.rows_per_fetch));
  const double hz = static_cast<double>(machine.clock_hz);
  return 2e-12 * macs * hz / (model.joules(a).chip() * hz + model.static_watts().chip());
}

}  // namespace

void add_energy(Report& r, const isa::Program& program, const Machine& machine, const isa::Sequence& sequence, const Timing& timing) {
  const EnergyModel model(machine);
  const ProgramEnergy energy = program_energy(model, machine, sequence, timing);
  EnergyReport& e = r.energy;
  ByPart total = energy.dynamic;
  total += energy.constant;
  for (int i = 0; i < kParts; ++i) {
    const Part part = static_cast<Part>(i);
    e.parts.emplace_back(to_string(part)), e.joules.push_back(total[part]), e.area_mm2.push_back(model.area_mm2()[part]);
  }
  for (LayerReport& l : r.layers) l.energy_j.assign(kParts, 0);
  for (size_t i = 0; i < energy.instructions.size(); ++i) {
    auto& layer = r.layers[program.layer_of[sequence.ops[i].index]].energy_j;
    for (size_t p = 0; p < kParts; ++p) layer[p] += energy.instructions[i].value[p];
  }
  e.dynamic_j = energy.dynamic.total(), e.static_j = energy.constant.total();
  e.core_j = total.core(), e.chip_j = total.chip(), e.system_j = total.total();
  e.idle_w = model.idle_watts().total();
  e.power_w = power_track(energy, machine, timing, kPowerSteps);
  e.node_nm = model.technology().node_nm(), e.supply_v = model.technology().supply_v();
  e.nominal_tops_per_w = nominal_tops_per_w(model, machine, energy.activity.bf16_macs > energy.activity.integer_macs);
}

void derive_power(Report& r) {
  EnergyReport& e = r.energy;
  e.average_w = r.latency_s > 0 ? e.system_j / r.latency_s : 0;
  e.peak_w = e.power_w.empty() ? 0 : *std::max_element(e.power_w.begin(), e.power_w.end());
  e.tops_per_w = e.chip_j > 0 ? 2e-12 * static_cast<double>(r.macs) / e.chip_j : 0;
}

}  // namespace systole
