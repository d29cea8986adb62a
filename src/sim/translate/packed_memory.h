// Memory for packed operands: weights of hundreds of megabytes in blocks of kilobytes, side by side on huge pages. On pages of their own
// they took longer to get from the system than to pack.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/bytes.h"

namespace systole {

/// Gives out zeroed memory that stays as long as it does. May be asked by several threads.
class PackedMemory {
 public:
  /// `bytes` zeros, on a cache line of their own. Throws std::bad_alloc.
  uint8_t* take(size_t bytes);

 private:
  std::mutex mutex_;
  std::vector<ZeroedMemory> chunks_;
  size_t used_ = 0;  ///< of the last chunk
};

/// The bytes of one operand.
class PackedBytes {
 public:
  explicit PackedBytes(std::shared_ptr<PackedMemory> memory) : memory_(std::move(memory)) {}
  /// Makes room. Zeros at first; the same size again keeps what was written.
  void resize(size_t size) {
    if (size != size_) data_ = memory_->take(size), size_ = size;
  }
  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  std::shared_ptr<PackedMemory> memory_;
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace systole
