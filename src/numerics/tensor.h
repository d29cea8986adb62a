// A dense row-major tensor in host memory.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "numerics/dtype.h"

namespace systole {

struct Tensor {
  DType type = DType::kF32;
  Shape shape;
  std::vector<uint8_t> bytes;
  std::vector<std::string> strings;  ///< elements of kString tensors

  Tensor() = default;
  /// Zero-filled.
  Tensor(DType t, Shape s) : type(t), shape(std::move(s)), bytes(static_cast<size_t>(element_count(shape)) * bytes_of(t)) {}

  int64_t count() const { return element_count(shape); }
  template <class T>
  T* data() { return reinterpret_cast<T*>(bytes.data()); }
  template <class T>
  const T* data() const { return reinterpret_cast<const T*>(bytes.data()); }

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

/// Physically reorders: out extent i is t.shape[perm[i]].
Tensor transpose(const Tensor& t, const std::vector<int>& perm);

}  // namespace systole
