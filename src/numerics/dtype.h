// Element types of tensors, on the host and in NPU memories.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace systole {

/// Types narrower than a byte (f4e2m1, i4, u4, i2, u2) take one byte per element in memory; files pack them.
enum class DType : uint8_t {
  kF32, kF16, kBF16, kF8E4M3, kF8E5M2, kI8, kU8, kI16, kU16, kI32, kU32, kI64, kU64, kF64, kBool, kString,
  kF8E4M3FNUZ, kF8E5M2FNUZ, kF8E8M0, kF4E2M1, kI4, kU4, kI2, kU2
};
inline constexpr int kDTypeCount = 24;

/// Bytes of one element (kString: 0, strings live on the host only).
int bytes_of(DType type);
/// Short name as in text forms: "f32", "bf16", "u8", ...
const char* to_string(DType type);
std::optional<DType> parse_dtype(std::string_view name);
/// Formats of 8 and 4 bits, which streams convert to fp32 and back.
constexpr bool is_narrow_float(DType t) {
  return t == DType::kF8E4M3 || t == DType::kF8E5M2 || t == DType::kF8E4M3FNUZ || t == DType::kF8E5M2FNUZ || t == DType::kF8E8M0 || t == DType::kF4E2M1;
}
constexpr bool is_float(DType t) {
  return t == DType::kF32 || t == DType::kF16 || t == DType::kBF16 || t == DType::kF64 || is_narrow_float(t);
}
/// Integers of at most 16 bits: every value is exact in fp32.
constexpr bool is_small_integer(DType t) {
  return t == DType::kI8 || t == DType::kU8 || t == DType::kI16 || t == DType::kU16 || t == DType::kI4 || t == DType::kU4 || t == DType::kI2 || t == DType::kU2;
}
/// Bits of one element of an integer type, and whether it has a sign; 0 bits for other types.
struct IntegerKind {
  int bits;
  bool is_signed;
};
IntegerKind integer_kind(DType type);
constexpr bool is_int8(DType t) { return t == DType::kI8 || t == DType::kU8; }

using Shape = std::vector<int64_t>;
/// Product of the extents; 1 for a scalar. Fails (kResource) when it exceeds 2^40 or an extent is negative.
int64_t element_count(const Shape& shape);
/// "[1,3,224,224]"
std::string to_string(const Shape& shape);
/// Row-major strides in elements.
std::vector<int64_t> row_major_strides(const Shape& shape);

}  // namespace systole
