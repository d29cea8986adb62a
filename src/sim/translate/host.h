// The host features that the kernels of this folder are written for; without them programs run on the interpreter.
#pragma once
#include "sim/functional/executor.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define SYSTOLE_X86 1
#endif
/// Before a loop over the registers of a tile.
#define SYSTOLE_UNROLL _Pragma("GCC unroll 16")

namespace systole {

/// Instruction sets that kernels are compiled for. kAvx2 asks for FMA and F16C too, kAvx512 for VNNI and VBMI (Ice Lake, Zen 4 and later).
enum class KernelIsa : uint8_t { kNone, kAvx2, kAvx512 };

/// The best that this host has and SYSTOLE_HOST_ISA allows.
KernelIsa kernel_isa();
inline bool has_kernels() { return kernel_isa() != KernelIsa::kNone; }

/// Whether integer operations on vectors have units of their own beside those of multiply-adds, so that both proceed at once (AMD).
bool integers_beside_floats();
/// Tests: as if this host were so, or not. Results are the same.
void assume_integers_beside_floats(bool is_so);

}  // namespace systole
