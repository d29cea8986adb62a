// The back half of the compiler: fused primitives to a program.
#pragma once
#include <functional>
#include <string>

#include "graph/graph.h"
#include "isa/program.h"
#include "machine/machine.h"

namespace systole {

/// Names of the back phases that `stop_after` takes: where tensors live; instructions with the bytes they touch; the same
/// with lock groups and distances.
inline constexpr const char* kBackPhases[] = {"place", "emit", "synchronise"};

/// Says how good a linked program is; less is better. The compiler does not know the machine models, so whoever has one
/// passes it in. Called on programs whose constants are not filled in yet, and on programs that leave out most blocks of a network that repeats
/// them. A cost beyond `limit` may be any number beyond it.
using Judge = std::function<int64_t(const isa::Program&, const std::vector<isa::StandIn>&, int64_t limit)>;

/// How many candidates are tried: a quarter of the usual ones, those that win most often (sweeps); the usual ones; or from the best of these on their
/// neighbours too, until none is better (programs that run thousands of times).
enum class Effort { kQuick, kUsual, kThorough };

struct GenerateOptions {
  Judge judge;                   ///< default: the sum over layers of the busiest engine's cycles
  Effort effort = Effort::kUsual;
  bool least_memory = false;     ///< a byte of DRAM that the program needs costs as much as moving it sixteen times beside other work
  bool code_only = false;        ///< leave the constants out: for timing alone
  std::string stop_after;        ///< a back phase: its text goes to phase_text, for the candidate that was chosen
  std::string* phase_text = nullptr;
};

/// Places, tiles, emits, synchronises and links. Tries several splits of the scratchpad between resident tensors and
/// the staging ring and several tile preferences, and keeps the best.
isa::Program generate(const Graph& graph, const Machine& machine, const std::string& precision, const GenerateOptions& options = {});

}  // namespace systole
