// TensorProto to Tensor. Included by the importer's own files only.
#pragma once
#include <onnx/onnx_pb.h>

#include <map>
#include <string>
#include <vector>

#include "numerics/tensor.h"

namespace systole {

/// The element type of an ONNX number; fails naming `where`.
DType dtype_from(int onnx_type, const std::string& where);

/// Reads tensors of one model; files of external data are read once. Fails with the tensor's name.
class TensorReader {
 public:
  /// External data is refused when `folder` is empty.
  TensorReader(std::string source, std::string folder) : source_(std::move(source)), folder_(std::move(folder)) {}
  /// `raw` counts as the proto's raw_data where it is not empty; elements of whole bytes share it.
  TensorPtr read(const onnx::TensorProto& t, const Bytes& raw = {});

 private:
  std::vector<uint8_t> external_data(const onnx::TensorProto& t, size_t expected, const std::string& where);
  const std::string source_, folder_;
  std::map<std::string, std::vector<uint8_t>> external_;
};

}  // namespace systole
