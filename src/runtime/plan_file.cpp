// Plans as files: a JSON head (the host's nodes and the order of everything), then the programs. Nothing in a file is
// trusted.
#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/error.h"
#include "graph/text.h"
#include "isa/codec.h"
#include "runtime/plan.h"

namespace systole {
namespace {

using nlohmann::json;
constexpr char kMagic[] = "SYSTPLAN";  // eight bytes

std::vector<uint8_t> copy_of(const void* data, size_t n) { return {static_cast<const uint8_t*>(data), static_cast<const uint8_t*>(data) + n}; }
/// A length and the pieces of one block.
void put_block(std::vector<Bytes>& out, std::initializer_list<Bytes> pieces) {
  uint64_t n = 0;
  for (const Bytes& b : pieces) n += b.size();
  out.push_back(copy_of(&n, 8));
  out.insert(out.end(), pieces);
}

/// The next length-prefixed block.
class Blocks {
 public:
  Blocks(Bytes bytes, std::string source) : bytes_(std::move(bytes)), source_(std::move(source)) {}
  Bytes next() {
    uint64_t n = 0;
    if (at_ + 8 > bytes_.size()) cut();
    std::memcpy(&n, bytes_.data() + at_, 8);
    at_ += 8;
    if (n > bytes_.size() - at_) cut();
    at_ += n;
    return bytes_.slice(at_ - n, n);
  }

 private:
  [[noreturn]] void cut() const { fail(ErrorCode::kBadInput, source_, "the file ends early", "a complete .npu file"); }
  const Bytes bytes_;
  const std::string source_;
  size_t at_ = 8;
};

/// Large constants leave the text: their bytes follow as blocks.
json head_of(Graph g, std::vector<TensorPtr>& blobs) {
  json list = json::array();
  for (size_t v = 0; v < g.values.size(); ++v) {
    TensorPtr& t = g.values[v].constant;
    if (!t || t->type == DType::kString || t->bytes.size() < 1024) continue;
    list.push_back({{"value", v}, {"type", to_string(t->type)}, {"shape", t->shape}});
    blobs.push_back(std::exchange(t, nullptr));
  }
  return {{"text", print_graph(g, true)}, {"blobs", list}};
}

std::vector<std::string> names_of(const std::vector<DType>& types) {
  std::vector<std::string> out;
  for (DType t : types) out.emplace_back(to_string(t));
  return out;
}

std::vector<DType> read_types(const json& j, size_t count, const std::string& source) {
  std::vector<DType> out;
  for (const auto& name : j) {
    const auto type = parse_dtype(name.get<std::string>());
    if (!type) fail(ErrorCode::kBadInput, source, "type '" + name.get<std::string>() + "'", "one of Systole's types");
    out.push_back(*type);
  }
  if (out.size() != count) fail(ErrorCode::kBadInput, source, std::to_string(out.size()) + " types of outputs", std::to_string(count));
  return out;
}

void check_ids(const std::vector<ValueId>& ids, size_t values, bool optional, const std::string& source) {
  for (ValueId v : ids) {
    if (v < (optional ? kNoValue : 0) || static_cast<size_t>(v + 1) > values) fail(ErrorCode::kBadInput, source, "value number " + std::to_string(v), "0 to " + std::to_string(values));
  }
}

Graph read_graph(const json& j, const std::string& source) {
  Graph g = parse_graph(j.get<std::string>(), source);
  check_ids(g.inputs, g.values.size(), false, source), check_ids(g.outputs, g.values.size(), false, source);
  for (const Node& n : g.nodes) {
    check_ids(n.inputs, g.values.size(), true, source), check_ids(n.outputs, g.values.size(), true, source);
    if (!std::holds_alternative<OnnxOp>(n.op)) fail(ErrorCode::kBadInput, source, "a primitive among the host's nodes", "ONNX operators");
    for (const auto& [name, a] : std::get<OnnxOp>(n.op).attributes) {
      if (const auto* sub = std::get_if<GraphPtr>(&a)) read_graph(json(print_graph(**sub, true)), source);
    }
  }
  return g;
}

/// The graph of head_of, with its constants from the next blocks.
Graph read_graph_with_blobs(const json& j, Blocks& blocks, const std::string& source) {
  Graph g = read_graph(j.at("text"), source);
  for (const auto& b : j.at("blobs")) {
    const size_t v = b.at("value").get<size_t>();
    const auto type = parse_dtype(b.at("type").get<std::string>());
    auto t = std::make_shared<Tensor>();
    t->shape = b.at("shape").get<Shape>(), t->bytes = blocks.next();
    if (v >= g.values.size() || !type || bytes_of(*type) == 0 || static_cast<int64_t>(t->bytes.size()) != element_count(t->shape) * bytes_of(*type)) fail(ErrorCode::kBadInput, source, "a constant of the wrong size", "the bytes of its shape");
    t->type = *type;
    g.values[v].constant = t;
  }
  return g;
}

}  // namespace

bool Plan::exact_file() const {
  if (!whole_) return true;
  const auto& p = programs_[0]->program;
  const Graph& g = partition_.graph;
  auto same = [&](const std::vector<isa::BoundaryTensor>& list, const std::vector<ValueId>& ids) {
    for (size_t k = 0; k < ids.size(); ++k) {
      if (g.value(ids[k]).type != list[k].type) return false;
    }
    return true;
  };
  return same(p.inputs, g.inputs) && same(p.outputs, g.outputs);
}

bool Plan::is_plan_file(const Bytes& bytes) { return bytes.size() >= 8 && std::memcmp(bytes.data(), kMagic, 8) == 0; }

std::vector<Bytes> Plan::serialise(const std::string& model) const {
  if (whole_) return {isa::serialise_before_constants(programs_[0]->program), programs_[0]->program.constants};
  json head = {{"model", model}, {"precision", context_->precision}, {"machine", context_->machine.name}, {"machine_hash", context_->machine.hash}, {"store", static_cast<int>(context_->policy.store)}, {"format", static_cast<int>(context_->policy.format)}};
  if (context_->batch != 1) head["batch"] = context_->batch;
  std::vector<TensorPtr> blobs;
  head["graph"] = head_of(partition_.graph, blobs);
  head["steps"] = json::array(), head["tail"] = json::array();
  for (const auto& step : partition_.steps) {
    if (const auto* r = std::get_if<Region>(&step)) head["steps"].push_back({{"in", r->inputs}, {"out", r->outputs}, {"types", names_of(r->output_types)}});
    else head["steps"].push_back({{"node", std::get<HostStep>(step).node}, {"reason", std::get<HostStep>(step).reason}});
  }
  for (const Region& t : partition_.tail) head["tail"].push_back({{"graph", head_of(t.graph, blobs)}, {"in", t.inputs}, {"out", t.outputs}});
  std::vector<Bytes> out = {copy_of(kMagic, 8)};
  const std::string text = head.dump(-1, ' ', false, json::error_handler_t::replace);
  put_block(out, {copy_of(text.data(), text.size())});
  for (const TensorPtr& t : blobs) put_block(out, {Bytes(t, t->bytes.data(), t->bytes.size())});
  for (const auto& p : programs_) put_block(out, {isa::serialise_before_constants(p->program), p->program.constants});
  return out;
}

PlanHead Plan::read_head(const Bytes& bytes, const std::string& source) {
  const auto block = Blocks(bytes, source).next();
  PlanHead h;
  try {
    const json j = json::parse(block.begin(), block.end());
    j.at("model").get_to(h.model), j.at("precision").get_to(h.precision), j.at("machine").get_to(h.machine), j.at("machine_hash").get_to(h.machine_hash);
    h.batch = j.value("batch", int64_t{1});
    isa::check_batch(source, h.batch);
    const int store = j.at("store").get<int>(), format = j.at("format").get<int>();
    if (store < 0 || store >= kDTypeCount || format < 0 || format > 3) fail(ErrorCode::kBadInput, source, "an unknown precision", "one that systole wrote");
    h.policy = {static_cast<DType>(store), static_cast<MacFormat>(format)};
  } catch (const json::exception& e) {
    fail(ErrorCode::kBadInput, source, e.what(), "a .npu file");
  }
  return h;
}

std::unique_ptr<Plan> Plan::deserialise(const Bytes& bytes, const std::string& source, std::shared_ptr<const PlanContext> context) {
  Blocks blocks(bytes, source);
  const auto block = blocks.next();
  std::unique_ptr<Plan> plan(new Plan(std::move(context)));
  Partition& p = plan->partition_;
  try {
    const json j = json::parse(block.begin(), block.end());
    p.graph = read_graph_with_blobs(j.at("graph"), blocks, source);
    const size_t values = p.graph.values.size();
    for (const auto& t : j.at("tail")) {
      Region r{read_graph_with_blobs(t.at("graph"), blocks, source), t.at("in").get<std::vector<ValueId>>(), t.at("out").get<std::vector<ValueId>>()};
      check_ids(r.inputs, values, false, source), check_ids(r.outputs, values, false, source);
      if (r.inputs.size() != r.graph.inputs.size() || r.outputs.size() != r.graph.outputs.size()) fail(ErrorCode::kBadInput, source, "a graph of another boundary", "as many values as it has inputs and outputs");
      p.tail.push_back(std::move(r));
    }
    for (const auto& s : j.at("steps")) {
      if (s.contains("node")) {
        const size_t node = s.at("node").get<size_t>();
        if (node >= p.graph.nodes.size()) fail(ErrorCode::kBadInput, source, "node number " + std::to_string(node), "a node of the graph");
        p.steps.emplace_back(HostStep{node, s.at("reason").get<std::string>()});
        const Node& n = p.graph.nodes[node];
        plan->host_nodes_.push_back({n.name, op_name(n.op), std::get<HostStep>(p.steps.back()).reason, 0});
        continue;
      }
      Region r;
      r.inputs = s.at("in").get<std::vector<ValueId>>(), r.outputs = s.at("out").get<std::vector<ValueId>>();
      check_ids(r.inputs, values, false, source), check_ids(r.outputs, values, false, source);
      r.output_types = read_types(s.at("types"), r.outputs.size(), source);
      isa::Program program = isa::deserialise(blocks.next(), source);
      if (program.machine_hash != plan->context_->machine.hash || program.inputs.size() != r.inputs.size() || program.outputs.size() != r.outputs.size()) fail(ErrorCode::kMismatch, source, "a program of another machine or boundary", "the one that the head describes");
      plan->programs_.push_back(std::make_unique<LoadedProgram>(std::move(program), plan->context_->machine));
      p.steps.emplace_back(std::move(r));
    }
  } catch (const json::exception& e) {
    fail(ErrorCode::kBadInput, source, e.what(), "a .npu file");
  }
  plan->describe_boundary();
  return plan;
}

}  // namespace systole
