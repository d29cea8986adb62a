#include "graph/text.h"

#include <nlohmann/json.hpp>
#include <sstream>

#include "base/content_key.h"
#include "base/error.h"
#include "base/file.h"

namespace systole {

using nlohmann::json;

NLOHMANN_JSON_SERIALIZE_ENUM(MacFormat, {{MacFormat::kInt8, "int8"}, {MacFormat::kBF16, "bf16"}, {MacFormat::kF16, "f16"}, {MacFormat::kF32, "f32"}})
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Contract, format, kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left, groups, depthwise, b_transposed, a_zero, b_zero, group_rows)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(IndexTerm, loop, coefficient)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(IndexExpr, offset, terms)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Access, index, guarded, zero_point)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CopyRegion, input, extents, src_offset, dst_offset, src_strides, dst_strides)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Move, regions, fill_bits)
static void to_json(json& j, const View& v) { j = v.offset_bytes ? json{{"offset_bytes", v.offset_bytes}} : json::object(); }
[[maybe_unused]] static void from_json(const json& j, View& v) { v.offset_bytes = j.value("offset_bytes", int64_t{0}); }

static uint32_t bits(float v) { return std::bit_cast<uint32_t>(v); }
static void to_json(json& j, const Operand& o) {
  switch (o.kind) {
    case Operand::Kind::kInput: j = "in" + std::to_string(o.index); break;
    case Operand::Kind::kResult: j = "t" + std::to_string(o.index); break;
    case Operand::Kind::kReduced: j = "reduced"; break;
    case Operand::Kind::kConstant: j = {{"f32", bits(o.constant)}, {"is", o.constant}}; break;
  }
}
static void from_json(const json& j, Operand& o) {
  if (j.is_object()) {
    o = Operand::value(std::bit_cast<float>(j.at("f32").get<uint32_t>()));
    return;
  }
  const std::string s = j.get<std::string>();
  if (s == "reduced") o = Operand::reduced();
  else if (s.starts_with("in")) o = Operand::input(std::stoi(s.substr(2)));
  else o = Operand::result(std::stoi(s.substr(1)));
}
static void to_json(json& j, const Operation& o) {
  j = json::array({isa::micro_info(o.op).name});
  for (const auto& a : o.operands) j.push_back(a);
}
static void from_json(const json& j, Operation& o) {
  const std::string name = j.at(0).get<std::string>();
  for (int i = 0; i < isa::kMicroCount; ++i) {
    if (name == isa::micro_info(static_cast<isa::Micro>(i)).name) o.op = static_cast<isa::Micro>(i);
  }
  for (size_t i = 1; i < j.size(); ++i) o.operands.push_back(j[i].get<Operand>());
}
static void to_json(json& j, const Map& m) {
  j = {{"extents", m.extents}, {"reduced", m.reduced}, {"reduce", static_cast<int>(m.reduce)}, {"accesses", m.accesses}, {"pre", m.pre}, {"post", m.post}, {"fill", bits(m.fill)},
       {"out_zero", m.out_zero}, {"out_lo", m.out_lo}, {"out_hi", m.out_hi}};
}
static void from_json(const json& j, Map& m) {
  j.at("extents").get_to(m.extents), j.at("reduced").get_to(m.reduced), j.at("accesses").get_to(m.accesses);
  j.at("pre").get_to(m.pre), j.at("post").get_to(m.post), j.at("out_zero").get_to(m.out_zero), j.at("out_lo").get_to(m.out_lo), j.at("out_hi").get_to(m.out_hi);
  m.reduce = static_cast<isa::Reduce>(j.at("reduce").get<int>() & 3);
  m.fill = std::bit_cast<float>(j.at("fill").get<uint32_t>());
}

namespace {

std::string to_hex(const TensorBytes& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string s;
  s.reserve(bytes.size() * 2);
  for (uint8_t b : bytes) s += kDigits[b >> 4], s += kDigits[b & 15];
  return s;
}

std::vector<uint8_t> from_hex(const std::string& s) {
  std::vector<uint8_t> bytes(s.size() / 2);
  auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(digit(s[2 * i]) << 4 | digit(s[2 * i + 1]));
  return bytes;
}

json tensor_json(const Tensor& t, bool with_data) {
  json j = {{"type", to_string(t.type)}, {"shape", t.shape}};
  if (!t.strings.empty()) j["strings"] = t.strings;
  else if (with_data) j["hex"] = to_hex(t.bytes);
  else j["hash"] = content_key({reinterpret_cast<const char*>(t.bytes.data()), t.bytes.size()});
  return j;
}

DType type_from(const json& j) {
  const auto type = parse_dtype(j.get<std::string>());
  if (!type) throw std::runtime_error("unknown type " + j.dump());
  return *type;
}

TensorPtr tensor_from(const json& j) {
  auto t = std::make_shared<Tensor>();
  t->type = type_from(j.at("type"));
  j.at("shape").get_to(t->shape);
  if (j.contains("strings")) t->strings = j["strings"].get<std::vector<std::string>>();
  else t->bytes = from_hex(j.at("hex").get<std::string>());
  if (bytes_of(t->type) && static_cast<int64_t>(t->bytes.size()) != t->count() * bytes_of(t->type)) throw std::runtime_error("constant of the wrong size");
  return t;
}

json attribute_json(const Attribute& a, bool with_data) {
  return std::visit(Overload{[&](const TensorPtr& t) { return json{{"tensor", tensor_json(*t, with_data)}}; }, [](int64_t v) { return json{{"int", v}}; },
                             [](float v) { return json{{"float", bits(v)}}; }, [](const std::string& v) { return json{{"string", v}}; },
                             [](const std::vector<int64_t>& v) { return json{{"ints", v}}; },
                             [](const std::vector<float>& v) {
                               json list = json::array();
                               for (float f : v) list.push_back(bits(f));
                               return json{{"floats", list}};
                             },
                             [](const std::vector<std::string>& v) { return json{{"strings", v}}; }, [&](const GraphPtr& g) { return json{{"graph", print_graph(*g, with_data)}}; }},
                    a);
}

Attribute attribute_from(const json& j) {
  const auto it = j.begin();
  const std::string kind = it.key();
  if (kind == "tensor") return tensor_from(*it);
  if (kind == "int") return it->get<int64_t>();
  if (kind == "float") return std::bit_cast<float>(it->get<uint32_t>());
  if (kind == "string") return it->get<std::string>();
  if (kind == "ints") return it->get<std::vector<int64_t>>();
  if (kind == "graph") return std::make_shared<const Graph>(parse_graph(it->get<std::string>(), "subgraph"));
  if (kind == "strings") return it->get<std::vector<std::string>>();
  std::vector<float> floats;
  for (const auto& f : *it) floats.push_back(std::bit_cast<float>(f.get<uint32_t>()));
  return floats;
}

json op_json(const Op& op, bool with_data) {
  return std::visit(Overload{[&](const OnnxOp& o) {
                               json attributes = json::object();
                               for (const auto& [name, a] : o.attributes) attributes[name] = attribute_json(a, with_data);
                               return json{{"onnx", {{"domain", o.domain}, {"type", o.type}, {"opset", o.opset}, {"attributes", attributes}}}};
                             },
                             [](const Contract& c) { return json{{"contract", c}}; }, [](const Map& m) { return json{{"map", m}}; }, [](const Move& m) { return json{{"move", m}}; },
                             [](const View& v) { return json{{"view", v}}; }, [](const Join&) { return json{{"join", json::object()}}; }},
                    op);
}

Op op_from(const json& j) {
  const auto it = j.begin();
  if (it.key() == "contract") return it->get<Contract>();
  if (it.key() == "map") return it->get<Map>();
  if (it.key() == "move") return it->get<Move>();
  if (it.key() == "view") return it->get<View>();
  if (it.key() == "join") return Join{};
  OnnxOp o;
  it->at("domain").get_to(o.domain), it->at("type").get_to(o.type), it->at("opset").get_to(o.opset);
  for (const auto& [name, a] : it->at("attributes").items()) o.attributes[name] = attribute_from(a);
  return o;
}

}  // namespace

std::string print_graph(const Graph& graph, bool with_data) {
  std::string text;
  auto line = [&](const json& j) { text += j.dump(-1, ' ', false, json::error_handler_t::replace) + "\n"; };
  for (size_t i = 0; i < graph.values.size(); ++i) {
    const Value& v = graph.values[i];
    json j = {{"value", i}, {"name", v.name}, {"type", to_string(v.type)}, {"shape", v.shape}, {"known", v.shape_known}};
    if (v.constant) j["constant"] = tensor_json(*v.constant, with_data);
    line(j);
  }
  for (const Node& n : graph.nodes) line({{"node", n.name}, {"op", op_json(n.op, with_data)}, {"in", n.inputs}, {"out", n.outputs}});
  json last = {{"graph", graph.name}, {"inputs", graph.inputs}, {"outputs", graph.outputs}};
  if (!graph.captures.empty()) last["captures"] = graph.captures;
  line(last);
  return text;
}

Graph parse_graph(const std::string& text, const std::string& source) {
  Graph graph;
  std::istringstream lines(text);
  std::string line;
  int number = 0;
  try {
    while (std::getline(lines, line)) {
      ++number;
      if (line.empty()) continue;
      const json j = json::parse(line);
      if (j.contains("value")) {
        Value v;
        j.at("name").get_to(v.name), j.at("shape").get_to(v.shape), j.at("known").get_to(v.shape_known);
        v.type = type_from(j.at("type"));
        if (j.contains("constant")) v.constant = tensor_from(j["constant"]);
        graph.values.push_back(std::move(v));
      } else if (j.contains("node")) {
        graph.nodes.push_back({j.at("node").get<std::string>(), op_from(j.at("op")), j.at("in").get<std::vector<ValueId>>(), j.at("out").get<std::vector<ValueId>>()});
      } else {
        j.at("graph").get_to(graph.name), j.at("inputs").get_to(graph.inputs), j.at("outputs").get_to(graph.outputs);
        if (j.contains("captures")) j["captures"].get_to(graph.captures);
      }
    }
  } catch (const std::exception& e) {
    fail(ErrorCode::kBadInput, source + ":" + std::to_string(number), e.what(), "a line written by --stop-after");
  }
  return graph;
}

}  // namespace systole
