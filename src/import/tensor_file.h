// Tensors as ONNX test data stores them: one TensorProto or SequenceProto a file.
#pragma once
#include <string>
#include <vector>

#include "numerics/tensor.h"

namespace systole {

/// Fails with the path when the file holds no tensor (a sequence, an optional, or damage).
Tensor read_tensor_file(const std::string& path);
/// The tensors of a sequence.
std::vector<Tensor> read_sequence_file(const std::string& path);

}  // namespace systole
