// Large allocations on huge pages: weights of hundreds of megabytes are touched once per copy, and a quarter of a compilation was the
// kernel clearing them page by page. Where huge pages are not to be had, nothing changes.
#include <sys/mman.h>

#include <cstdlib>
#include <new>

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
namespace {
constexpr std::size_t kHugePage = std::size_t{2} << 20, kLarge = kHugePage / 4;
}  // namespace

[[gnu::noinline]] void* operator new(std::size_t bytes) {
  void* p = nullptr;
  if (bytes >= kLarge) {
    const std::size_t whole = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    p = std::aligned_alloc(kHugePage, whole);
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
