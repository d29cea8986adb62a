// Bytes that never change and may be shared: of a vector, or of a file mapped into memory.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

namespace systole {

class Bytes {
 public:
  Bytes() = default;
  Bytes(std::vector<uint8_t> bytes) {
    const auto owner = std::make_shared<const std::vector<uint8_t>>(std::move(bytes));
    data_ = owner->data(), size_ = owner->size(), owner_ = owner;
  }
  /// `owner` keeps [data, data + size) alive.
  Bytes(std::shared_ptr<const void> owner, const uint8_t* data, size_t size) : owner_(std::move(owner)), data_(data), size_(size) {}

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const uint8_t* begin() const { return data_; }
  const uint8_t* end() const { return data_ + size_; }
  uint8_t operator[](size_t i) const { return data_[i]; }
  std::vector<uint8_t> vector() const { return {begin(), end()}; }
  /// A part that shares the owner; the caller has checked the bounds.
  Bytes slice(size_t offset, size_t size) const { return {owner_, data_ + offset, size}; }

 private:
  std::shared_ptr<const void> owner_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

/// Memory that reads as zero and takes no room before it is written: images of large DRAMs.
class ZeroedMemory {
 public:
  ZeroedMemory() = default;
  /// `dense`: most of it will be written: on huge pages where the system has them and it fills a good part of one. Throws std::bad_alloc.
  explicit ZeroedMemory(size_t size, bool dense = false);
  uint8_t* data() { return data_.get(); }
  const uint8_t* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  struct Unmap {
    void* mapping;
    size_t size;
    void operator()(uint8_t* p) const;
  };
  std::unique_ptr<uint8_t, Unmap> data_{nullptr, Unmap{nullptr, 0}};
  size_t size_ = 0;
};

}  // namespace systole
