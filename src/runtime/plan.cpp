#include "runtime/plan.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>

#include "base/error.h"
#include "ops/reference.h"
#include "passes/passes.h"
#include "runtime/program_cache.h"

namespace systole {
namespace {

/// Plans that one subgraph may have with its small integer inputs bound as constants; further ones leave them free.
constexpr size_t kBoundVariants = 8;
constexpr int64_t kBoundElements = 64;

Tensor converted(const Tensor& t, DType type) {
  Tensor out(type, t.shape);
  for (int64_t i = 0, n = t.count(); i < n; ++i) {
    if (!is_float(type)) {
      out.set_int(i, t.int_at(i));
      continue;
    }
    const double v = is_float(t.type) ? t.at(i) : static_cast<double>(t.int_at(i));
    out.set(i, v);
    if (t.type == DType::kF64 && !std::isinf(v) && std::isinf(out.at(i))) fail(ErrorCode::kMismatch, "element " + std::to_string(i) + " of a double tensor", "2^" + std::to_string(std::ilogb(v)), "a value in the range of " + std::string(to_string(type)) + ", in which the NPU computes");
  }
  return out;
}

Plan::Boundary boundary_of(const Value& v) { return {v.name, v.type, v.shape, v.shape_known}; }

std::unique_ptr<LoadedProgram> compile_region(Graph primitives, const PlanContext& context) {
  if (context.reference) return std::make_unique<LoadedProgram>(std::move(primitives), context.machine);
  const ProgramCache cache(context.cache_folder);
  const std::string key = cache.enabled() ? cache.key_of(primitives, context.machine, context.precision + (context.least_memory ? ", least memory" : "") + (context.effort == Effort::kThorough ? ", thorough" : "")) : "";
  if (auto kept = cache.find(key, context.machine)) {
    kept->batch = context.batch;
    return std::make_unique<LoadedProgram>(std::move(*kept), context.machine);
  }
  isa::Program program = generate(primitives, context.machine, context.precision, {.judge = context.judge, .effort = context.effort, .least_memory = context.least_memory});
  program.batch = context.batch;
  cache.store(key, program);
  return std::make_unique<LoadedProgram>(std::move(program), context.machine);
}

isa::Program boundary_only(const Graph& primitives) {
  isa::Program p;
  p.model = primitives.name;
  for (ValueId v : primitives.inputs) p.inputs.push_back({primitives.value(v).name, primitives.value(v).type, primitives.value(v).shape, 0});
  for (ValueId v : primitives.outputs) p.outputs.push_back({primitives.value(v).name, primitives.value(v).type, primitives.value(v).shape, 0});
  return p;
}

}  // namespace

LoadedProgram::LoadedProgram(Graph primitives, const Machine& machine) : program(boundary_only(primitives)), machine_(machine), primitives_(std::make_unique<const Graph>(std::move(primitives))) {}

std::vector<Tensor> LoadedProgram::run(const std::vector<Tensor>& inputs) {
  if (primitives_) {
    ++runs;
    return evaluate(*primitives_, inputs);
  }
  if (!translated_) translated_ = std::make_unique<Translated>(program, machine_), sequence_ = nullptr;
  ++runs;
  return translated_->run(inputs, profile);
}

const isa::Sequence& LoadedProgram::sequence() {
  if (translated_) return translated_->sequence();
  if (!sequence_) sequence_ = std::make_unique<const isa::Sequence>(isa::sequence(program));
  return *sequence_;
}

Plan::Plan(Graph graph, std::shared_ptr<const PlanContext> context, bool bound) : context_(std::move(context)) {
  partition_ = partition(std::move(graph), context_->policy, bound);
  whole_ = partition_.whole;
  if (whole_) {
    fuse_maps(partition_.primitives);
    verify(partition_.primitives, "fuse");
    programs_.push_back(compile_region(std::move(partition_.primitives), *context_));
  }
  for (const auto& step : partition_.steps) {
    if (const auto* r = std::get_if<Region>(&step)) {
      Graph primitives = legalise(r->graph, context_->policy, partition_.forms);
      fuse_maps(primitives);
      verify(primitives, "fuse");
      programs_.push_back(compile_region(std::move(primitives), *context_));
    } else {
      const auto& h = std::get<HostStep>(step);
      const Node& n = partition_.graph.nodes[h.node];
      host_nodes_.push_back({n.name, op_name(n.op), h.reason, 0});
    }
  }
  partition_.forms.reset();
  own_what_stays();
  bind_constant_captures();
  describe_boundary();
}

/// Weights that programs hold go; what the host or a later part reads no longer shares bytes with the model's file.
void Plan::own_what_stays() {
  Graph& g = partition_.graph;
  std::set<ValueId> used;
  if (!whole_) used.insert(g.outputs.begin(), g.outputs.end());
  for (auto& step : partition_.steps) {
    if (const auto* h = std::get_if<HostStep>(&step)) used.insert(g.nodes[h->node].inputs.begin(), g.nodes[h->node].inputs.end());
    else std::get<Region>(step).graph = {};
  }
  for (Region& tail : partition_.tail) {
    used.insert(tail.inputs.begin(), tail.inputs.end());
    own_constants(tail.graph);
  }
  for (size_t v = 0; v < g.values.size(); ++v) {
    if (!used.count(static_cast<ValueId>(v))) g.values[v].constant = nullptr;
  }
  own_constants(g);
}

Plan::Plan(isa::Program program, std::shared_ptr<const PlanContext> context) : context_(std::move(context)), whole_(true) {
  programs_.push_back(std::make_unique<LoadedProgram>(std::move(program), context_->machine));
  describe_boundary();
}

void Plan::describe_boundary() {
  if (whole_) {
    const auto& p = programs_[0]->program;
    for (const auto& t : p.inputs) inputs_.push_back({t.name, t.type, t.shape});
    for (const auto& t : p.outputs) outputs_.push_back({t.name, t.type, t.shape});
    // Types as the model declares them where the program's are narrower.
    for (size_t k = 0; k < partition_.graph.inputs.size(); ++k) inputs_[k].type = partition_.graph.value(partition_.graph.inputs[k]).type;
    return;
  }
  for (ValueId v : partition_.graph.inputs) inputs_.push_back(boundary_of(partition_.graph.value(v)));
  for (ValueId v : partition_.graph.outputs) outputs_.push_back(boundary_of(partition_.graph.value(v)));
}

/// Constants of this graph that a subgraph captures become its constants: weights inside branches and loops.
void Plan::bind_constant_captures() {
  Graph& g = partition_.graph;
  for (Node& n : g.nodes) {
    for (auto& [name, attribute] : std::get<OnnxOp>(n.op).attributes) {
      auto* sub = std::get_if<GraphPtr>(&attribute);
      if (!sub || (*sub)->captures.empty()) continue;
      std::vector<TensorPtr> constants((*sub)->inputs.size());
      const size_t explicit_count = constants.size() - (*sub)->captures.size();
      for (size_t k = 0; k < (*sub)->captures.size(); ++k) constants[explicit_count + k] = g.value(n.inputs.at(static_cast<size_t>((*sub)->captures[k]))).constant;
      *sub = std::make_shared<const Graph>(bind_inputs(**sub, constants));
    }
  }
}

std::vector<HostValue> Plan::run(const std::vector<HostValue>& inputs) {
  visit_programs([](LoadedProgram& p) { p.runs = 0; });
  visit_host_nodes([](HostNodeInfo& n) { n.runs = 0, n.seconds = 0; });
  return run_steps(inputs);
}

std::vector<HostValue> Plan::run_steps(const std::vector<HostValue>& inputs) {
  if (inputs.size() != inputs_.size()) fail(ErrorCode::kMismatch, "run", std::to_string(inputs.size()) + " inputs", std::to_string(inputs_.size()));
  for (size_t k = 0; k < inputs.size(); ++k) {
    const auto& b = inputs_[k];
    if (!b.known || !inputs[k].tensor) continue;
    const Tensor& t = *inputs[k].tensor;
    if (t.shape != b.shape || (t.type != b.type && is_float(t.type) != is_float(b.type))) {
      fail(ErrorCode::kMismatch, "input '" + b.name + "'", std::string(to_string(t.type)) + to_string(t.shape), std::string(to_string(b.type)) + to_string(b.shape));
    }
  }
  if (whole_) {
    const auto& p = programs_[0]->program;
    std::vector<Tensor> tensors;
    for (size_t k = 0; k < inputs.size(); ++k) {
      if (!inputs[k].tensor) fail(ErrorCode::kMismatch, "input '" + inputs_[k].name + "'", "no tensor", "a tensor");
      tensors.push_back(inputs[k].tensor->type == p.inputs[k].type ? shared(inputs[k].tensor) : converted(*inputs[k].tensor, p.inputs[k].type));
    }
    std::vector<HostValue> out;
    auto results = programs_[0]->run(tensors);
    for (size_t k = 0; k < results.size(); ++k) {
      const bool model = k < partition_.graph.outputs.size();
      out.push_back(model ? declared(HostValue(std::move(results[k])), partition_.graph.value(partition_.graph.outputs[k]).type) : HostValue(std::move(results[k])));
    }
    return out;
  }
  const Graph& g = partition_.graph;
  std::vector<HostValue> values(g.values.size());
  for (size_t v = 0; v < g.values.size(); ++v) {
    if (g.values[v].constant) values[v] = HostValue(g.values[v].constant);
  }
  for (size_t k = 0; k < inputs.size(); ++k) values[static_cast<size_t>(g.inputs[k])] = inputs[k];
  size_t program = 0, host = 0;
  for (const auto& step : partition_.steps) {
    if (const auto* r = std::get_if<Region>(&step)) run_program(program++, *r, values);
    else run_host_node(std::get<HostStep>(step), host_nodes_[host++], values);
  }
  for (const Region& tail : partition_.tail) {
    std::vector<HostValue> in;
    for (ValueId v : tail.inputs) in.push_back(values[static_cast<size_t>(v)]);
    auto out = run_subgraph(tail.graph, in);
    for (size_t k = 0; k < out.size(); ++k) values[static_cast<size_t>(tail.outputs[k])] = std::move(out[k]);
  }
  std::vector<HostValue> out;
  for (ValueId v : g.outputs) out.push_back(declared(values[static_cast<size_t>(v)], g.value(v).type));
  return out;
}

/// Numbers in the type that the model declares for the output (indices are int32 on the NPU, doubles fp32).
HostValue Plan::declared(HostValue value, DType as) const {
  if (!value.tensor || value.tensor->type == as) return value;
  const bool floats = is_float(value.tensor->type) && is_float(as), indices = value.tensor->type == DType::kI32 && as == DType::kI64;
  if (!floats && !indices) return value;
  return HostValue(converted(*value.tensor, as));
}

void Plan::run_program(size_t k, const Region& region, std::vector<HostValue>& values) {
  LoadedProgram& program = *programs_[k];
  std::vector<Tensor> in;
  for (size_t i = 0; i < region.inputs.size(); ++i) {
    const HostValue& v = values[static_cast<size_t>(region.inputs[i])];
    const auto& b = program.program.inputs[i];
    if (!v.tensor) fail(ErrorCode::kMismatch, "value '" + b.name + "'", "no tensor", "a tensor");
    in.push_back(v.tensor->type == b.type ? shared(v.tensor) : converted(*v.tensor, b.type));
  }
  auto out = program.run(in);
  for (size_t i = 0; i < out.size(); ++i) values[static_cast<size_t>(region.outputs[i])] = declared(HostValue(std::move(out[i])), region.output_types[i]);
}

void Plan::run_host_node(const HostStep& step, HostNodeInfo& info, std::vector<HostValue>& values) {
  const auto begin = std::chrono::steady_clock::now();
  const Node& node = partition_.graph.nodes[step.node];
  std::vector<HostValue> in;
  for (ValueId v : node.inputs) in.push_back(v == kNoValue ? HostValue() : values[static_cast<size_t>(v)]);
  auto out = run_host(node, in, [this](const Graph& g, const std::vector<HostValue>& inputs) { return run_subgraph(g, inputs); });
  for (size_t k = 0; k < out.size(); ++k) {
    if (node.outputs[k] != kNoValue) values[static_cast<size_t>(node.outputs[k])] = std::move(out[k]);
  }
  ++info.runs;
  info.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::vector<HostValue> Plan::run_subgraph(const Graph& graph, const std::vector<HostValue>& inputs) {
  Variants& variants = children_[&graph];
  if (variants.plans.empty()) variants.shaping = inputs_that_shape(graph);
  const bool bind = variants.plans.size() < kBoundVariants;
  std::string key;
  std::vector<TensorPtr> constants(inputs.size());
  std::vector<HostValue> free;
  for (size_t k = 0; k < inputs.size(); ++k) {
    const TensorPtr& t = inputs[k].tensor;
    key += t ? std::string(to_string(t->type)) + to_string(t->shape) : inputs[k].sequence ? "sequence" : "none";
    if (bind && t && variants.shaping[k] && integer_kind(t->type).bits && t->count() <= kBoundElements) {
      constants[k] = t;
      key += "=" + std::string(t->bytes.begin(), t->bytes.end());
    } else {
      free.push_back(inputs[k]);
    }
    key += ";";
  }
  auto found = variants.plans.find(key);
  if (found == variants.plans.end()) {
    Graph g = bind_inputs(graph, constants);
    for (size_t k = 0; k < free.size(); ++k) {
      Value& v = g.value(g.inputs[k]);
      v.shape_known = free[k].tensor != nullptr;
      if (free[k].tensor) v.type = free[k].tensor->type, v.shape = free[k].tensor->shape;
    }
    prune_and_sort(g);
    found = variants.plans.emplace(key, std::make_unique<Plan>(std::move(g), context_, true)).first;
  }
  return found->second->run_steps(free);
}

void Plan::visit_programs(const std::function<void(LoadedProgram&)>& visit) {
  for (auto& p : programs_) visit(*p);
  for (auto& [graph, variants] : children_) {
    for (auto& [key, plan] : variants.plans) plan->visit_programs(visit);
  }
}

void Plan::visit_host_nodes(const std::function<void(HostNodeInfo&)>& visit) {
  for (auto& n : host_nodes_) visit(n);
  for (auto& [graph, variants] : children_) {
    for (auto& [key, plan] : variants.plans) plan->visit_host_nodes(visit);
  }
}

}  // namespace systole
