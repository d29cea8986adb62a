// Puts this thread's SSE/AVX arithmetic into flush-to-zero and denormals-are-zero, which is what dot32 asks for
// (docs/numerics.md), and back at the end of the scope.
#pragma once
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace systole {

class FlushMode {
 public:
#if defined(__x86_64__)
  FlushMode() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
  ~FlushMode() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#endif
};

}  // namespace systole
