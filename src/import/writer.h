// Writes ONNX models: a small builder over the protobuf, so that nothing else needs to see it.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace systole {

class ModelWriter {
 public:
  /// `doc` is stored as the model's doc_string.
  ModelWriter(const std::string& name, const std::string& doc, int64_t opset = 17);
  ModelWriter(ModelWriter&&) noexcept;
  ~ModelWriter();

  /// An extent, or a symbol for one that the user gives.
  struct Dim {
    Dim(int64_t n) : extent(n) {}
    Dim(const char* s) : symbol(s) {}
    int64_t extent = 0;
    const char* symbol = nullptr;
  };
  void input(const std::string& name, DType type, const std::vector<Dim>& shape);
  void output(const std::string& name, DType type, const std::vector<Dim>& shape);
  std::string constant(const std::string& name, const Tensor& tensor);
  using NamedAttribute = std::pair<const char*, Attribute>;
  /// Adds a node with one output and returns its name.
  std::string node(const std::string& op, const std::vector<std::string>& inputs, const std::vector<NamedAttribute>& attributes = {}, const std::string& output = {});
  /// With outputs of these names ("": its own); returns the first.
  std::string node_n(const std::string& op, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs, const std::vector<NamedAttribute>& attributes = {});
  /// Tensors of 1 KiB and more go to a file beside the model, `path` with .data: models of 2 GiB and more.
  void external_data(const std::string& path);
  void save(const std::string& path) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace systole
