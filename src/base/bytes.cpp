#include "base/bytes.h"

#include <sys/mman.h>

#include <new>

namespace systole {

ZeroedMemory::ZeroedMemory(size_t size, bool dense) : size_(size) {
  if (size == 0) return;
  constexpr size_t kHugePage = size_t{2} << 20;
  const bool huge = dense && size >= kHugePage / 4;
  const size_t mapped = huge ? (size + 2 * kHugePage - 1) / kHugePage * kHugePage : size;
  void* at = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) throw std::bad_alloc();
  auto* begin = static_cast<uint8_t*>(at);
  if (huge) {
    begin += (kHugePage - reinterpret_cast<uintptr_t>(at) % kHugePage) % kHugePage;
    ::madvise(begin, (size + kHugePage - 1) / kHugePage * kHugePage, MADV_HUGEPAGE);
  }
  data_ = std::unique_ptr<uint8_t, Unmap>(begin, Unmap{at, mapped});
}

void ZeroedMemory::Unmap::operator()(uint8_t*) const { ::munmap(mapping, size); }

}  // namespace systole
