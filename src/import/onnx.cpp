#include "import/onnx.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <onnx/onnx-data_pb.h>

#include <cstring>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "import/graph_reader.h"
#include "import/skim.h"
#include "import/tensor_file.h"

namespace systole {
namespace {

constexpr int64_t kOldestOpset = 6, kNewestOpset = 27;

void check_opset(const onnx::ModelProto& model, const std::string& source, ReaderContext& context) {
  for (const auto& o : model.opset_import()) context.opsets[normal_domain(o.domain())] = o.version();
  const int64_t opset = context.opsets.count("") ? context.opsets[""] : 0;
  if (opset != 0 && (opset < kOldestOpset || opset > kNewestOpset)) {
    fail(ErrorCode::kUnsupported, source, "opset " + std::to_string(opset), "opsets " + std::to_string(kOldestOpset) + " to " + std::to_string(kNewestOpset), "convert the model with onnx.version_converter");
  }
}

/// A parsed model; large initializers of its graph are apart, in the memory that was parsed.
struct ParsedModel {
  onnx::ModelProto proto;
  std::vector<std::string_view> raw;  ///< per initializer; of those whose raw_data is in the proto, empty
};

ParsedModel parse_model(const void* data, size_t size, const std::string& source) {
  if (size > (size_t{1} << 31) - 1) fail(ErrorCode::kResource, source, "a protobuf of 2 GiB or more", "large tensors in external data");
  if (size >= 4 && std::memcmp(data, "SYST", 4) == 0) fail(ErrorCode::kBadInput, source, "a program compiled before (.npu)", "the ONNX model that it was compiled from");
  ParsedModel model;
  const auto skimmed = skim({static_cast<const char*>(data), size});
  if (skimmed) data = skimmed->skeleton.data(), size = skimmed->skeleton.size(), model.raw = skimmed->raw;
  google::protobuf::io::ArrayInputStream stream(data, static_cast<int>(size));
  google::protobuf::io::CodedInputStream coded(&stream);
  coded.SetRecursionLimit(64);
  google::protobuf::SetLogHandler(nullptr);
  if (!model.proto.ParseFromCodedStream(&coded) || !coded.ConsumedEntireMessage()) {
    fail(ErrorCode::kBadInput, source, "not a complete ONNX protobuf", "a model file", "the file may be truncated or of another format");
  }
  return model;
}

/// Any of the three messages that ONNX test data holds: a tensor, a sequence of tensors, or an optional one.
template <class Proto>
bool parse(Proto& proto, const std::vector<uint8_t>& bytes) {
  google::protobuf::SetLogHandler(nullptr);
  return proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

}  // namespace

std::vector<std::string> input_names(const void* data, size_t size, const std::string& source) {
  const onnx::ModelProto model = parse_model(data, size, source).proto;
  std::set<std::string> constants;
  for (const auto& t : model.graph().initializer()) constants.insert(t.name());
  std::vector<std::string> names;
  for (const auto& i : model.graph().input()) {
    if (!constants.count(i.name())) names.push_back(i.name());
  }
  return names;
}

int64_t fixed_extent(const void* data, size_t size, const std::string& source, const std::string& input, int axis) {
  const onnx::ModelProto model = parse_model(data, size, source).proto;
  for (const auto& i : model.graph().input()) {
    if (i.name() == input && i.type().tensor_type().shape().dim_size() > axis) return i.type().tensor_type().shape().dim(axis).dim_value();
  }
  return 0;
}

bool may_name_files(const Bytes& file) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  const auto skimmed = skim(text);
  return (skimmed ? std::string_view(skimmed->skeleton) : text).find("location") != std::string_view::npos;
}

Graph import_onnx_bytes(const Bytes& file, const std::string& source, const std::string& folder, const ImportOptions& options) {
  ParsedModel parsed = parse_model(file.data(), file.size(), source);
  onnx::ModelProto& model = parsed.proto;
  if (!model.has_graph()) fail(ErrorCode::kBadInput, source, "the file holds no graph", "an ONNX model");
  if (model.functions_size() > 0) fail(ErrorCode::kUnsupported, source, "the model defines functions of its own", "a model whose functions are inlined");
  ReaderContext context{source, options, {}, TensorReader(source, folder)};
  check_opset(model, source, context);
  RawInitializers raw;
  for (const std::string_view r : parsed.raw) raw.push_back(file.slice(r.empty() ? 0 : static_cast<size_t>(r.data() - reinterpret_cast<const char*>(file.data())), r.size()));
  return GraphReader(context, nullptr).run(model.graph(), raw);
}

Graph import_onnx_bytes(const void* data, size_t size, const std::string& source, const std::string& folder, const ImportOptions& options) {
  Graph graph = import_onnx_bytes(Bytes(nullptr, static_cast<const uint8_t*>(data), size), source, folder, options);
  own_constants(graph);
  return graph;
}

Tensor read_tensor_file(const std::string& path) {
  const auto bytes = read_file(path);
  onnx::TensorProto proto;
  if (!parse(proto, bytes) || !proto.has_data_type()) fail(ErrorCode::kUnsupported, path, "not a tensor", "a TensorProto");
  return *TensorReader(path, "").read(proto);
}

FileValue read_value_file(const std::string& path, ValueKind kind) {
  if (kind == ValueKind::kTensor) return {true, false, {read_tensor_file(path)}};
  const auto bytes = read_file(path);
  TensorReader reader(path, "");
  onnx::OptionalProto optional;
  onnx::SequenceProto sequence;
  FileValue value;
  if (kind == ValueKind::kOptional) {
    if (!parse(optional, bytes)) fail(ErrorCode::kUnsupported, path, "not an optional", "an OptionalProto");
    value.present = optional.has_tensor_value() || optional.has_sequence_value();
    if (optional.has_tensor_value()) value.tensors.push_back(*reader.read(optional.tensor_value()));
    if (!optional.has_sequence_value()) return value;
    sequence = optional.sequence_value();
  } else if (!parse(sequence, bytes)) {
    fail(ErrorCode::kUnsupported, path, "not a sequence", "a SequenceProto");
  }
  value.is_sequence = true;
  for (const auto& t : sequence.tensor_values()) value.tensors.push_back(*reader.read(t));
  return value;
}

BoundaryKinds boundary_kinds(const void* data, size_t size, const std::string& source) {
  const onnx::ModelProto model = parse_model(data, size, source).proto;
  auto kind = [](const onnx::ValueInfoProto& v) { return v.type().has_optional_type() ? ValueKind::kOptional : v.type().has_sequence_type() ? ValueKind::kSequence : ValueKind::kTensor; };
  BoundaryKinds kinds;
  for (const auto& i : model.graph().input()) kinds.inputs.push_back(kind(i));
  for (const auto& o : model.graph().output()) kinds.outputs.push_back(kind(o));
  return kinds;
}

Graph import_onnx(const std::string& path, const ImportOptions& options) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  Graph graph = import_onnx_bytes(map_file(path), path, folder.empty() ? "." : folder, options);
  own_constants(graph);
  return graph;
}

}  // namespace systole
