// Report from a program and its timing.
#pragma once
#include "isa/program.h"
#include "sim/timing/timing.h"
#include "systole/systole.h"

namespace systole {

Report make_report(const isa::Program& program, const Machine& machine, const isa::Sequence& sequence, const Timing& timing);

}  // namespace systole
