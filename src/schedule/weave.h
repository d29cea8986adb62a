// Which steps may run beside a contraction: it keeps MX busy while maps and copies that do not depend on it keep DRAM busy. Program
// order interleaves their instructions (codegen/interleave.h).
#pragma once
#include "machine/machine.h"
#include "schedule/steps.h"

namespace systole {

/// The same work with copies in front of products that leave DRAM time for them: dispatch is in order, and a copy behind many products would
/// be seen only when the last of them has a place in its queue.
std::vector<Step> copies_first(const Graph& graph, const std::vector<Step>& steps, const std::vector<ValueId>& root, const Machine& machine);

/// Whether a step makes sums or the like of a tensor that are much smaller than it.
bool sums_only(const Graph& graph, const Step& step);

/// The same work with large copies and such sums beside contractions that leave DRAM the time for them, marked `with` it.
std::vector<Step> copies_beside(const Graph& graph, const std::vector<Step>& steps, const std::vector<ValueId>& root, const Machine& machine);
/// The same with those copies alone that have no place in the scratchpad: the program's large outputs, and what takes more than half of it. What is
/// brought into the scratchpad comes when it is needed, and steps beside nothing may have small rings.
std::vector<Step> passing_copies_beside(const Graph& graph, const std::vector<Step>& steps, const std::vector<ValueId>& root, const Machine& machine);

/// The same work with such steps moved behind their contraction and marked `with` it. `root` as in Schedule.
std::vector<Step> weave(const Graph& graph, const std::vector<Step>& steps, const std::vector<ValueId>& root, const Machine& machine);

}  // namespace systole
