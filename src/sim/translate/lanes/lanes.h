// Vectors of the instruction set that a file is compiled for. Every source of this folder is compiled once per instruction set,
// with SYSTOLE_LANES its name, into the namespace of that name; the lanes' vocabulary (Floats, load_floats, fma ...) is the same in all.
//
// Matrix kernels work on sixteen lanes: Floats, Ints, Mask, whatever registers that takes. Functions and machine code work on
// registers as they are: NativeFloats, NativeInts, NativeMask of kNativeLanes. A count n of 1 to 16 is of the first lanes; the
// others are read as zero and not written.
#pragma once
#include "sim/translate/host.h"

#ifdef SYSTOLE_X86
#define SYSTOLE_LANES_avx2 1
#define SYSTOLE_LANES_avx512 2
#define SYSTOLE_LANES_JOIN(a, b) a##b
#define SYSTOLE_LANES_OF(name) SYSTOLE_LANES_JOIN(SYSTOLE_LANES_, name)
#if SYSTOLE_LANES_OF(SYSTOLE_LANES) == SYSTOLE_LANES_avx2
#include "sim/translate/lanes/lanes_avx2.h"
#else
#include "sim/translate/lanes/lanes_avx512.h"
#endif
#endif
