#include "numerics/tensor.h"

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"
#include "numerics/formats.h"

namespace systole {
namespace {
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
    case DType::kF32: return load<float>(i);
    case DType::kF64: return load<double>(i);
    case DType::kI64: case DType::kU64: return static_cast<double>(int_at(i));
    case DType::kString: no_number();
    case DType::kF16: case DType::kBF16: case DType::kF8E4M3: case DType::kF8E5M2: case DType::kF8E4M3FNUZ: case DType::kF8E5M2FNUZ: case DType::kF8E8M0: case DType::kF4E2M1:
      return decode_float(type, bytes.data() + i * bytes_of(type));
    default: return static_cast<double>(int_at(i));
  }
}

int64_t Tensor::int_at(int64_t i) const {
  switch (type) {
    case DType::kI8: case DType::kI4: case DType::kI2: return load<int8_t>(i);
    case DType::kU8: case DType::kU4: case DType::kU2: return load<uint8_t>(i);
    case DType::kI16: return load<int16_t>(i);
    case DType::kU16: return load<uint16_t>(i);
    case DType::kI32: return load<int32_t>(i);
    case DType::kU32: return load<uint32_t>(i);
    case DType::kI64: return load<int64_t>(i);
    case DType::kU64: return static_cast<int64_t>(load<uint64_t>(i));
    case DType::kBool: return load<uint8_t>(i) != 0;
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

const Bytes& NarrowedLater::bytes() const {
  std::call_once(once_, [&] {
    const auto memory = std::make_shared<ZeroedMemory>(size(), true);
    auto* to = reinterpret_cast<uint16_t*>(memory->data());
    // By this thread alone: one that waited for others here could take up work that asks for the same bytes.
    f32_to_bf16(floats_.data(), to, static_cast<int64_t>(size() / 2));
    bytes_ = Bytes(memory, memory->data(), memory->size());
  });
  return bytes_;
}

Tensor filled(DType type, Shape shape, const std::function<void(uint8_t*)>& fill) {
  constexpr size_t kLarge = size_t{1} << 20;
  Tensor t;
  t.type = type, t.shape = std::move(shape);
  const size_t size = static_cast<size_t>(t.count()) * static_cast<size_t>(bytes_of(type));
  if (size < kLarge) {
    t.bytes = std::vector<uint8_t>(size);
    fill(t.bytes.data());
  } else {
    const auto memory = std::make_shared<ZeroedMemory>(size, true);
    fill(memory->data());
    t.bytes = Bytes(memory, memory->data(), size);
  }
  return t;
}

Tensor reshaped(const TensorPtr& t, Shape shape) {
  Tensor out;
  out.type = t->type, out.shape = std::move(shape), out.strings = t->strings;
  out.bytes = t->bytes.later() ? t->bytes : TensorBytes(Bytes(t, t->bytes.data(), t->bytes.size()));
  return out;
}

namespace {

/// The dimensions of a copy, outermost first, with strides of its source in elements; the copy itself is dense.
struct Walk {
  Shape shape;
  std::vector<int64_t> strides;
};

/// Drops extents of 1 and joins neighbours that follow each other in the source.
Walk joined(const Walk& w) {
  Walk out;
  for (size_t d = 0; d < w.shape.size(); ++d) {
    if (w.shape[d] == 1) continue;
    if (!out.shape.empty() && out.strides.back() == w.strides[d] * w.shape[d]) out.shape.back() *= w.shape[d], out.strides.back() = w.strides[d];
    else out.shape.push_back(w.shape[d]), out.strides.push_back(w.strides[d]);
  }
  return out;
}

/// rows x columns of the copy, whose rows follow at `pitch` there; in blocks, so that each side's cache lines are used whole.
template <class T>
void copy_plane(uint8_t* to, int64_t pitch, const uint8_t* from, int64_t rows, int64_t row_stride, int64_t columns, int64_t column_stride) {
  constexpr int64_t kBlock = 32, kSize = sizeof(T);
  for (int64_t r0 = 0; r0 < rows; r0 += kBlock) {
    for (int64_t c0 = 0; c0 < columns; c0 += kBlock) {
      for (int64_t r = r0; r < std::min(rows, r0 + kBlock); ++r) {
        uint8_t* line = to + (r * pitch + c0) * kSize;
        const uint8_t* source = from + (r * row_stride + c0 * column_stride) * kSize;
        for (int64_t c = 0; c < std::min(kBlock, columns - c0); ++c) std::memcpy(line + c * kSize, source + c * column_stride * kSize, kSize);
      }
    }
  }
}

void copy_plane(size_t size, uint8_t* to, int64_t pitch, const uint8_t* from, int64_t rows, int64_t row_stride, int64_t columns, int64_t column_stride) {
  if (column_stride == 1) {
    for (int64_t r = 0; r < rows; ++r) std::memcpy(to + static_cast<size_t>(r * pitch) * size, from + static_cast<size_t>(r * row_stride) * size, static_cast<size_t>(columns) * size);
  } else if (size == 1) copy_plane<uint8_t>(to, pitch, from, rows, row_stride, columns, column_stride);
  else if (size == 2) copy_plane<uint16_t>(to, pitch, from, rows, row_stride, columns, column_stride);
  else if (size == 4) copy_plane<uint32_t>(to, pitch, from, rows, row_stride, columns, column_stride);
  else copy_plane<uint64_t>(to, pitch, from, rows, row_stride, columns, column_stride);
}

/// Where line `index` of the dimensions but `without` starts, in elements, by their strides.
int64_t offset_of(int64_t index, const Shape& shape, const std::vector<int64_t>& strides, size_t dims, size_t without) {
  int64_t at = 0;
  for (size_t d = dims; d-- > 0;) {
    if (d == without) continue;
    at += index % shape[d] * strides[d];
    index /= shape[d];
  }
  return at;
}

void copy_walk(size_t size, const Walk& w, uint8_t* to, const uint8_t* from) {
  const size_t last = w.shape.size() - 1;
  size_t across = last;  // the dimension beside the last in whose direction the source is dense
  for (size_t d = 0; d < last; ++d) {
    if (across == last || w.strides[d] < w.strides[across]) across = d;
  }
  const auto dense = row_major_strides(w.shape);
  const int64_t columns = w.shape[last], rows = across == last ? 1 : w.shape[across];
  const int64_t planes = element_count(w.shape) / (rows * columns);
  parallel_for(planes, std::max<int64_t>(1, (1 << 16) / (rows * columns)), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t source = offset_of(p, w.shape, w.strides, last, across), target = offset_of(p, w.shape, dense, last, across);
      copy_plane(size, to + static_cast<size_t>(target) * size, across == last ? columns : dense[across], from + static_cast<size_t>(source) * size, rows, across == last ? 0 : w.strides[across], columns, w.strides[last]);
    }
  });
}

}  // namespace

Tensor transpose(const Tensor& t, const std::vector<int>& perm) {
  Walk walk;
  const auto strides = row_major_strides(t.shape);
  for (int d : perm) walk.shape.push_back(t.shape[static_cast<size_t>(d)]), walk.strides.push_back(strides[static_cast<size_t>(d)]);
  const Shape shape = walk.shape;
  walk = joined(walk);
  if (t.bytes.empty() || walk.shape.empty() || (walk.shape.size() == 1 && walk.strides[0] == 1)) {
    Tensor same;
    same.type = t.type, same.shape = shape, same.bytes = t.bytes;
    return same;
  }
  return filled(t.type, shape, [&](uint8_t* to) { copy_walk(static_cast<size_t>(bytes_of(t.type)), walk, to, t.bytes.data()); });
}

}  // namespace systole
