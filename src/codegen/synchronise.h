// Derives lock groups and distances from the byte ranges that emission recorded.
#pragma once
#include "codegen/emitter.h"

namespace systole {

/// For each instruction: the lock groups it touches, and for each engine the distance to the latest earlier instruction
/// there that it conflicts with (read after write, write after read, write after write).
void synchronise(std::vector<Emitted>& code, const Machine& machine);

}  // namespace systole
