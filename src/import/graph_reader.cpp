#include "import/graph_reader.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace systole {

std::string normal_domain(const std::string& domain) { return domain == "ai.onnx" ? "" : domain; }

void GraphReader::bad(const std::string& where, const std::string& found, const std::string& expected) const {
  fail(ErrorCode::kBadInput, context_.source + (where.empty() ? "" : ": " + where), found, expected);
}

Graph GraphReader::run(const onnx::GraphProto& g, const RawInitializers& raw) {
  graph_.name = g.name();
  if (parent_) collect_names(g);
  for (int i = 0; i < g.initializer_size(); ++i) {
    const auto& t = g.initializer(i);
    if (t.name().empty()) bad("", "an initializer without a name");
    const ValueId id = define(t.name(), "initializer '" + t.name() + "'");
    const size_t at = static_cast<size_t>(i);
    set_constant(id, context_.tensors.read(t, at < raw.size() ? raw[at] : Bytes()));
  }
  if (g.sparse_initializer_size() > 0) fail(ErrorCode::kUnsupported, context_.source, "sparse initializers", "dense ones");
  for (const auto& i : g.input()) {
    if (ids_.count(i.name())) continue;  // IR < 4 lists initializers as inputs
    const auto known = context_.options.constant_inputs.find(i.name());
    if (!parent_ && known != context_.options.constant_inputs.end()) set_constant(define(i.name(), "input '" + i.name() + "'"), constant_input(known->second, i));
    else read_input(i);
  }
  if (!parent_) check_bound_dims();
  for (const auto& n : g.node()) read_node(n);
  read_outputs(g);
  for (const auto& [name, id] : ids_) {
    if (!defined_.count(name)) bad("", "value '" + name + "' is read but computed by no node", "an input, an initializer or a node output");
  }
  drop_unread_outputs();
  prune_and_sort(graph_);
  return std::move(graph_);
}

/// A caller's value for an input: of the declared type, which numbers take, and shape.
TensorPtr GraphReader::constant_input(const TensorPtr& given, const onnx::ValueInfoProto& info) {
  const std::string where = context_.source + ": input '" + info.name() + "'";
  used_constants_.insert(info.name());
  TensorPtr t = given;
  if (info.type().has_tensor_type() && info.type().tensor_type().elem_type() != 0) {
    const DType type = dtype_from(info.type().tensor_type().elem_type(), where);
    if (t->type != type && !t->shape.empty()) fail(ErrorCode::kMismatch, where, std::string("a constant of ") + to_string(t->type), to_string(type));
    if (t->type != type) {
      auto number = std::make_shared<Tensor>(type, Shape());
      number->set(0, t->at(0));
      const bool held = integer_kind(type).bits ? number->at(0) == t->at(0) : std::isfinite(number->at(0)) || !std::isfinite(t->at(0));
      if (!held) fail(ErrorCode::kMismatch, where, "the constant " + std::to_string(t->at(0)), std::string("a number that ") + to_string(type) + " holds");
      t = number;
    }
  }
  if (!info.type().tensor_type().has_shape()) return t;
  const auto& dims = info.type().tensor_type().shape().dim();
  if (t->shape.empty()) return spread(t, info);
  bool fits = static_cast<size_t>(dims.size()) == t->shape.size();
  std::string declared;
  for (int k = 0; k < dims.size(); ++k) {
    const auto& d = dims.Get(k);
    declared += (k ? "," : "") + (d.has_dim_value() ? std::to_string(d.dim_value()) : d.dim_param().empty() ? "?" : d.dim_param());
    fits = fits && (!d.has_dim_value() || d.dim_value() <= 0 || d.dim_value() == t->shape[static_cast<size_t>(k)]);
  }
  if (!fits) fail(ErrorCode::kMismatch, where, "a constant of shape " + to_string(t->shape), "[" + declared + "]");
  return t;
}

/// One number for a whole input whose extents the model fixes.
TensorPtr GraphReader::spread(const TensorPtr& number, const onnx::ValueInfoProto& info) {
  if (!number->shape.empty() || !info.type().tensor_type().has_shape()) return number;
  Shape shape;
  for (const auto& d : info.type().tensor_type().shape().dim()) shape.push_back(d.has_dim_value() ? d.dim_value() : 0);
  int64_t n = 1;
  for (int64_t d : shape) n = d < 1 || n > (int64_t{1} << 24) / d ? 0 : n * d;
  if (shape.empty() || n == 0) return number;
  auto wide = std::make_shared<Tensor>(number->type, shape);
  for (int64_t k = 0; k < n; ++k) std::copy(number->bytes.begin(), number->bytes.end(), wide->bytes.begin() + k * static_cast<int64_t>(number->bytes.size()));
  return wide;
}

ValueId GraphReader::id_of(const std::string& name) {
  const auto [it, added] = ids_.try_emplace(name, static_cast<ValueId>(graph_.values.size()));
  if (added) graph_.values.push_back({name, DType::kF32, {}, false, nullptr});
  return it->second;
}

ValueId GraphReader::define(const std::string& name, const std::string& what) {
  if (!defined_.insert(name).second) bad(what, "defines '" + name + "' a second time", "one definition per name");
  return id_of(name);
}

void GraphReader::collect_names(const onnx::GraphProto& g) {
  for (const auto& t : g.initializer()) own_names_.insert(t.name());
  for (const auto& i : g.input()) own_names_.insert(i.name());
  for (const auto& n : g.node()) own_names_.insert(n.output().begin(), n.output().end());
}

bool GraphReader::visible(const std::string& name) const {
  return parent_ == nullptr || own_names_.count(name) != 0 || defined_.count(name) != 0 || parent_->visible(name);
}

ValueId GraphReader::use(const std::string& name) {
  if (parent_ && !own_names_.count(name) && !defined_.count(name)) {
    if (!parent_->visible(name)) bad("graph '" + graph_.name + "'", "value '" + name + "' is defined neither here nor in a graph around it", "a defined value");
    captured_.push_back(name);
    const ValueId id = define(name, "captured value");
    graph_.inputs.push_back(id);
    return id;
  }
  return id_of(name);
}

void GraphReader::set_constant(ValueId id, TensorPtr t) {
  Value& v = graph_.value(id);
  v.type = t->type, v.shape = t->shape, v.shape_known = true, v.constant = std::move(t);
}

Shape GraphReader::bind_shape(const onnx::ValueInfoProto& info) {
  const auto& type = info.type().tensor_type();
  const ImportOptions& options = context_.options;
  const auto given = options.input_shapes.find(info.name());
  if (!type.has_shape() && given != options.input_shapes.end()) return given->second;
  Shape shape;
  for (int d = 0; d < type.shape().dim_size(); ++d) {
    const auto& dim = type.shape().dim(d);
    const std::string label = dim.has_dim_param() && !dim.dim_param().empty() ? dim.dim_param() : info.name() + "." + std::to_string(d);
    if (dim.has_dim_value() && (dim.dim_value() > 0 || (dim.dim_value() == 0 && given != options.input_shapes.end()))) {
      shape.push_back(dim.dim_value());
      continue;
    }
    const auto bound = options.dims.find(label);
    if (bound != options.dims.end()) used_dims_.insert(label);
    if (bound != options.dims.end()) shape.push_back(bound->second);
    else if (given != options.input_shapes.end() && given->second.size() == static_cast<size_t>(type.shape().dim_size())) shape.push_back(given->second[static_cast<size_t>(d)]);
    else if (d == 0) shape.push_back(1);  // a free batch is 1
    else unbound_.push_back(label + " (of input '" + info.name() + "', position " + std::to_string(d) + ")");
  }
  return shape;
}

void GraphReader::read_input(const onnx::ValueInfoProto& info) {
  const std::string what = "input '" + info.name() + "'", where = context_.source + ": " + what;
  const ValueId id = define(info.name(), what);
  graph_.inputs.push_back(id);
  // A sequence or optional, or an input of a subgraph: known when it arrives.
  if (parent_ || !info.type().has_tensor_type()) {
    if (info.type().has_tensor_type() && info.type().tensor_type().elem_type() != 0) graph_.value(id).type = dtype_from(info.type().tensor_type().elem_type(), where);
    // What a subgraph declares is kept for graph_writer; nothing else relies on it.
    for (const auto& dim : info.type().tensor_type().shape().dim()) graph_.value(id).shape.push_back(dim.dim_value());
    return;
  }
  const Shape shape = bind_shape(info);
  const auto given = context_.options.input_shapes.find(info.name());
  const bool fed = given != context_.options.input_shapes.end();
  for (int64_t d : shape) {
    if (d < (fed ? 0 : 1) || d > (int64_t{1} << 31)) fail(ErrorCode::kBadInput, where, "extent " + std::to_string(d), "1 to 2^31");
  }
  if (fed && unbound_.empty() && given->second != shape) {
    fail(ErrorCode::kMismatch, where, "given data of shape " + to_string(given->second), "shape " + to_string(shape));
  }
  Value& v = graph_.value(id);
  v.type = dtype_from(info.type().tensor_type().elem_type(), where), v.shape = shape, v.shape_known = true;
  element_count(shape);
}

void GraphReader::check_bound_dims() const {
  for (const auto& [name, value] : context_.options.constant_inputs) {
    if (!used_constants_.count(name)) bad("", "--constant " + name + " names no input of this model");
  }
  if (!unbound_.empty()) {
    std::string list;
    for (const auto& u : unbound_) list += (list.empty() ? "" : ", ") + u;
    fail(ErrorCode::kBadInput, context_.source, "dimensions without a value: " + list, "a value for each", "bind them with --dim NAME=VALUE or give the input with --input");
  }
  for (const auto& [name, value] : context_.options.dims) {
    if (!used_dims_.count(name)) bad("", "--dim " + name + "=" + std::to_string(value) + " names no free dimension of this model");
  }
}

/// Tools that edit models leave a second Constant node under the name of the first: the last one counts, as in ONNX Runtime.
bool GraphReader::repeats_constant(const onnx::NodeProto& n) {
  if (n.op_type() != "Constant" || n.output_size() != 1) return false;
  const auto [it, added] = constants_.try_emplace(n.output(0), graph_.nodes.size());
  if (added) return false;
  Node& earlier = graph_.nodes[it->second];
  std::get<OnnxOp>(earlier.op).attributes.clear();
  for (const auto& a : n.attribute()) read_attribute(earlier, a, context_.source + ": node '" + earlier.name + "'");
  return true;
}

/// Of ONNX's own operators all but those that make something from nothing, and loops without an end.
static bool needs_inputs(const OnnxOp& op) {
  static const std::set<std::string> kSources = {"Constant", "RandomNormal", "RandomUniform", "SequenceEmpty", "Optional", "OptionalHasElement", "Loop"};
  return op.domain.empty() && !kSources.count(op.type);
}

void GraphReader::read_node(const onnx::NodeProto& n) {
  if (repeats_constant(n)) return;
  Node node;
  node.name = !n.name().empty() ? n.name() : n.op_type() + "_" + std::to_string(graph_.nodes.size());
  const std::string what = "node '" + node.name + "'";
  OnnxOp op;
  op.domain = normal_domain(n.domain()), op.type = n.op_type();
  const auto opset = context_.opsets.find(op.domain);
  op.opset = opset == context_.opsets.end() ? 1 : static_cast<int>(opset->second);
  if (op.type.empty()) bad(what, "no operator type");
  node.op = std::move(op);
  for (const auto& i : n.input()) node.inputs.push_back(i.empty() ? kNoValue : use(i));
  while (!node.inputs.empty() && node.inputs.back() == kNoValue) node.inputs.pop_back();
  if (node.inputs.empty() && needs_inputs(std::get<OnnxOp>(node.op))) bad(what + " (" + n.op_type() + ")", "no inputs", "what the operator reads");
  for (const auto& a : n.attribute()) read_attribute(node, a, context_.source + ": " + what);
  for (const auto& o : n.output()) node.outputs.push_back(o.empty() ? kNoValue : define(o, what));
  if (node.outputs.empty()) bad(what, "no outputs", "one or more");
  graph_.nodes.push_back(std::move(node));
}

/// What the subgraph captures becomes further inputs of the node.
GraphPtr GraphReader::read_subgraph(Node& node, const onnx::GraphProto& g) {
  GraphReader reader(context_, this);
  Graph sub = reader.run(g);
  for (const std::string& name : reader.captured_) {
    sub.captures.push_back(static_cast<int>(node.inputs.size()));
    node.inputs.push_back(use(name));
  }
  return std::make_shared<const Graph>(std::move(sub));
}

void GraphReader::read_attribute(Node& node, const onnx::AttributeProto& a, const std::string& where) {
  using A = onnx::AttributeProto;
  auto& op = std::get<OnnxOp>(node.op);
  Attribute value;
  switch (a.type()) {
    case A::INT: value = static_cast<int64_t>(a.i()); break;
    case A::FLOAT: value = a.f(); break;
    case A::STRING: value = a.s(); break;
    case A::TENSOR: value = context_.tensors.read(a.t()); break;
    case A::INTS: value = std::vector<int64_t>(a.ints().begin(), a.ints().end()); break;
    case A::FLOATS: value = std::vector<float>(a.floats().begin(), a.floats().end()); break;
    case A::STRINGS: value = std::vector<std::string>(a.strings().begin(), a.strings().end()); break;
    case A::GRAPH: value = read_subgraph(node, a.g()); break;
    case A::TYPE_PROTO: return;  // types of Optional: known when the value arrives
    default: fail(ErrorCode::kUnsupported, where + "." + a.name(), "an attribute of type " + std::to_string(a.type()));
  }
  // Element types are ONNX numbers in these attributes; the compiler's own follow under another name.
  if (a.type() == A::INT && (a.name() == "to" || a.name() == "dtype" || a.name() == "output_dtype") && a.i() != 0) op.attributes["systole_to"] = static_cast<int64_t>(dtype_from(static_cast<int>(a.i()), where));
  op.attributes[a.name()] = std::move(value);
}

void GraphReader::read_outputs(const onnx::GraphProto& g) {
  for (const auto& o : g.output()) {
    if (!parent_ && !ids_.count(o.name())) bad("", "output '" + o.name() + "' is computed by no node", "the name of a value");
    const ValueId id = use(o.name());
    Value& v = graph_.value(id);
    if (!v.constant && o.type().has_tensor_type() && o.type().tensor_type().elem_type() != 0) v.type = dtype_from(o.type().tensor_type().elem_type(), "output '" + o.name() + "'");
    graph_.outputs.push_back(id);
  }
  if (graph_.outputs.empty()) bad("", "the graph has no outputs");
}

/// Optional outputs that nothing reads (Dropout's mask) are absent.
void GraphReader::drop_unread_outputs() {
  const Uses uses(graph_);
  for (Node& n : graph_.nodes) {
    const std::string& type = std::get<OnnxOp>(n.op).type;
    for (size_t k = 1; k < n.outputs.size(); ++k) {
      const size_t v = static_cast<size_t>(n.outputs[k]);
      if (n.outputs[k] != kNoValue && uses.readers[v].empty() && !uses.is_output[v] && type != "Split") n.outputs[k] = kNoValue;
    }
  }
}

}  // namespace systole
