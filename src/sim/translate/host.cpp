#include "sim/translate/host.h"

namespace systole {

KernelIsa kernel_isa() {
#ifdef SYSTOLE_X86
  static const bool vnni = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi"), halves = __builtin_cpu_supports("f16c");
  if (host_isa() >= HostIsa::kAvx512 && vnni) return KernelIsa::kAvx512;
  if (host_isa() >= HostIsa::kAvx2 && halves) return KernelIsa::kAvx2;
#endif
  return KernelIsa::kNone;
}

}  // namespace systole
