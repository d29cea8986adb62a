// ONNX files to Graph. The only user of protobuf. Nothing in the file is trusted.
#pragma once
#include <map>
#include <string>

#include "graph/graph.h"

namespace systole {

struct ImportOptions {
  std::map<std::string, int64_t> dims;                ///< values of symbolic dimensions
  std::map<std::string, Shape> input_shapes;          ///< shapes of given inputs, which bind symbolic dimensions too
  std::map<std::string, TensorPtr> constant_inputs;   ///< inputs whose values are known at compile time
};

/// Reads a model and its external data (relative to the file's folder, never outside it). Fails with the node or tensor.
Graph import_onnx(const std::string& path, const ImportOptions& options);
/// The same of a file in memory. Large initializers share its bytes, so that whoever keeps the graph beyond the file gives it its own
/// (own_constants, graph.h).
Graph import_onnx_bytes(const Bytes& file, const std::string& source, const std::string& folder, const ImportOptions& options);
/// The same, sharing nothing; external data is refused when `folder` is empty.
Graph import_onnx_bytes(const void* data, size_t size, const std::string& source, const std::string& folder, const ImportOptions& options);

/// False where a model file has no external data for certain.
bool may_name_files(const Bytes& file);

/// The extent of one axis of an input where the model fixes it, otherwise 0.
int64_t fixed_extent(const void* data, size_t size, const std::string& source, const std::string& input, int axis);

/// Names of the inputs that a caller feeds (initializers are not), in the file's order; fails like import_onnx_bytes.
std::vector<std::string> input_names(const void* data, size_t size, const std::string& source);

}  // namespace systole
