// The image of a program's constants: weights as the array reads them.
#pragma once
#include "base/bytes.h"
#include "codegen/emitter.h"

namespace systole {

/// Every constant that the emitter placed, at its offset; zeros between them.
Bytes constants_of(const Graph& graph, const Emitter& emitter);

}  // namespace systole
