#include "import/tensor_writer.h"

namespace systole {

int onnx_type(DType t) {
  constexpr int kTypes[kDTypeCount] = {1, 10, 16, 17, 19, 3, 2, 5, 4, 6, 12, 7, 13, 11, 9, 8, 18, 20, 24, 23, 22, 21, 26, 25};
  return kTypes[static_cast<int>(t)];
}

std::string raw_bytes(const Tensor& t) {
  const int bits = t.type == DType::kF4E2M1 ? 4 : integer_kind(t.type).bits;
  if (bits == 0 || bits >= 8) return {t.bytes.begin(), t.bytes.end()};
  const size_t per_byte = 8 / static_cast<size_t>(bits);
  std::string packed((t.bytes.size() + per_byte - 1) / per_byte, '\0');
  for (size_t i = 0; i < t.bytes.size(); ++i) packed[i / per_byte] = static_cast<char>(packed[i / per_byte] | (t.bytes[i] & ((1 << bits) - 1)) << (i % per_byte * static_cast<size_t>(bits)));
  return packed;
}

}  // namespace systole
