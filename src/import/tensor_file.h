// Tensors as ONNX test data stores them: one TensorProto or SequenceProto a file.
#pragma once
#include <string>
#include <vector>

#include "numerics/tensor.h"

namespace systole {

/// Fails with the path when the file holds no tensor (a sequence, an optional, or damage).
Tensor read_tensor_file(const std::string& path);

/// What a file of test data holds.
enum class ValueKind { kTensor, kSequence, kOptional };
struct FileValue {
  bool present = true, is_sequence = false;
  std::vector<Tensor> tensors;  ///< one, or a sequence's
};
FileValue read_value_file(const std::string& path, ValueKind kind);
/// Kinds of a model's inputs and outputs, in the file's order.
struct BoundaryKinds {
  std::vector<ValueKind> inputs, outputs;
};
BoundaryKinds boundary_kinds(const void* data, size_t size, const std::string& source);

}  // namespace systole
