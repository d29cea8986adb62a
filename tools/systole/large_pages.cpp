// Large allocations on huge pages: weights of hundreds of megabytes are touched once per copy, and a quarter of a compilation was the
// kernel clearing them page by page. Where huge pages are not to be had, nothing changes.
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#include "base/huge_pages.h"

// Sanitizers have allocators of their own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SYSTOLE_SANITIZED 1
#elif defined(__has_feature)
#define SYSTOLE_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SYSTOLE_SANITIZED 0
#endif

#if !SYSTOLE_SANITIZED
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
  void* p = nullptr;
  if (bytes >= systole::kWorthHugePage) {
    const std::size_t whole = systole::whole_huge_pages(bytes);
    p = std::aligned_alloc(systole::kHugePage, whole);
    if (p) madvise(p, whole, MADV_HUGEPAGE);
  } else {
    p = std::malloc(bytes ? bytes : 1);
  }
  if (!p) throw std::bad_alloc();
  return p;
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
#endif
