#include "import/tensor_reader.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"

namespace systole {

DType dtype_from(int onnx_type, const std::string& where) {
  using T = onnx::TensorProto;
  switch (onnx_type) {
    case T::FLOAT: return DType::kF32;
    case T::FLOAT16: return DType::kF16;
    case T::BFLOAT16: return DType::kBF16;
    case T::DOUBLE: return DType::kF64;
    case T::INT8: return DType::kI8;
    case T::UINT8: return DType::kU8;
    case T::INT16: return DType::kI16;
    case T::UINT16: return DType::kU16;
    case T::INT32: return DType::kI32;
    case T::UINT32: return DType::kU32;
    case T::INT64: return DType::kI64;
    case T::UINT64: return DType::kU64;
    case T::BOOL: return DType::kBool;
    case T::STRING: return DType::kString;
    case 17: return DType::kF8E4M3;
    case 18: return DType::kF8E4M3FNUZ;
    case 19: return DType::kF8E5M2;
    case 20: return DType::kF8E5M2FNUZ;
    case 21: return DType::kU4;
    case 22: return DType::kI4;
    case 23: return DType::kF4E2M1;
    case 24: return DType::kF8E8M0;
    case 25: return DType::kU2;
    case 26: return DType::kI2;
    default: fail(ErrorCode::kUnsupported, where, "element type " + std::to_string(onnx_type), "a numeric type of up to 64 bits, or string");
  }
}

namespace {

/// Bits that one element takes in a file.
int element_bits(DType type) {
  if (type == DType::kF4E2M1) return 4;
  const int bits = integer_kind(type).bits;
  return bits ? bits : 8 * bytes_of(type);
}

/// Elements narrower than a byte, low bits first, to one byte each.
std::vector<uint8_t> unpack(std::vector<uint8_t> packed, DType type, int64_t n) {
  const int bits = element_bits(type);
  if (bits >= 8) return packed;
  std::vector<uint8_t> out(static_cast<size_t>(n));
  const int per_byte = 8 / bits, mask = (1 << bits) - 1;
  const bool is_signed = integer_kind(type).is_signed;
  for (size_t i = 0; i < out.size(); ++i) {
    const int code = packed[i / static_cast<size_t>(per_byte)] >> (static_cast<int>(i % static_cast<size_t>(per_byte)) * bits) & mask;
    out[i] = static_cast<uint8_t>(is_signed && code >> (bits - 1) ? code - mask - 1 : code);
  }
  return out;
}

}  // namespace

std::vector<uint8_t> TensorReader::external_data(const onnx::TensorProto& t, size_t expected, const std::string& where) {
  std::string location;
  uint64_t offset = 0, length = expected;
  for (const auto& e : t.external_data()) {
    try {
      if (e.key() == "location") location = e.value();
      else if (e.key() == "offset") offset = std::stoull(e.value());
      else if (e.key() == "length") length = std::stoull(e.value());
    } catch (const std::exception&) {
      fail(ErrorCode::kBadInput, where, "external data " + e.key() + " = '" + e.value() + "'", "a number");
    }
  }
  const std::filesystem::path relative(location);
  const bool escapes = relative.is_absolute() || std::any_of(relative.begin(), relative.end(), [](const auto& part) { return part == ".."; });
  if (folder_.empty() || location.empty() || escapes) fail(ErrorCode::kBadInput, where, "external data at '" + location + "'", "a file in the model's own folder");
  if (length != expected) fail(ErrorCode::kBadInput, where, "external data of " + std::to_string(length) + " bytes", std::to_string(expected));
  auto& file = external_[location];
  if (file.empty()) file = read_file(folder_ + "/" + location);
  if (offset > file.size() || length > file.size() - offset) fail(ErrorCode::kBadInput, where, "external data ends after the file does", "a file of " + std::to_string(offset + length) + " bytes");
  return {file.begin() + static_cast<long>(offset), file.begin() + static_cast<long>(offset + length)};
}

TensorPtr TensorReader::read(const onnx::TensorProto& t, const Bytes& raw) {
  const std::string where = source_ + ": tensor '" + t.name() + "'";
  const DType type = dtype_from(t.data_type(), where);
  const Shape shape(t.dims().begin(), t.dims().end());
  auto out = std::make_shared<Tensor>();
  out->type = type, out->shape = shape;
  const int64_t n = element_count(shape);
  const int bits = element_bits(type);
  const size_t size = (static_cast<size_t>(n) * static_cast<size_t>(bits) + 7) / 8;
  auto wrong = [&](int64_t found) { fail(ErrorCode::kBadInput, where, std::to_string(found) + " elements for shape " + to_string(shape), std::to_string(n)); };
  if (type == DType::kString) {
    if (t.string_data_size() != n) wrong(t.string_data_size());
    out->strings.assign(t.string_data().begin(), t.string_data().end());
    return out;
  }
  if (t.data_location() == onnx::TensorProto::EXTERNAL) {
    out->bytes = unpack(external_data(t, size, where), type, n);
    return out;
  }
  if (t.has_raw_data() || !raw.empty()) {
    const size_t found = raw.empty() ? t.raw_data().size() : raw.size();
    if (found != size) fail(ErrorCode::kBadInput, where, std::to_string(found) + " bytes for shape " + to_string(shape), std::to_string(size));
    if (raw.empty()) out->bytes = unpack({t.raw_data().begin(), t.raw_data().end()}, type, n);
    else if (bits < 8) out->bytes = unpack(raw.vector(), type, n);
    else out->bytes = raw;
    return out;
  }
  if (bits < 8) {  // several elements a byte, one byte a field entry
    if (t.int32_data_size() != static_cast<int>(size)) wrong(t.int32_data_size());
    std::vector<uint8_t> packed(size);
    for (size_t i = 0; i < size; ++i) packed[i] = static_cast<uint8_t>(t.int32_data(static_cast<int>(i)));
    out->bytes = unpack(std::move(packed), type, n);
    return out;
  }
  // Typed fields hold the elements, so the shape cannot claim more than the file has.
  auto copy = [&](const auto& field) {
    if (field.size() != n) wrong(field.size());
    out->bytes.resize(size);
    for (int64_t i = 0; i < n; ++i) {
      const auto v = field.Get(static_cast<int>(i));
      if (type == DType::kF16 || type == DType::kBF16) {
        const uint16_t code = static_cast<uint16_t>(v);
        std::memcpy(out->bytes.data() + 2 * i, &code, 2);
      } else if (is_float(type) && bytes_of(type) == 1) {
        out->bytes[static_cast<size_t>(i)] = static_cast<uint8_t>(v);
      } else if (is_float(type)) out->set(i, static_cast<double>(v));
      else out->set_int(i, static_cast<int64_t>(v));
    }
  };
  if (type == DType::kF32) copy(t.float_data());
  else if (type == DType::kF64) copy(t.double_data());
  else if (type == DType::kI64) copy(t.int64_data());
  else if (type == DType::kU64 || type == DType::kU32) copy(t.uint64_data());
  else copy(t.int32_data());
  return out;
}

}  // namespace systole
