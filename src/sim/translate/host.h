// The host features that the kernels of this folder are written for; without them programs run on the interpreter.
#pragma once
#include "sim/functional/executor.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define SYSTOLE_HAS_AVX512 1
#define SYSTOLE_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,fma,f16c")))
#define SYSTOLE_AVX512_INLINE __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,fma,f16c"), always_inline)) inline
#endif
/// Before a loop over the registers of a tile.
#define SYSTOLE_UNROLL _Pragma("GCC unroll 16")

namespace systole {

/// Whether this host, and SYSTOLE_HOST_ISA, allow the AVX-512 kernels (with VNNI and VBMI: Ice Lake, Zen 4 and later).
bool has_avx512_kernels();

}  // namespace systole
