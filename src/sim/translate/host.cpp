#include "sim/translate/host.h"

#include <atomic>

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

bool is_amd() {
  unsigned a, b, c, d;
  return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
}

std::atomic<bool> g_integers_beside_floats{is_amd()};

}  // namespace

bool integers_beside_floats() { return g_integers_beside_floats; }
void assume_integers_beside_floats(bool is_so) { g_integers_beside_floats = is_so; }
#else
bool integers_beside_floats() { return false; }
void assume_integers_beside_floats(bool) {}
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
