#include "base/bytes.h"

#include <sys/mman.h>

#include <new>

namespace systole {

ZeroedMemory::ZeroedMemory(size_t size, bool dense) : size_(size) {
  if (size == 0) return;
  void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) throw std::bad_alloc();
  if (dense) ::madvise(at, size, MADV_HUGEPAGE);
  data_ = std::unique_ptr<uint8_t, Unmap>(static_cast<uint8_t*>(at), Unmap{size});
}

void ZeroedMemory::Unmap::operator()(uint8_t* p) const { ::munmap(p, size); }

}  // namespace systole
