// NumPy .npy files (format 1.0 to 3.0, C order), the exchange format of inputs and outputs.
#pragma once
#include <string>
#include <vector>

#include "numerics/tensor.h"

namespace systole {

/// Parses a .npy image. Fails with `where` on anything but a C-ordered array of a numeric or boolean type.
Tensor parse_npy(const std::vector<uint8_t>& bytes, const std::string& where);
Tensor read_npy(const std::string& path);
std::vector<uint8_t> format_npy(const Tensor& tensor);
void write_npy(const std::string& path, const Tensor& tensor);

}  // namespace systole
