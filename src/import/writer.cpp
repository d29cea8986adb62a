#include "import/writer.h"

#include <onnx/onnx_pb.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/file.h"
#include "import/tensor_writer.h"

namespace systole {
namespace {

void fill(onnx::ValueInfoProto* v, const std::string& name, DType type, const std::vector<ModelWriter::Dim>& shape) {
  v->set_name(name);
  auto* t = v->mutable_type()->mutable_tensor_type();
  t->set_elem_type(onnx_type(type));
  for (const auto& d : shape) {
    auto* dim = t->mutable_shape()->add_dim();
    if (d.symbol) dim->set_dim_param(d.symbol);
    else dim->set_dim_value(d.extent);
  }
}

}  // namespace

struct ModelWriter::Impl {
  onnx::ModelProto model;
  int next = 0;
  std::ofstream data;
  std::string data_name;
};

ModelWriter::ModelWriter(const std::string& name, const std::string& doc, int64_t opset) : impl_(std::make_unique<Impl>()) {
  impl_->model.set_ir_version(8);
  impl_->model.set_producer_name("systole");
  impl_->model.set_doc_string(doc);
  impl_->model.add_opset_import()->set_version(opset);
  impl_->model.mutable_graph()->set_name(name);
}
ModelWriter::ModelWriter(ModelWriter&&) noexcept = default;
ModelWriter::~ModelWriter() = default;

void ModelWriter::input(const std::string& name, DType type, const std::vector<Dim>& shape) { fill(impl_->model.mutable_graph()->add_input(), name, type, shape); }
void ModelWriter::output(const std::string& name, DType type, const std::vector<Dim>& shape) { fill(impl_->model.mutable_graph()->add_output(), name, type, shape); }

std::string ModelWriter::constant(const std::string& name, const Tensor& tensor) {
  auto* t = impl_->model.mutable_graph()->add_initializer();
  t->set_name(name);
  t->set_data_type(onnx_type(tensor.type));
  for (int64_t d : tensor.shape) t->add_dims(d);
  const std::string bytes = raw_bytes(tensor);
  if (impl_->data.is_open() && bytes.size() >= 1024) {
    auto entry = [&](const char* key, const std::string& value) {
      auto* e = t->add_external_data();
      e->set_key(key), e->set_value(value);
    };
    t->set_data_location(onnx::TensorProto::EXTERNAL);
    entry("location", impl_->data_name), entry("offset", std::to_string(impl_->data.tellp())), entry("length", std::to_string(bytes.size()));
    impl_->data.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!impl_->data) fail(ErrorCode::kIo, impl_->data_name, "cannot write the tensors");
    return name;
  }
  t->set_raw_data(bytes);
  return name;
}

std::string ModelWriter::node(const std::string& op, const std::vector<std::string>& inputs, const std::vector<NamedAttribute>& attributes, const std::string& output) { return node_n(op, inputs, {output}, attributes); }

std::string ModelWriter::node_n(const std::string& op, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs, const std::vector<NamedAttribute>& attributes) {
  auto* n = impl_->model.mutable_graph()->add_node();
  const std::string id = op + "_" + std::to_string(impl_->next++);
  n->set_op_type(op), n->set_name(id);
  for (const auto& i : inputs) n->add_input(i);
  for (const auto& [name, value] : attributes) {
    auto* a = n->add_attribute();
    a->set_name(name);
    if (const auto* i = std::get_if<int64_t>(&value)) a->set_type(onnx::AttributeProto::INT), a->set_i(*i);
    else if (const auto* f = std::get_if<float>(&value)) a->set_type(onnx::AttributeProto::FLOAT), a->set_f(*f);
    else if (const auto* s = std::get_if<std::string>(&value)) a->set_type(onnx::AttributeProto::STRING), a->set_s(*s);
    else if (const auto* v = std::get_if<std::vector<int64_t>>(&value)) {
      a->set_type(onnx::AttributeProto::INTS);
      for (int64_t x : *v) a->add_ints(x);
    } else if (const auto* reals = std::get_if<std::vector<float>>(&value)) {
      a->set_type(onnx::AttributeProto::FLOATS);
      for (float x : *reals) a->add_floats(x);
    } else broken_invariant(__FILE__, __LINE__, "written attribute", name);
  }
  for (const auto& output : outputs) n->add_output(output.empty() ? id + "_out" : output);
  return n->output(0);
}

void ModelWriter::external_data(const std::string& path) {
  impl_->data_name = std::filesystem::path(path).filename().string() + ".data";
  impl_->data.open(path + ".data", std::ios::binary | std::ios::trunc);
  if (!impl_->data) fail(ErrorCode::kIo, path + ".data", "cannot write");
}

void ModelWriter::save(const std::string& path) const {
  impl_->data.flush();
  std::string bytes;
  if (!impl_->model.SerializeToString(&bytes)) fail(ErrorCode::kResource, path, "the model is larger than a protobuf can be");
  write_file(path, bytes);
}

}  // namespace systole
