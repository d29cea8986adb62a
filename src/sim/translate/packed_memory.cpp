#include "sim/translate/packed_memory.h"

#include <algorithm>

namespace systole {

uint8_t* PackedMemory::take(size_t bytes) {
  constexpr size_t kLine = 64, kFirst = size_t{256} << 10, kMost = size_t{32} << 20;
  const std::lock_guard lock(mutex_);
  if (chunks_.empty() || chunks_.back().size() - used_ < bytes) {
    // Twice the last one: small programs take little.
    const size_t next = chunks_.empty() ? kFirst : std::min(kMost, 2 * chunks_.back().size());
    chunks_.emplace_back(std::max(bytes, next), true);
    used_ = 0;
  }
  uint8_t* at = chunks_.back().data() + used_;
  used_ = std::min(chunks_.back().size(), (used_ + bytes + kLine - 1) / kLine * kLine);
  return at;
}

}  // namespace systole
