// Text of the back phases, for --stop-after.
#pragma once
#include <string>

#include "codegen/emitter.h"

namespace systole {

/// One line per stored tensor: space, address, bytes, first and last step, type, shape, name.
std::string print_placement(const Graph& graph, const Schedule& schedule, const Placement& placement);
/// Assembly, a comment with the bytes each instruction reads and writes, a heading per layer. Without `waits`, lock groups
/// and distances are left out.
std::string print_emitted(const std::vector<Emitted>& code, const std::vector<Descriptor>& descriptors, const std::vector<isa::Layer>& layers, bool waits);

}  // namespace systole
