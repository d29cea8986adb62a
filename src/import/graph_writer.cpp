#include "import/graph_writer.h"

#include <onnx/onnx_pb.h>

#include <algorithm>
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

void fill(onnx::AttributeProto& p, const Attribute& value) {
  using A = onnx::AttributeProto;
  if (const auto* i = std::get_if<int64_t>(&value)) p.set_type(A::INT), p.set_i(*i);
  else if (const auto* f = std::get_if<float>(&value)) p.set_type(A::FLOAT), p.set_f(*f);
  else if (const auto* s = std::get_if<std::string>(&value)) p.set_type(A::STRING), p.set_s(*s);
  else if (const auto* t = std::get_if<TensorPtr>(&value)) p.set_type(A::TENSOR), fill(p.mutable_t(), **t);
  else if (const auto* is = std::get_if<std::vector<int64_t>>(&value)) p.set_type(A::INTS), p.mutable_ints()->Add(is->begin(), is->end());
  else if (const auto* fs = std::get_if<std::vector<float>>(&value)) p.set_type(A::FLOATS), p.mutable_floats()->Add(fs->begin(), fs->end());
  else if (const auto* ss = std::get_if<std::vector<std::string>>(&value)) p.set_type(A::STRINGS), p.mutable_strings()->Assign(ss->begin(), ss->end());
}

/// One graph of the model, and those inside its nodes.
class GraphWriter {
 public:
  GraphWriter(onnx::ModelProto& model, std::set<std::string>& taken) : model_(model), taken_(taken) {}

  /// `captured` are the names that the last inputs, values of the graphs around, have there.
  void write(const Graph& g, onnx::GraphProto& out, const std::vector<std::string>& captured) {
    out.set_name(g.name.empty() ? "body" : g.name);
    const size_t own_inputs = g.inputs.size() - captured.size();
    const auto names = names_of(g, own_inputs, captured);
    const bool inner = &out != &model_.graph();  // its types follow from the node's
    std::set<ValueId> used;
    for (const Node& n : g.nodes) used.insert(n.inputs.begin(), n.inputs.end());
    used.insert(g.outputs.begin(), g.outputs.end());
    for (size_t v = 0; v < g.values.size(); ++v) {
      if (!g.values[v].constant || !used.count(static_cast<ValueId>(v))) continue;
      auto* t = out.add_initializer();
      fill(t, *g.values[v].constant);
      t->set_name(names[v]);
    }
    for (size_t i = 0; i < own_inputs; ++i) inner ? out.add_input()->set_name(names[static_cast<size_t>(g.inputs[i])]) : fill(out.add_input(), g.value(g.inputs[i]), true);
    for (ValueId v : g.outputs) inner ? out.add_output()->set_name(names[static_cast<size_t>(v)]) : fill(out.add_output(), g.value(v), false);
    for (const Node& n : g.nodes) write(n, *out.add_node(), names);
  }

 private:
  void write(const Node& n, onnx::NodeProto& p, const std::vector<std::string>& names) {
    const auto& op = std::get<OnnxOp>(n.op);
    p.set_op_type(op.type), p.set_domain(op.domain), p.set_name(n.name);
    import_domain(op);
    auto name_of = [&](ValueId v) { return v == kNoValue ? std::string() : names[static_cast<size_t>(v)]; };
    size_t explicit_inputs = n.inputs.size();
    for (const auto& [name, value] : op.attributes) {
      if (const auto* sub = std::get_if<GraphPtr>(&value); sub && !(*sub)->captures.empty()) explicit_inputs = std::min(explicit_inputs, static_cast<size_t>((*sub)->captures.front()));
    }
    for (size_t k = 0; k < explicit_inputs; ++k) p.add_input(name_of(n.inputs[k]));
    for (ValueId v : n.outputs) p.add_output(name_of(v));
    for (const auto& [name, value] : op.attributes) {
      if (name.starts_with("systole_")) continue;
      onnx::AttributeProto& a = *p.add_attribute();
      a.set_name(name);
      if (const auto* sub = std::get_if<GraphPtr>(&value)) {
        std::vector<std::string> captured;
        for (int at : (*sub)->captures) captured.push_back(name_of(n.inputs.at(static_cast<size_t>(at))));
        a.set_type(onnx::AttributeProto::GRAPH);
        GraphWriter(model_, taken_).write(**sub, *a.mutable_g(), captured);
        if (op.type != "Loop") continue;
        // The number of the trip, and whether it is made: scalars, or of shape [1]. ONNX Runtime asks for their types.
        const DType types[] = {DType::kI64, DType::kBool};
        for (int k = 0; k < std::min(2, a.g().input_size()); ++k) {
          const bool one = (*sub)->value((*sub)->inputs[static_cast<size_t>(k)]).shape == Shape{1};
          fill(a.mutable_g()->mutable_input(k), {a.g().input(k).name(), types[k], one ? Shape{1} : Shape{}, true, nullptr}, true);
        }
      } else {
        fill(a, value);
      }
    }
  }

  void import_domain(const OnnxOp& op) {
    for (const auto& known : model_.opset_import()) {
      if (known.domain() == op.domain) return;
    }
    auto* o = model_.add_opset_import();
    o->set_domain(op.domain), o->set_version(op.opset);
  }

  /// Names of a graph's values that no other has, in the graphs around either.
  std::vector<std::string> names_of(const Graph& g, size_t own_inputs, const std::vector<std::string>& captured) {
    std::vector<std::string> names(g.values.size());
    auto claim = [&](ValueId v) {
      std::string& name = names[static_cast<size_t>(v)];
      if (!name.empty()) return;
      const std::string own = g.value(v).name.empty() ? "value" : g.value(v).name;
      name = own;
      for (int k = 1; !taken_.insert(name).second; ++k) name = own + "_" + std::to_string(k);
    };
    for (size_t i = 0; i < captured.size(); ++i) names[static_cast<size_t>(g.inputs[own_inputs + i])] = captured[i];
    for (size_t i = 0; i < own_inputs; ++i) claim(g.inputs[i]);
    for (ValueId v : g.outputs) claim(v);
    for (size_t v = 0; v < g.values.size(); ++v) claim(static_cast<ValueId>(v));
    return names;
  }

  onnx::ModelProto& model_;
  std::set<std::string>& taken_;
};

}  // namespace

void write_onnx(const Graph& g, int opset, const std::string& doc, const std::string& path) {
  onnx::ModelProto model;
  model.set_ir_version(opset >= 21 ? 10 : 8);
  model.set_producer_name("systole");
  model.set_doc_string(doc);
  model.add_opset_import()->set_version(opset);
  std::set<std::string> taken;
  GraphWriter(model, taken).write(g, *model.mutable_graph(), {});
  std::string bytes;
  if (!model.SerializeToString(&bytes)) fail(ErrorCode::kResource, path, "the model is larger than a protobuf can be");
  write_file(path, bytes);
}

}  // namespace systole
