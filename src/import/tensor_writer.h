// Types and elements as the file format stores them: shared by the writers.
#pragma once
#include <string>

#include "numerics/tensor.h"

namespace systole {

/// onnx::TensorProto::DataType.
int onnx_type(DType t);
/// Elements narrower than a byte are packed, low bits first.
std::string raw_bytes(const Tensor& t);

}  // namespace systole
