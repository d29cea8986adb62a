#include "numerics/dtype.h"

#include "base/error.h"

namespace systole {
namespace {
struct Row {
  const char* name;
  int bytes;
};
constexpr Row kRows[kDTypeCount] = {{"f32", 4}, {"f16", 2}, {"bf16", 2}, {"f8e4m3", 1}, {"f8e5m2", 1}, {"i8", 1},  {"u8", 1},   {"i16", 2},
                                    {"u16", 2}, {"i32", 4}, {"u32", 4},  {"i64", 8},    {"u64", 8},    {"f64", 8}, {"bool", 1}, {"string", 0},
                                    {"f8e4m3fnuz", 1}, {"f8e5m2fnuz", 1}, {"f8e8m0", 1}, {"f4e2m1", 1}, {"i4", 1}, {"u4", 1}, {"i2", 1}, {"u2", 1}};
}  // namespace

int bytes_of(DType type) { return kRows[static_cast<int>(type)].bytes; }
const char* to_string(DType type) { return kRows[static_cast<int>(type)].name; }

std::optional<DType> parse_dtype(std::string_view name) {
  for (int i = 0; i < kDTypeCount; ++i) {
    if (name == kRows[i].name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

IntegerKind integer_kind(DType type) {
  switch (type) {
    case DType::kI2: return {2, true};
    case DType::kU2: return {2, false};
    case DType::kI4: return {4, true};
    case DType::kU4: return {4, false};
    case DType::kI8: return {8, true};
    case DType::kU8: return {8, false};
    case DType::kI16: return {16, true};
    case DType::kU16: return {16, false};
    case DType::kI32: return {32, true};
    case DType::kU32: return {32, false};
    case DType::kI64: return {64, true};
    case DType::kU64: return {64, false};
    default: return {0, false};
  }
}

int64_t element_count(const Shape& shape) {
  int64_t n = 1;
  for (int64_t d : shape) {
    if (d < 0) fail(ErrorCode::kBadInput, "shape " + to_string(shape), "negative extent", "extents of 0 or more");
    if (d != 0 && n > (int64_t{1} << 40) / d) fail(ErrorCode::kResource, "shape " + to_string(shape), "more than 2^40 elements", "a smaller tensor");
    n *= d;
  }
  return n;
}

std::string to_string(const Shape& shape) {
  std::string s = "[";
  for (size_t i = 0; i < shape.size(); ++i) s += (i ? "," : "") + std::to_string(shape[i]);
  return s + "]";
}

std::vector<int64_t> row_major_strides(const Shape& shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t n = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = n;
    // Of a tensor without elements the product may not fit; nobody steps along it.
    n = static_cast<int64_t>(static_cast<uint64_t>(n) * static_cast<uint64_t>(shape[i]));
  }
  return strides;
}

}  // namespace systole
