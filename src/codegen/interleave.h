// The instructions of a contraction and of steps beside it as one program: both progress at the same rate.
#pragma once
#include "codegen/emitter.h"

namespace systole {

/// code[first, second) is a contraction, code[second, end) what does not depend on it and uses other parts of the ring.
void interleave(std::vector<Emitted>& code, size_t first, size_t second, const std::vector<Descriptor>& descriptors);

}  // namespace systole
