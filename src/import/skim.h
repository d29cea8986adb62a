// A model's protobuf without its large initializers, which stay where they are: parsing a file of weights would copy each of them
// into a string first. Included by the importer's own files only.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace systole {

struct SkimmedModel {
  std::string skeleton;                 ///< a ModelProto whose large initializers lack their raw_data
  std::vector<std::string_view> raw;    ///< per initializer of the main graph: the raw_data left out (in the file's memory), or empty
};

/// Nothing for what is not laid out as writers do (no or several graphs, groups, a repeated field, a damaged length): such a file is for the
/// parser to judge. Wire format: protobuf's encoding guide; fields: onnx.proto (ModelProto.graph 7, GraphProto.initializer 5,
/// TensorProto.raw_data 9).
std::optional<SkimmedModel> skim(std::string_view file);

}  // namespace systole
