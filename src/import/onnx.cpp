#include "import/onnx.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "import/tensor_file.h"

namespace systole {
namespace {

constexpr int64_t kOldestOpset = 6, kNewestOpset = 27;

DType dtype_from(int onnx_type, const std::string& where) {
  using T = onnx::TensorProto;
  switch (onnx_type) {
    case T::FLOAT: return DType::kF32;
    case T::FLOAT16: return DType::kF16;
    case T::BFLOAT16: return DType::kBF16;
    case T::DOUBLE: return DType::kF64;
    case T::INT8: return DType::kI8;
    case T::UINT8: return DType::kU8;
    case T::INT16: return DType::kI16;
    case T::UINT16: return DType::kU16;
    case T::INT32: return DType::kI32;
    case T::UINT32: return DType::kU32;
    case T::INT64: return DType::kI64;
    case T::UINT64: return DType::kU64;
    case T::BOOL: return DType::kBool;
    case T::STRING: return DType::kString;
    case 17: return DType::kF8E4M3;
    case 19: return DType::kF8E5M2;
    default: fail(ErrorCode::kUnsupported, where, "element type " + std::to_string(onnx_type), "a numeric type of up to 64 bits, or string");
  }
}

class Importer {
 public:
  Importer(const std::string& source, const std::string& folder, const ImportOptions& options) : source_(source), folder_(folder), options_(options) {}

  /// One tensor outside a model.
  TensorPtr tensor(const onnx::TensorProto& t) { return read_tensor(t); }

  Graph run(const onnx::ModelProto& model) {
    if (!model.has_graph()) fail(ErrorCode::kBadInput, source_, "the file holds no graph", "an ONNX model");
    if (model.functions_size() > 0) fail(ErrorCode::kUnsupported, source_, "the model defines functions of its own", "a model whose functions are inlined");
    for (const auto& o : model.opset_import()) opsets_[normal_domain(o.domain())] = o.version();
    const int64_t opset = opsets_.count("") ? opsets_[""] : 0;
    if (opset != 0 && (opset < kOldestOpset || opset > kNewestOpset)) {
      fail(ErrorCode::kUnsupported, source_, "opset " + std::to_string(opset), "opsets " + std::to_string(kOldestOpset) + " to " + std::to_string(kNewestOpset), "convert the model with onnx.version_converter");
    }
    const onnx::GraphProto& g = model.graph();
    graph_.name = g.name();
    for (const auto& t : g.initializer()) {
      if (t.name().empty()) fail(ErrorCode::kBadInput, source_, "an initializer without a name");
      const ValueId id = define(t.name(), "initializer '" + t.name() + "'");
      set_constant(id, read_tensor(t));
    }
    if (g.sparse_initializer_size() > 0) fail(ErrorCode::kUnsupported, source_, "sparse initializers", "dense ones");
    for (const auto& i : g.input()) {
      if (ids_.count(i.name())) continue;  // IR < 4 lists initializers as inputs
      if (const auto known = options_.constant_inputs.find(i.name()); known != options_.constant_inputs.end()) {
        set_constant(define(i.name(), "input '" + i.name() + "'"), known->second);
        continue;
      }
      read_input(i);
    }
    check_bound_dims();
    for (const auto& n : g.node()) read_node(n);
    for (const auto& o : g.output()) {
      const auto it = ids_.find(o.name());
      if (it == ids_.end()) fail(ErrorCode::kBadInput, source_, "output '" + o.name() + "' is computed by no node", "the name of a value");
      Value& v = graph_.value(it->second);
      if (!v.constant && o.type().has_tensor_type()) v.type = dtype_from(o.type().tensor_type().elem_type(), "output '" + o.name() + "'");
      graph_.outputs.push_back(it->second);
    }
    if (graph_.outputs.empty()) fail(ErrorCode::kBadInput, source_, "the graph has no outputs");
    for (const auto& [name, id] : ids_) {
      if (!defined_.count(name)) fail(ErrorCode::kBadInput, source_, "value '" + name + "' is read but computed by no node", "an input, an initializer or a node output");
    }
    drop_unread_outputs();
    prune_and_sort(graph_);
    return std::move(graph_);
  }

 private:
  static std::string normal_domain(const std::string& d) { return d == "ai.onnx" ? "" : d; }

  ValueId id_of(const std::string& name) {
    const auto [it, added] = ids_.try_emplace(name, static_cast<ValueId>(graph_.values.size()));
    if (added) graph_.values.push_back({name, DType::kF32, {}, false, nullptr});
    return it->second;
  }
  ValueId define(const std::string& name, const std::string& what) {
    if (!defined_.insert(name).second) fail(ErrorCode::kBadInput, source_ + ": " + what, "defines '" + name + "' a second time", "one definition per name");
    return id_of(name);
  }
  void set_constant(ValueId id, TensorPtr t) {
    Value& v = graph_.value(id);
    v.type = t->type, v.shape = t->shape, v.shape_known = true, v.constant = std::move(t);
  }

  void read_input(const onnx::ValueInfoProto& info) {
    const std::string where = source_ + ": input '" + info.name() + "'";
    if (!info.type().has_tensor_type()) fail(ErrorCode::kUnsupported, where, "not a tensor (sequence, optional or map)", "a tensor");
    const auto& type = info.type().tensor_type();
    const ValueId id = define(info.name(), "input '" + info.name() + "'");
    const auto given = options_.input_shapes.find(info.name());
    Shape shape;
    for (int d = 0; d < type.shape().dim_size(); ++d) {
      const auto& dim = type.shape().dim(d);
      const std::string label = dim.has_dim_param() && !dim.dim_param().empty() ? dim.dim_param() : info.name() + "." + std::to_string(d);
      const bool fixed = dim.has_dim_value() && dim.dim_value() > 0;
      if (fixed) {
        shape.push_back(dim.dim_value());
        continue;
      }
      const auto bound = options_.dims.find(label);
      if (bound != options_.dims.end()) used_dims_.insert(label);
      if (bound != options_.dims.end()) shape.push_back(bound->second);
      else if (given != options_.input_shapes.end() && given->second.size() == static_cast<size_t>(type.shape().dim_size())) shape.push_back(given->second[static_cast<size_t>(d)]);
      else if (d == 0) shape.push_back(1);  // a free batch is 1
      else unbound_.push_back(label + " (of input '" + info.name() + "', position " + std::to_string(d) + ")");
    }
    for (int64_t d : shape) {
      if (d < 1 || d > (int64_t{1} << 31)) fail(ErrorCode::kBadInput, where, "extent " + std::to_string(d), "1 to 2^31");
    }
    if (given != options_.input_shapes.end() && unbound_.empty() && given->second != shape) {
      fail(ErrorCode::kMismatch, where, "given data of shape " + to_string(given->second), "shape " + to_string(shape));
    }
    Value& v = graph_.value(id);
    v.type = dtype_from(type.elem_type(), where), v.shape = shape, v.shape_known = true;
    element_count(shape);
    graph_.inputs.push_back(id);
  }

  void check_bound_dims() {
    if (!unbound_.empty()) {
      std::string list;
      for (const auto& u : unbound_) list += (list.empty() ? "" : ", ") + u;
      fail(ErrorCode::kBadInput, source_, "dimensions without a value: " + list, "a value for each", "bind them with --dim NAME=VALUE or give the input with --input");
    }
    for (const auto& [name, value] : options_.dims) {
      if (!used_dims_.count(name)) fail(ErrorCode::kBadInput, source_, "--dim " + name + "=" + std::to_string(value) + " names no free dimension of this model");
    }
  }

  /// Optional outputs that nothing reads (Dropout's mask) are absent.
  void drop_unread_outputs() {
    const Uses uses(graph_);
    for (Node& n : graph_.nodes) {
      for (size_t k = 1; k < n.outputs.size(); ++k) {
        const size_t v = static_cast<size_t>(n.outputs[k]);
        if (n.outputs[k] != kNoValue && uses.readers[v].empty() && !uses.is_output[v] && std::get<OnnxOp>(n.op).type != "Split") n.outputs[k] = kNoValue;
      }
    }
  }

  void read_node(const onnx::NodeProto& n) {
    const std::string name = !n.name().empty() ? n.name() : n.op_type() + "_" + std::to_string(graph_.nodes.size());
    const std::string where = source_ + ": node '" + name + "'";
    OnnxOp op;
    op.domain = normal_domain(n.domain()), op.type = n.op_type();
    const auto opset = opsets_.find(op.domain);
    op.opset = opset == opsets_.end() ? 1 : static_cast<int>(opset->second);
    if (op.type.empty()) fail(ErrorCode::kBadInput, where, "no operator type");
    for (const auto& a : n.attribute()) read_attribute(op, a, where);
    Node node{name, std::move(op), {}, {}};
    for (const auto& i : n.input()) node.inputs.push_back(i.empty() ? kNoValue : id_of(i));
    while (!node.inputs.empty() && node.inputs.back() == kNoValue) node.inputs.pop_back();
    for (const auto& o : n.output()) node.outputs.push_back(o.empty() ? kNoValue : define(o, "node '" + name + "'"));
    if (node.outputs.empty()) fail(ErrorCode::kBadInput, where, "no outputs", "one or more");
    graph_.nodes.push_back(std::move(node));
  }

  void read_attribute(OnnxOp& op, const onnx::AttributeProto& a, const std::string& where) {
    using A = onnx::AttributeProto;
    Attribute value;
    switch (a.type()) {
      case A::INT: value = static_cast<int64_t>(a.i()); break;
      case A::FLOAT: value = a.f(); break;
      case A::STRING: value = a.s(); break;
      case A::TENSOR: value = read_tensor(a.t()); break;
      case A::INTS: value = std::vector<int64_t>(a.ints().begin(), a.ints().end()); break;
      case A::FLOATS: value = std::vector<float>(a.floats().begin(), a.floats().end()); break;
      case A::STRINGS: value = std::vector<std::string>(a.strings().begin(), a.strings().end()); break;
      case A::GRAPH: case A::GRAPHS: return;  // operators with subgraphs are refused by name
      default: fail(ErrorCode::kUnsupported, where + "." + a.name(), "an attribute of type " + std::to_string(a.type()));
    }
    if (op.type == "Cast" && a.name() == "to") op.attributes["systole_to"] = static_cast<int64_t>(dtype_from(static_cast<int>(a.i()), where));
    op.attributes[a.name()] = std::move(value);
  }

  std::vector<uint8_t> external_data(const onnx::TensorProto& t, size_t expected, const std::string& where) {
    std::string location;
    uint64_t offset = 0, length = expected;
    for (const auto& e : t.external_data()) {
      try {
        if (e.key() == "location") location = e.value();
        else if (e.key() == "offset") offset = std::stoull(e.value());
        else if (e.key() == "length") length = std::stoull(e.value());
      } catch (const std::exception&) {
        fail(ErrorCode::kBadInput, where, "external data " + e.key() + " = '" + e.value() + "'", "a number");
      }
    }
    const std::filesystem::path relative(location);
    const bool escapes = relative.is_absolute() || std::any_of(relative.begin(), relative.end(), [](const auto& part) { return part == ".."; });
    if (folder_.empty() || location.empty() || escapes) fail(ErrorCode::kBadInput, where, "external data at '" + location + "'", "a file in the model's own folder");
    if (length != expected) fail(ErrorCode::kBadInput, where, "external data of " + std::to_string(length) + " bytes", std::to_string(expected));
    auto& file = external_[location];
    if (file.empty()) file = read_file(folder_ + "/" + location);
    if (offset > file.size() || length > file.size() - offset) fail(ErrorCode::kBadInput, where, "external data ends after the file does", "a file of " + std::to_string(offset + length) + " bytes");
    return {file.begin() + static_cast<long>(offset), file.begin() + static_cast<long>(offset + length)};
  }

  TensorPtr read_tensor(const onnx::TensorProto& t) {
    const std::string where = source_ + ": tensor '" + t.name() + "'";
    const DType type = dtype_from(t.data_type(), where);
    const Shape shape(t.dims().begin(), t.dims().end());
    auto out = std::make_shared<Tensor>();
    out->type = type, out->shape = shape;
    const int64_t n = element_count(shape);
    const size_t size = static_cast<size_t>(n) * static_cast<size_t>(bytes_of(type));
    auto wrong = [&](int64_t found) { fail(ErrorCode::kBadInput, where, std::to_string(found) + " elements for shape " + to_string(shape), std::to_string(n)); };
    if (type == DType::kString) {
      if (t.string_data_size() != n) wrong(t.string_data_size());
      out->strings.assign(t.string_data().begin(), t.string_data().end());
      return out;
    }
    if (t.data_location() == onnx::TensorProto::EXTERNAL) {
      out->bytes = external_data(t, size, where);
      return out;
    }
    if (t.has_raw_data()) {
      if (t.raw_data().size() != size) fail(ErrorCode::kBadInput, where, std::to_string(t.raw_data().size()) + " bytes for shape " + to_string(shape), std::to_string(size));
      out->bytes.assign(t.raw_data().begin(), t.raw_data().end());
      return out;
    }
    // Typed fields hold the elements, so the shape cannot claim more than the file has.
    auto copy = [&](const auto& field) {
      if (field.size() != n) wrong(field.size());
      out->bytes.resize(size);
      for (int64_t i = 0; i < n; ++i) {
        const auto v = field.Get(static_cast<int>(i));
        if (type == DType::kF16 || type == DType::kBF16) {
          const uint16_t bits = static_cast<uint16_t>(v);
          std::memcpy(out->bytes.data() + 2 * i, &bits, 2);
        } else if (is_float(type)) out->set(i, static_cast<double>(v));
        else out->set_int(i, static_cast<int64_t>(v));
      }
    };
    if (type == DType::kF32) copy(t.float_data());
    else if (type == DType::kF64) copy(t.double_data());
    else if (type == DType::kI64) copy(t.int64_data());
    else if (type == DType::kU64 || type == DType::kU32) copy(t.uint64_data());
    else copy(t.int32_data());
    return out;
  }

  const std::string source_, folder_;
  const ImportOptions options_;
  Graph graph_;
  std::map<std::string, ValueId> ids_;
  std::set<std::string> defined_, used_dims_;
  std::map<std::string, int64_t> opsets_;
  std::map<std::string, std::vector<uint8_t>> external_;
  std::vector<std::string> unbound_;
};

}  // namespace

namespace {
onnx::ModelProto parse_model(const void* data, size_t size, const std::string& source) {
  if (size > (size_t{1} << 31) - 1) fail(ErrorCode::kResource, source, "a protobuf of 2 GiB or more", "large tensors in external data");
  onnx::ModelProto model;
  google::protobuf::io::ArrayInputStream stream(data, static_cast<int>(size));
  google::protobuf::io::CodedInputStream coded(&stream);
  coded.SetRecursionLimit(64);
  google::protobuf::SetLogHandler(nullptr);
  if (!model.ParseFromCodedStream(&coded) || !coded.ConsumedEntireMessage()) {
    fail(ErrorCode::kBadInput, source, "not a complete ONNX protobuf", "a model file", "the file may be truncated or of another format");
  }
  return model;
}
}  // namespace

std::vector<std::string> input_names(const void* data, size_t size, const std::string& source) {
  const onnx::ModelProto model = parse_model(data, size, source);
  std::set<std::string> constants;
  for (const auto& t : model.graph().initializer()) constants.insert(t.name());
  std::vector<std::string> names;
  for (const auto& i : model.graph().input()) {
    if (!constants.count(i.name())) names.push_back(i.name());
  }
  return names;
}

Graph import_onnx_bytes(const void* data, size_t size, const std::string& source, const std::string& folder, const ImportOptions& options) {
  const onnx::ModelProto model = parse_model(data, size, source);
  return Importer(source, folder, options).run(model);
}

Tensor read_tensor_file(const std::string& path) {
  const auto bytes = read_file(path);
  onnx::TensorProto proto;
  google::protobuf::SetLogHandler(nullptr);
  if (!proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) || !proto.has_data_type()) fail(ErrorCode::kUnsupported, path, "not a tensor", "a TensorProto");
  return *Importer(path, "", {}).tensor(proto);
}

Graph import_onnx(const std::string& path, const ImportOptions& options) {
  const auto bytes = read_file(path);
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return import_onnx_bytes(bytes.data(), bytes.size(), path, folder.empty() ? "." : folder, options);
}

}  // namespace systole
