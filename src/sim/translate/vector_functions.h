// The VX functions (numerics/functions.h) on sixteen values at a time, bit for bit.
#pragma once
#include "isa/instruction.h"
#include "sim/translate/host.h"

#ifdef SYSTOLE_HAS_AVX512
#include <immintrin.h>

namespace systole {

/// One micro-operation that is a function of the function unit or built from them; b is read by those with two operands.
using VectorFunction = __m512 (*)(__m512 a, __m512 b);
/// Null for operations that are single host instructions.
VectorFunction vector_function(isa::Micro op);

}  // namespace systole
#endif
