#include "import/graph_writer.h"

#include <onnx/onnx_pb.h>

#include <set>

#include "base/error.h"
#include "base/file.h"
#include "import/tensor_writer.h"

namespace systole {
namespace {

void fill(onnx::TensorProto* p, const Tensor& t) {
  p->set_data_type(onnx_type(t.type));
  for (int64_t d : t.shape) p->add_dims(d);
  if (t.type == DType::kString) for (const auto& s : t.strings) p->add_string_data(s);
  else p->set_raw_data(raw_bytes(t));
}

void fill(onnx::ValueInfoProto* p, const Value& v, bool with_shape) {
  p->set_name(v.name);
  auto* type = p->mutable_type()->mutable_tensor_type();
  type->set_elem_type(onnx_type(v.type));
  if (!with_shape) return;
  for (int64_t d : v.shape) type->mutable_shape()->add_dim()->set_dim_value(d);
  type->mutable_shape();
}

void fill(onnx::AttributeProto* p, const std::string& name, const Attribute& value, const Node& node) {
  using A = onnx::AttributeProto;
  p->set_name(name);
  if (const auto* i = std::get_if<int64_t>(&value)) p->set_type(A::INT), p->set_i(*i);
  else if (const auto* f = std::get_if<float>(&value)) p->set_type(A::FLOAT), p->set_f(*f);
  else if (const auto* s = std::get_if<std::string>(&value)) p->set_type(A::STRING), p->set_s(*s);
  else if (const auto* t = std::get_if<TensorPtr>(&value)) p->set_type(A::TENSOR), fill(p->mutable_t(), **t);
  else if (const auto* is = std::get_if<std::vector<int64_t>>(&value)) {
    p->set_type(A::INTS);
    for (int64_t x : *is) p->add_ints(x);
  } else if (const auto* fs = std::get_if<std::vector<float>>(&value)) {
    p->set_type(A::FLOATS);
    for (float x : *fs) p->add_floats(x);
  } else if (const auto* ss = std::get_if<std::vector<std::string>>(&value)) {
    p->set_type(A::STRINGS);
    for (const auto& x : *ss) p->add_strings(x);
  } else {
    fail(ErrorCode::kUnsupported, "node '" + node.name + "'", "a subgraph", "a model without control flow");
  }
}

/// Values need distinct names in the file.
std::vector<std::string> unique_names(const Graph& g) {
  std::set<std::string> taken;
  std::vector<std::string> names(g.values.size());
  auto claim = [&](ValueId v) { taken.insert(names[static_cast<size_t>(v)] = g.value(v).name); };
  for (ValueId v : g.inputs) claim(v);
  for (ValueId v : g.outputs) claim(v);
  for (size_t v = 0; v < g.values.size(); ++v) {
    if (!names[v].empty()) continue;
    std::string name = g.values[v].name.empty() ? "value" : g.values[v].name;
    for (int k = 1; !taken.insert(name).second; ++k) name = g.values[v].name + "_" + std::to_string(k);
    names[v] = name;
  }
  return names;
}

}  // namespace

void write_onnx(const Graph& g, int opset, const std::string& doc, const std::string& path) {
  onnx::ModelProto model;
  model.set_ir_version(opset >= 21 ? 10 : 8);
  model.set_producer_name("systole");
  model.set_doc_string(doc);
  model.add_opset_import()->set_version(opset);
  std::set<std::string> domains;
  onnx::GraphProto& out = *model.mutable_graph();
  out.set_name(g.name);
  const auto names = unique_names(g);
  std::set<ValueId> used;
  for (const Node& n : g.nodes) used.insert(n.inputs.begin(), n.inputs.end());
  used.insert(g.outputs.begin(), g.outputs.end());
  for (size_t v = 0; v < g.values.size(); ++v) {
    if (!g.values[v].constant || !used.count(static_cast<ValueId>(v))) continue;
    auto* t = out.add_initializer();
    fill(t, *g.values[v].constant);
    t->set_name(names[v]);
  }
  for (ValueId v : g.inputs) fill(out.add_input(), g.value(v), true);
  for (ValueId v : g.outputs) fill(out.add_output(), g.value(v), false);
  for (const Node& n : g.nodes) {
    const auto& op = std::get<OnnxOp>(n.op);
    auto* p = out.add_node();
    p->set_op_type(op.type), p->set_domain(op.domain), p->set_name(n.name);
    if (!op.domain.empty() && domains.insert(op.domain).second) {
      auto* o = model.add_opset_import();
      o->set_domain(op.domain), o->set_version(op.opset);
    }
    for (ValueId v : n.inputs) p->add_input(v == kNoValue ? "" : names[static_cast<size_t>(v)]);
    for (ValueId v : n.outputs) p->add_output(v == kNoValue ? "" : names[static_cast<size_t>(v)]);
    for (const auto& [name, value] : op.attributes) {
      if (!name.starts_with("systole_")) fill(p->add_attribute(), name, value, n);
    }
  }
  std::string bytes;
  if (!model.SerializeToString(&bytes)) fail(ErrorCode::kResource, path, "the model is larger than a protobuf can be");
  write_file(path, bytes);
}

}  // namespace systole
