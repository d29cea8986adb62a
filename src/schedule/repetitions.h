// Blocks of steps that a network repeats: the layers of a transformer, the steps of a recurrent network. What is good for a few of them is
// good for all, so the search for a layout looks at a few.
#pragma once
#include <vector>

#include "isa/program.h"
#include "schedule/steps.h"

namespace systole {

/// `count` blocks of `period` steps from step `first` on, alike but for where their tensors lie and what their constants hold.
struct Repetition {
  size_t first, period, count;
};

/// Those worth most, in order of steps, none within another. Steps woven into one contraction are never in two blocks.
std::vector<Repetition> repetitions_of(const Graph& graph, const std::vector<Step>& steps);

/// Steps [from, to) that an excerpt of the work leaves out, and what stands for them: of each repetition the first blocks stay, until they settle,
/// those that stand for the others, and the last one.
struct LeftOut {
  size_t from, to;
  isa::StandIn by;
};
std::vector<LeftOut> left_out_of(const std::vector<Repetition>& repetitions);

}  // namespace systole
