// Tensors as ONNX test data stores them: one TensorProto a file.
#pragma once
#include <string>

#include "numerics/tensor.h"

namespace systole {

/// Fails with the path when the file holds no tensor (a sequence, an optional, or damage).
Tensor read_tensor_file(const std::string& path);

}  // namespace systole
