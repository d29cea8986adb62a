#include "runtime/model_file.h"

#include <filesystem>

#include "import/onnx.h"
#include "passes/passes.h"
#include "runtime/rebatch.h"

namespace systole {
namespace {

/// What the importer is told: the batch comes afterwards.
ImportOptions import_options(const CompileOptions& o) {
  ImportOptions i{o.dims, o.input_shapes, o.constant_inputs};
  for (auto& [name, shape] : i.input_shapes) {
    if (o.batch > 0 && !shape.empty() && shape[0] == o.batch) shape[0] = 1;
  }
  return i;
}

Graph prepared(Graph graph, const std::string& path, const CompileOptions& o) {
  graph.name = model_name(path);
  if (o.batch != 0) rebatch(graph, o.batch);
  if (o.int8_cache) narrow_caches(graph);
  return graph;
}

}  // namespace

std::string model_name(const std::string& path) { return std::filesystem::path(path).stem().string(); }

Graph read_onnx(const std::string& path, const CompileOptions& o) { return prepared(import_onnx(path, import_options(o)), path, o); }

Graph read_onnx(const Bytes& bytes, const std::string& path, const CompileOptions& o) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return prepared(import_onnx_bytes(bytes, path, folder.empty() ? "." : folder, import_options(o)), path, o);
}

std::string option_key(const CompileOptions& o, const std::string& name) {
  std::string key = name + ";" + o.precision + (o.int8_cache ? ";int8_cache" : "") + (o.batch ? ";batch=" + std::to_string(o.batch) : "");
  for (const auto& [dim, value] : o.dims) key += ";" + dim + "=" + std::to_string(value);
  for (const auto& [input, shape] : o.input_shapes) key += ";" + input + to_string(shape);
  for (const auto& [input, t] : o.constant_inputs) key += ";" + input + to_string(t->type) + to_string(t->shape) + std::string(t->bytes.begin(), t->bytes.end());
  return key;
}

}  // namespace systole
