// The constant that this thread's next product reads: kernels fetch it, a few lines now and then, while they compute. Weights of a network are more
// than the caches hold, and a core that waits for them multiplies nothing.
#pragma once
#include <cstdint>

namespace systole {

struct Upcoming {
  uintptr_t at = 0, end = 0;
};
inline thread_local Upcoming t_upcoming;

/// The next `lines` lines of it, if any are left, towards the second-level cache.
__attribute__((always_inline)) inline void fetch(Upcoming& u, int lines) {
  for (int i = 0; i < lines; ++i) __builtin_prefetch(reinterpret_cast<const void*>(u.at + 64 * static_cast<uintptr_t>(i)), 0, 2);
  u.at = u.at < u.end ? u.at + 64 * static_cast<uintptr_t>(lines) : u.at;
}

}  // namespace systole
