#include "base/bytes.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#include "base/huge_pages.h"

namespace systole {

ZeroedMemory::ZeroedMemory(size_t size, bool dense) : size_(size) {
  if (size == 0) return;
  if (size > SIZE_MAX / 2) throw std::bad_alloc();
  const bool huge = dense && size >= kWorthHugePage;
  const size_t mapped = huge ? whole_huge_pages(size) + kHugePage : size;  // one more, to begin where one begins
  void* at = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) throw std::bad_alloc();
  auto* begin = static_cast<uint8_t*>(at);
  if (huge) {
    begin += (kHugePage - reinterpret_cast<uintptr_t>(at) % kHugePage) % kHugePage;
    ::madvise(begin, whole_huge_pages(size), MADV_HUGEPAGE);
  }
  data_ = std::unique_ptr<uint8_t, Unmap>(begin, Unmap{at, mapped});
}

void ZeroedMemory::Unmap::operator()(uint8_t*) const { ::munmap(mapping, size); }

}  // namespace systole
