// Element types of tensors, on the host and in NPU memories.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace systole {

enum class DType : uint8_t { kF32, kF16, kBF16, kF8E4M3, kF8E5M2, kI8, kU8, kI16, kU16, kI32, kU32, kI64, kU64, kF64, kBool, kString };
inline constexpr int kDTypeCount = 16;

/// Bytes of one element (kString: 0, strings live on the host only).
int bytes_of(DType type);
/// Short name as in text forms: "f32", "bf16", "u8", ...
const char* to_string(DType type);
std::optional<DType> parse_dtype(std::string_view name);
constexpr bool is_float(DType t) {
  return t == DType::kF32 || t == DType::kF16 || t == DType::kBF16 || t == DType::kF8E4M3 || t == DType::kF8E5M2 || t == DType::kF64;
}
constexpr bool is_int8(DType t) { return t == DType::kI8 || t == DType::kU8; }

using Shape = std::vector<int64_t>;
/// Product of the extents; 1 for a scalar. Fails (kResource) when it exceeds 2^40 or an extent is negative.
int64_t element_count(const Shape& shape);
/// "[1,3,224,224]"
std::string to_string(const Shape& shape);
/// Row-major strides in elements.
std::vector<int64_t> row_major_strides(const Shape& shape);

}  // namespace systole
