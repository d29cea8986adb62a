#include "runtime/npy.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/file.h"

namespace systole {
namespace {

struct TypeRow {
  DType type;
  const char* code;
};
constexpr TypeRow kTypes[] = {{DType::kF32, "<f4"}, {DType::kF64, "<f8"}, {DType::kF16, "<f2"}, {DType::kI8, "|i1"}, {DType::kU8, "|u1"}, {DType::kI16, "<i2"}, {DType::kU16, "<u2"},
                              {DType::kI32, "<i4"}, {DType::kU32, "<u4"}, {DType::kI64, "<i8"}, {DType::kU64, "<u8"}, {DType::kBool, "|b1"}};

/// The text after 'key': up to the next comma outside parentheses.
std::string value_of(const std::string& header, const std::string& key, const std::string& where) {
  const size_t at = header.find("'" + key + "'");
  const size_t colon = at == std::string::npos ? at : header.find(':', at);
  if (colon == std::string::npos) fail(ErrorCode::kBadInput, where, "no '" + key + "' in the header", "a NumPy header");
  int depth = 0;
  size_t end = colon + 1;
  for (; end < header.size(); ++end) {
    if (header[end] == '(') ++depth;
    if (header[end] == ')') --depth;
    if (depth == 0 && (header[end] == ',' || header[end] == '}')) break;
  }
  std::string v = header.substr(colon + 1, end - colon - 1);
  std::erase_if(v, [](char c) { return c == ' ' || c == '\''; });
  return v;
}

}  // namespace

Tensor parse_npy(const std::vector<uint8_t>& bytes, const std::string& where) {
  if (bytes.size() < 12 || std::memcmp(bytes.data(), "\x93NUMPY", 6) != 0) fail(ErrorCode::kBadInput, where, "not a NumPy file", "a .npy file");
  const bool long_header = bytes[6] >= 2;
  uint32_t length = 0;
  std::memcpy(&length, bytes.data() + 8, long_header ? 4 : 2);
  const size_t start = long_header ? 12 : 10;
  if (length > bytes.size() - start) fail(ErrorCode::kBadInput, where, "the file ends inside its header");
  const std::string header(bytes.begin() + static_cast<long>(start), bytes.begin() + static_cast<long>(start + length));
  if (value_of(header, "fortran_order", where) != "False") fail(ErrorCode::kUnsupported, where, "Fortran order", "C order", "save numpy.ascontiguousarray(x)");
  const std::string code = value_of(header, "descr", where);
  const TypeRow* row = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeRow& r) { return code == r.code; });
  if (row == std::end(kTypes)) fail(ErrorCode::kUnsupported, where, "element type " + code, "a little-endian numeric or boolean type");
  Shape shape;
  std::string list = value_of(header, "shape", where);
  for (char& c : list) {
    if (c == '(' || c == ')' || c == ',') c = ' ';
  }
  for (const char* at = list.c_str(); *at;) {
    char* end = nullptr;
    const long long v = std::strtoll(at, &end, 10);
    if (end == at) {
      if (*at != ' ') fail(ErrorCode::kBadInput, where, "shape '" + list + "'", "a tuple of integers");
      ++at;
      continue;
    }
    shape.push_back(v);
    at = end;
  }
  const size_t size = static_cast<size_t>(element_count(shape)) * static_cast<size_t>(bytes_of(row->type));
  if (bytes.size() - start - length < size) {
    fail(ErrorCode::kBadInput, where, std::to_string(bytes.size() - start - length) + " bytes of data for shape " + to_string(shape), std::to_string(size) + " bytes");
  }
  Tensor t(row->type, shape);
  std::memcpy(t.bytes.data(), bytes.data() + start + length, size);
  return t;
}

Tensor read_npy(const std::string& path) { return parse_npy(read_file(path), path); }

std::vector<uint8_t> format_npy(const Tensor& tensor) {
  Tensor widened;
  const Tensor* t = &tensor;
  const TypeRow* row = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeRow& r) { return r.type == tensor.type; });
  if (row == std::end(kTypes)) {  // bf16, fp8: NumPy has no such type
    widened = Tensor(DType::kF32, tensor.shape);
    for (int64_t i = 0; i < tensor.count(); ++i) widened.set(i, tensor.at(i));
    t = &widened, row = &kTypes[0];
  }
  std::string shape = "(";
  for (int64_t d : t->shape) shape += std::to_string(d) + ",";
  std::string header = std::string("{'descr': '") + row->code + "', 'fortran_order': False, 'shape': " + shape + "), }";
  header.resize((10 + header.size() + 1 + 63) / 64 * 64 - 10, ' ');
  header.back() = '\n';
  std::vector<uint8_t> out = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, static_cast<uint8_t>(header.size()), static_cast<uint8_t>(header.size() >> 8)};
  out.insert(out.end(), header.begin(), header.end());
  out.insert(out.end(), t->bytes.begin(), t->bytes.end());
  return out;
}

void write_npy(const std::string& path, const Tensor& tensor) {
  const auto bytes = format_npy(tensor);
  write_file(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

}  // namespace systole
