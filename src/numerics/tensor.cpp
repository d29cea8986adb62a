#include "numerics/tensor.h"

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "numerics/formats.h"

namespace systole {
namespace {
template <class T>
T load(const Tensor& t, int64_t i) {
  T v;
  std::memcpy(&v, t.bytes.data() + static_cast<size_t>(i) * sizeof(T), sizeof(T));
  return v;
}
template <class T>
void store(Tensor& t, int64_t i, T v) {
  std::memcpy(t.bytes.data() + static_cast<size_t>(i) * sizeof(T), &v, sizeof(T));
}
[[noreturn]] void no_number() { fail(ErrorCode::kBadInput, "a tensor of strings", "used as numbers", "a numeric tensor"); }
template <class T>
T saturate(double v) {
  if (std::isnan(v)) return 0;
  if (v <= static_cast<double>(std::numeric_limits<T>::min())) return std::numeric_limits<T>::min();
  if (v >= static_cast<double>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
  return static_cast<T>(v);
}
}  // namespace

double Tensor::at(int64_t i) const {
  switch (type) {
    case DType::kF32: return load<float>(*this, i);
    case DType::kF64: return load<double>(*this, i);
    case DType::kI64: case DType::kU64: return static_cast<double>(int_at(i));
    case DType::kString: no_number();
    case DType::kF16: case DType::kBF16: case DType::kF8E4M3: case DType::kF8E5M2: case DType::kF8E4M3FNUZ: case DType::kF8E5M2FNUZ: case DType::kF8E8M0: case DType::kF4E2M1:
      return decode_float(type, bytes.data() + i * bytes_of(type));
    default: return static_cast<double>(int_at(i));
  }
}

int64_t Tensor::int_at(int64_t i) const {
  switch (type) {
    case DType::kI8: case DType::kI4: case DType::kI2: return load<int8_t>(*this, i);
    case DType::kU8: case DType::kU4: case DType::kU2: return load<uint8_t>(*this, i);
    case DType::kI16: return load<int16_t>(*this, i);
    case DType::kU16: return load<uint16_t>(*this, i);
    case DType::kI32: return load<int32_t>(*this, i);
    case DType::kU32: return load<uint32_t>(*this, i);
    case DType::kI64: return load<int64_t>(*this, i);
    case DType::kU64: return static_cast<int64_t>(load<uint64_t>(*this, i));
    case DType::kBool: return load<uint8_t>(*this, i) != 0;
    case DType::kString: no_number();
    default: return saturate<int64_t>(at(i));
  }
}

void Tensor::set(int64_t i, double v) {
  switch (type) {
    case DType::kF32: return store(*this, i, static_cast<float>(v));
    case DType::kF64: return store(*this, i, v);
    case DType::kF16: case DType::kBF16: case DType::kF8E4M3: case DType::kF8E5M2: case DType::kF8E4M3FNUZ: case DType::kF8E5M2FNUZ: case DType::kF8E8M0: case DType::kF4E2M1:
      return encode_float(type, static_cast<float>(v), bytes.data() + i * bytes_of(type));
    case DType::kBool: return store(*this, i, static_cast<uint8_t>(v != 0));
    case DType::kU64: return store(*this, i, saturate<uint64_t>(v));
    case DType::kString: no_number();
    default: return set_int(i, saturate<int64_t>(v));
  }
}

void Tensor::set_int(int64_t i, int64_t v) {
  switch (type) {
    case DType::kI2: return store(*this, i, static_cast<int8_t>((v & 3) - ((v & 2) << 1)));
    case DType::kI4: return store(*this, i, static_cast<int8_t>((v & 15) - ((v & 8) << 1)));
    case DType::kU2: return store(*this, i, static_cast<uint8_t>(v & 3));
    case DType::kU4: return store(*this, i, static_cast<uint8_t>(v & 15));
    case DType::kI8: return store(*this, i, static_cast<int8_t>(v));
    case DType::kU8: return store(*this, i, static_cast<uint8_t>(v));
    case DType::kI16: return store(*this, i, static_cast<int16_t>(v));
    case DType::kU16: return store(*this, i, static_cast<uint16_t>(v));
    case DType::kI32: return store(*this, i, static_cast<int32_t>(v));
    case DType::kU32: return store(*this, i, static_cast<uint32_t>(v));
    case DType::kI64: case DType::kU64: return store(*this, i, v);
    case DType::kBool: return store(*this, i, static_cast<uint8_t>(v != 0));
    case DType::kString: no_number();
    default: return set(i, static_cast<double>(v));
  }
}

std::vector<int64_t> Tensor::to_ints() const {
  std::vector<int64_t> v(static_cast<size_t>(count()));
  for (size_t i = 0; i < v.size(); ++i) v[i] = int_at(static_cast<int64_t>(i));
  return v;
}

std::vector<float> Tensor::to_floats() const {
  std::vector<float> v(static_cast<size_t>(count()));
  for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(at(static_cast<int64_t>(i)));
  return v;
}

Tensor Tensor::from_ints(const std::vector<int64_t>& v, Shape shape) {
  Tensor t(DType::kI64, std::move(shape));
  SYSTOLE_CHECK(static_cast<int64_t>(v.size()) == t.count(), to_string(t.shape));
  if (!v.empty()) std::memcpy(t.bytes.data(), v.data(), t.bytes.size());
  return t;
}

Tensor Tensor::scalar_f32(float v) { return from_floats({v}, {}); }

Tensor Tensor::from_floats(const std::vector<float>& v, Shape shape) {
  Tensor t(DType::kF32, std::move(shape));
  SYSTOLE_CHECK(static_cast<int64_t>(v.size()) == t.count(), to_string(t.shape));
  if (!v.empty()) std::memcpy(t.bytes.data(), v.data(), t.bytes.size());
  return t;
}

namespace {

/// Copies n elements `stride` apart into a dense run.
template <class T>
void gather_run(uint8_t* to, const uint8_t* from, int64_t n, int64_t stride) {
  for (int64_t i = 0; i < n; ++i) std::memcpy(to + i * static_cast<int64_t>(sizeof(T)), from + i * stride * static_cast<int64_t>(sizeof(T)), sizeof(T));
}

void gather_run(uint8_t* to, const uint8_t* from, int64_t n, int64_t stride, size_t size) {
  if (stride == 1) std::memcpy(to, from, static_cast<size_t>(n) * size);
  else if (size == 1) gather_run<uint8_t>(to, from, n, stride);
  else if (size == 2) gather_run<uint16_t>(to, from, n, stride);
  else if (size == 4) gather_run<uint32_t>(to, from, n, stride);
  else gather_run<uint64_t>(to, from, n, stride);
}

}  // namespace

Tensor transpose(const Tensor& t, const std::vector<int>& perm) {
  Shape shape(perm.size());
  const auto in_strides = row_major_strides(t.shape);
  std::vector<int64_t> strides(perm.size()), index(perm.size(), 0);
  for (size_t i = 0; i < perm.size(); ++i) {
    shape[i] = t.shape[static_cast<size_t>(perm[i])];
    strides[i] = in_strides[static_cast<size_t>(perm[i])];
  }
  Tensor out(t.type, shape);
  const size_t size = static_cast<size_t>(bytes_of(t.type));
  const int64_t n = out.count();
  if (n == 0 || perm.empty()) {
    out.bytes = t.bytes;
    return out;
  }
  const int64_t run = shape.back();
  int64_t from = 0;
  for (int64_t i = 0; i < n; i += run) {
    gather_run(out.bytes.data() + static_cast<size_t>(i) * size, t.bytes.data() + static_cast<size_t>(from) * size, run, strides.back(), size);
    for (size_t d = perm.size() - 1; d-- > 0;) {
      from += strides[d];
      if (++index[d] < shape[d]) break;
      from -= strides[d] * shape[d];
      index[d] = 0;
    }
  }
  return out;
}

}  // namespace systole
