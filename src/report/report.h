// Report from a program and its timing.
#pragma once
#include "isa/program.h"
#include "sim/timing/timing.h"
#include "systole/systole.h"

namespace systole {

/// Timing, energy and layers of one program.
Report make_report(const isa::Program& program, const Machine& machine, const isa::Sequence& sequence, const Timing& timing);

/// Fills Report::energy and the layers' share of it. Fails (kBadInput, kNotFound) like EnergyModel.
void add_energy(Report& report, const isa::Program& program, const Machine& machine, const isa::Sequence& sequence, const Timing& timing);
/// Powers and ratios that follow from joules, time and multiply-adds.
void derive_power(Report& report);

}  // namespace systole
