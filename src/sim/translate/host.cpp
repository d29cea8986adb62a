#include "sim/translate/host.h"

#ifdef SYSTOLE_X86
#include <cpuid.h>
#endif

namespace systole {
#ifdef SYSTOLE_X86
namespace {

/// Compilers differ in whether their own question for CPU features knows this one.
bool has_f16c() {
  unsigned a, b, c = 0, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

}  // namespace
#endif

KernelIsa kernel_isa() {
#ifdef SYSTOLE_X86
  static const bool vnni = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi"), halves = has_f16c();
  if (host_isa() >= HostIsa::kAvx512 && vnni) return KernelIsa::kAvx512;
  if (host_isa() >= HostIsa::kAvx2 && halves) return KernelIsa::kAvx2;
#endif
  return KernelIsa::kNone;
}

}  // namespace systole
