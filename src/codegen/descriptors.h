// Registers for descriptors: emission says what an instruction needs, this pass where it is held and when it is written.
#pragma once
#include "codegen/emitter.h"

namespace systole {

/// Sets the registers that the code names and inserts the instructions that write them, the longest unused register first.
void assign_descriptors(std::vector<Emitted>& code, const std::vector<Descriptor>& descriptors);

/// The instruction itself, its descriptor's register set.
isa::Instruction instruction_of(const Emitted& emitted, const std::vector<Descriptor>& descriptors);

}  // namespace systole
