// The back half of the compiler: fused primitives to a program.
#pragma once
#include <string>

#include "graph/graph.h"
#include "isa/program.h"
#include "machine/machine.h"

namespace systole {

inline constexpr const char* kBackPhases[] = {"tile", "emit", "synchronise", "link"};

/// Places, tiles, emits, synchronises and links. Tries several splits of the scratchpad between resident tensors and
/// the staging ring, and keeps the one whose estimated cycles are least.
isa::Program generate(const Graph& graph, const Machine& machine, const std::string& precision);

}  // namespace systole
