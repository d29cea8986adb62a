#include "sim/translate/host.h"

namespace systole {

bool has_avx512_kernels() {
#ifdef SYSTOLE_HAS_AVX512
  return host_isa() >= HostIsa::kAvx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
#else
  return false;
#endif
}

}  // namespace systole
