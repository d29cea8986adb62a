// The back half of the compiler: fused primitives to a program.
#pragma once
#include <functional>
#include <string>

#include "graph/graph.h"
#include "isa/program.h"
#include "machine/machine.h"

namespace systole {

inline constexpr const char* kBackPhases[] = {"tile", "emit", "synchronise", "link"};

/// Says how good a linked program is; less is better. The compiler does not know the machine models, so whoever has one
/// passes it in. Called on programs whose constants are not filled in yet.
using Judge = std::function<int64_t(const isa::Program&)>;

/// Places, tiles, emits, synchronises and links. Tries several splits of the scratchpad between resident tensors and
/// the staging ring and several tile preferences, and keeps the best: by `judge`, or by the sum over layers of the
/// busiest engine's cycles.
isa::Program generate(const Graph& graph, const Machine& machine, const std::string& precision, const Judge& judge = {});

}  // namespace systole
