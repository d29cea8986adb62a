// A dense row-major tensor in host memory.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "numerics/dtype.h"

namespace systole {

/// bf16 of floats, rounded when somebody reads them all; whoever needs them in another order takes the floats. Weights are the floats of
/// a file and end in a program's image: between the two there need not be a third copy.
class NarrowedLater {
 public:
  explicit NarrowedLater(Bytes floats) : floats_(std::move(floats)) {}
  const Bytes& floats() const { return floats_; }
  size_t size() const { return floats_.size() / 2; }
  const Bytes& bytes() const;

 private:
  const Bytes floats_;
  mutable std::once_flag once_;
  mutable Bytes bytes_;
};

/// Bytes of a tensor: its own, or shared ones (a part of a mapped file, in any alignment; another tensor's) that are copied before they
/// change. Whoever may change them has a copy: every access through a non-const object counts as a change.
class TensorBytes {
 public:
  TensorBytes() = default;
  TensorBytes(std::vector<uint8_t> own) : own_(std::move(own)) {}
  TensorBytes(Bytes shared) : shared_(std::move(shared)) {}
  TensorBytes(std::shared_ptr<const NarrowedLater> later) : later_(std::move(later)) {}

  size_t size() const { return later_ ? later_->size() : shared_.empty() ? own_.size() : shared_.size(); }
  bool empty() const { return size() == 0; }
  const uint8_t* data() const { return later_ ? later_->bytes().data() : shared_.empty() ? own_.data() : shared_.data(); }
  const uint8_t* begin() const { return data(); }
  const uint8_t* end() const { return data() + size(); }
  uint8_t operator[](size_t i) const { return data()[i]; }
  uint8_t* data() { return own().data(); }
  uint8_t* begin() { return data(); }
  uint8_t* end() { return data() + size(); }
  uint8_t& operator[](size_t i) { return own()[i]; }
  void resize(size_t size) { own().resize(size); }
  void assign(const uint8_t* begin, const uint8_t* end) { *this = std::vector<uint8_t>(begin, end); }
  bool operator==(const TensorBytes& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }
  bool shared() const { return later_ || !shared_.empty(); }
  /// The floats that these bytes are the bf16 of; null where they are bytes of their own.
  const NarrowedLater* later() const { return later_.get(); }
  std::vector<uint8_t>& own() {
    if (shared()) own_ = std::vector<uint8_t>(std::as_const(*this).begin(), std::as_const(*this).end()), shared_ = {}, later_ = nullptr;
    return own_;
  }

 private:
  std::vector<uint8_t> own_;
  Bytes shared_;  ///< counts where it is not empty
  std::shared_ptr<const NarrowedLater> later_;  ///< counts before the others
};

struct Tensor {
  DType type = DType::kF32;
  Shape shape;
  TensorBytes bytes;
  std::vector<std::string> strings;  ///< elements of kString tensors

  Tensor() = default;
  /// Zero-filled.
  Tensor(DType t, Shape s) : type(t), shape(std::move(s)), bytes(std::vector<uint8_t>(static_cast<size_t>(element_count(shape)) * bytes_of(t))) {}

  int64_t count() const { return element_count(shape); }
  template <class T>
  T* data() { return reinterpret_cast<T*>(bytes.data()); }
  /// Element i of a type as wide as T; shared bytes need not be aligned.
  template <class T>
  T load(int64_t i) const {
    T v;
    std::memcpy(&v, bytes.data() + static_cast<size_t>(i) * sizeof(T), sizeof(T));
    return v;
  }

  /// Element i widened to double (all numeric types; 64-bit integers beyond 2^53 round).
  double at(int64_t i) const;
  /// Element i as integer: floats truncate toward zero.
  int64_t int_at(int64_t i) const;
  /// Stores v converted to the element type: floats RNE, integers truncated, then their low bits.
  void set(int64_t i, double v);
  /// Stores the low bits of v.
  void set_int(int64_t i, int64_t v);
  std::vector<int64_t> to_ints() const;
  std::vector<float> to_floats() const;

  static Tensor from_ints(const std::vector<int64_t>& v, Shape shape);
  static Tensor scalar_f32(float v);
  static Tensor from_floats(const std::vector<float>& v, Shape shape);
};

using TensorPtr = std::shared_ptr<const Tensor>;

/// A tensor whose bytes, zeros so far, `fill` writes. Large ones take fresh memory of the system, which is not cleared twice.
Tensor filled(DType type, Shape shape, const std::function<void(uint8_t*)>& fill);

/// The same bytes in another shape of as many elements, or in the same; nothing is copied.
Tensor reshaped(const TensorPtr& t, Shape shape);
inline Tensor shared(const TensorPtr& t) { return reshaped(t, t->shape); }

/// Physically reorders: out extent i is t.shape[perm[i]]. On the host's threads.
Tensor transpose(const Tensor& t, const std::vector<int>& perm);

}  // namespace systole
