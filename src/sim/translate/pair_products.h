// Products of pairs of bf16 (AVX512_BF16's VDPBF16PS): two fused multiply-adds one after the other, the upper halves first, rounded to nearest,
// subnormals as zero. So it is two steps of a chain of dot32 (numerics/dot32.h) in one instruction, if both numbers of a pair are of that chain.
#pragma once
#include "sim/translate/host.h"

namespace systole {

/// Whether kernels use them: this host has them, SYSTOLE_HOST_ISA allows them, a test at the start found them equal to the definition, and
/// there are no tiles, which take sixteen steps.
bool has_pair_products();

}  // namespace systole
