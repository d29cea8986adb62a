// Standard network architectures with seeded random weights, written as ONNX: real shapes to compile and time without
// anyone's trained weights. The file says so in its doc string.
#pragma once
#include <cstdint>
#include <span>
#include <string>

namespace systole {

struct Architecture {
  const char* name;
  const char* description;
  void (*write)(const std::string& path, uint64_t seed, int64_t size);
  int64_t default_size;  ///< height and width of the input, or tokens
};

std::span<const Architecture> architectures();
/// Fails (kNotFound) listing the names.
const Architecture& find_architecture(const std::string& name);

}  // namespace systole
