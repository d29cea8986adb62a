#include "codegen/attempt.h"

#include <algorithm>

#include "codegen/descriptors.h"
#include "codegen/interleave.h"
#include "codegen/layers.h"
#include "codegen/synchronise.h"
#include "isa/geometry.h"
#include "machine/instruction_cost.h"
#include "schedule/weave.h"

namespace systole {
namespace {

isa::Layer describe(const Graph& graph, const Step& step, const Machine& machine) {
  const Node& node = graph.nodes[static_cast<size_t>(step.node)];
  isa::Layer layer{node.name, op_name(node.op), 0, 0};
  if (step.contract >= 0) {
    const Node& c = graph.nodes[static_cast<size_t>(step.contract)];
    layer.name = c.name, layer.kind = op_name(c.op);
    layer.macs = multiply_adds(graph, c);
    layer.ideal_mx_cycles = ideal_matrix_cycles(machine, layer.macs, std::get<Contract>(c.op).format);
  }
  return layer;
}

/// Each layer costs what its busiest engine needs; engines overlap, layers do not.
int64_t estimate(const Emitter& e, const Machine& machine, size_t layers) {
  struct Busy {
    int64_t mx = 0, vx = 0, dma = 0;
  };
  std::vector<Busy> busy(layers);
  std::vector<isa::Instruction> code;
  code.reserve(e.code.size() + 1);
  for (const Emitted& i : e.code) code.push_back(instruction_of(i, e.descriptors));
  code.push_back(isa::End{});
  const auto sequence = isa::sequence(code, "estimate");
  for (const auto& op : sequence.ops) {
    Busy& b = busy[e.code[op.index].layer];
    if (const auto* m = std::get_if<isa::MatrixOp>(&op.op)) b.mx += cycles_of(machine, *m);
    if (const auto* v = std::get_if<isa::VectorOp>(&op.op)) b.vx += cycles_of(machine, *v);
    if (const auto* d = std::get_if<isa::DequantizeOp>(&op.op)) b.dma += std::max(dram_bound_cycles(machine, d->source_bytes()), port_cycles(machine, *d));
    if (const auto* c = std::get_if<isa::CopyOp>(&op.op)) {
      const auto runs = isa::runs_of(*c->desc);
      const bool dram = c->src == isa::Space::kDram || c->dst == isa::Space::kDram;
      const int64_t burst = machine.dram.burst_bytes;
      b.dma += std::max(dram ? dram_bound_cycles(machine, runs.runs * ceil_div(runs.run_bytes, burst) * burst) : 0, port_cycles(machine, *c));
    }
  }
  int64_t sum = 0;
  for (const Busy& b : busy) sum += std::max({b.mx, b.vx, b.dma}) + (b.mx + b.vx + b.dma) / 16;
  return sum;
}

/// Whether a node copies a constant as it is, which is worth a step only where the copy stays in the scratchpad.
bool copies_constant(const Graph& graph, const Node& node) {
  const auto* move = std::get_if<Move>(&node.op);
  if (!move || move->regions.size() != 1 || node.inputs.size() != 1 || !graph.value(node.inputs[0]).constant) return false;
  const CopyRegion& r = move->regions[0];
  const Value &from = graph.value(node.inputs[0]), &to = graph.value(node.outputs[0]);
  return r.input == 0 && r.extents == to.shape && from.shape == to.shape && from.type == to.type && r.src_strides == r.dst_strides && r.src_strides == row_major_strides(to.shape) && r.src_offset == 0 && r.dst_offset == 0;
}

/// The source without the copies of constants that would go to DRAM, where the constants are already; null if there are none.
std::shared_ptr<const Source> without_spilled_copies(const Source& source, const Placement& placement, const Machine& machine) {
  std::vector<ValueId> instead(source.graph.values.size(), kNoValue);
  for (const Node& node : source.graph.nodes) {
    if (!copies_constant(source.graph, node)) continue;
    const auto& outputs = source.graph.outputs;
    const ValueId to = node.outputs[0];
    const bool resident = placement.of[static_cast<size_t>(source.schedule.root[static_cast<size_t>(to)])].space == isa::Space::kScratchpad;
    if (!resident && std::find(outputs.begin(), outputs.end(), to) == outputs.end()) instead[static_cast<size_t>(to)] = node.inputs[0];
  }
  if (std::all_of(instead.begin(), instead.end(), [](ValueId v) { return v == kNoValue; })) return nullptr;
  Graph graph = source.graph;
  std::erase_if(graph.nodes, [&](const Node& n) { return n.outputs.size() == 1 && instead[static_cast<size_t>(n.outputs[0])] != kNoValue; });
  for (Node& n : graph.nodes) {
    for (ValueId& v : n.inputs) {
      if (v != kNoValue && instead[static_cast<size_t>(v)] != kNoValue) v = instead[static_cast<size_t>(v)];
    }
  }
  return std::make_shared<const Source>(std::move(graph), machine, source.order);
}

void emit_step(Emitter& e, const Graph& graph, const Schedule& schedule, size_t s) {
  const Step& step = schedule.steps[s];
  const Node& node = graph.nodes[static_cast<size_t>(step.node)];
  e.layer = static_cast<uint32_t>(s);
  if (step.contract >= 0) emit_contract(e, graph.nodes[static_cast<size_t>(step.contract)], node, step.then < 0 ? nullptr : &graph.nodes[static_cast<size_t>(step.then)]);
  else if (std::holds_alternative<Map>(node.op)) emit_map(e, node);
  else emit_move(e, node);
}

/// A contraction, and the steps [s + 1, end) beside it, each with a part of the ring; copies need none, and go in small parts, for those of
/// the contraction stand in the same queue.
void emit_woven(Emitter& e, const Graph& graph, const Schedule& schedule, size_t s, size_t end) {
  constexpr int64_t kPartBytes = 1 << 16;
  const int64_t group = e.machine.group_bytes(), bytes = e.ring.bytes();
  const auto all = [&](auto&& is) { return std::all_of(schedule.steps.begin() + static_cast<std::ptrdiff_t>(s) + 1, schedule.steps.begin() + static_cast<std::ptrdiff_t>(end), is); };
  const auto copies_only = [&](const Step& x) { return std::holds_alternative<Move>(graph.nodes[static_cast<size_t>(x.node)].op); };
  const bool copies = all(copies_only), sums = all([&](const Step& x) { return copies_only(x) || sums_only(graph, x); });
  const int64_t cut = copies ? bytes : bytes > 8 * group ? bytes - (sums ? 2 : 3) * group : bytes / group / 2 * group;
  const size_t first = e.code.size();
  e.within(0, cut, [&] { emit_step(e, graph, schedule, s); });
  const size_t second = e.code.size();
  e.most_copied_bytes = kPartBytes;
  e.within(cut, bytes, [&] {
    for (size_t x = s + 1; x < end; ++x) emit_step(e, graph, schedule, x);
  });
  e.most_copied_bytes = INT64_MAX;
  interleave(e.code, first, second, e.descriptors);
}

Candidate emit_all(std::shared_ptr<const Source> source, const Machine& machine, const Preferences& preferences, Extent extent) {
  Candidate c;
  c.placement = std::make_unique<Placement>(place(source->graph, source->schedule, machine, preferences));
  if (auto direct = without_spilled_copies(*source, *c.placement, machine)) {
    source = std::move(direct);
    *c.placement = place(source->graph, source->schedule, machine, preferences);
  }
  const Graph& graph = source->graph;
  const Schedule& schedule = source->schedule;
  c.source = source;
  c.emitter = std::make_unique<Emitter>(graph, schedule, *c.placement, machine, preferences);
  for (const Step& step : schedule.steps) c.layers.push_back(describe(graph, step, machine));
  auto left_out = extent == Extent::kExcerpt ? source->left_out.begin() : source->left_out.end();
  for (size_t s = 0, end; s < schedule.steps.size(); s = end) {
    if (left_out != source->left_out.end() && s == left_out->from) {
      end = left_out++->to;
      continue;
    }
    for (end = s + 1; end < schedule.steps.size() && schedule.steps[end].with == static_cast<int>(s);) ++end;
    c.emitter->ring_for(s);
    if (end > s + 1) emit_woven(*c.emitter, graph, schedule, s, end);
    else emit_step(*c.emitter, graph, schedule, s);
  }
  return c;
}

int64_t compulsory_bytes(const isa::Program& p) {
  int64_t bytes = p.weights_bytes;
  for (const auto* list : {&p.inputs, &p.outputs}) {
    for (const auto& t : *list) bytes += static_cast<int64_t>(t.bytes());
  }
  return bytes;
}

isa::Program link(const Machine& machine, const std::string& precision, Candidate& c) {
  isa::Program p;
  const Graph& graph = c.source->graph;
  const Schedule& schedule = c.source->schedule;
  Emitter& e = *c.emitter;
  p.model = graph.name, p.precision = precision, p.machine_name = machine.name, p.machine_hash = machine.hash;
  p.constants_address = c.placement->dram_bytes;
  p.dram_bytes = p.constants_address + e.constant_bytes;
  if (p.dram_bytes > static_cast<uint64_t>(machine.dram.capacity_bytes)) {
    fail(ErrorCode::kResource, "machine '" + machine.name + "'", "the program needs " + std::to_string(p.dram_bytes) + " bytes of DRAM", "at most " + std::to_string(machine.dram.capacity_bytes));
  }
  for (const ConstantUse& use : e.constants) p.weights_bytes += use.grouped ? use.bytes : static_cast<int64_t>(graph.value(use.value).constant->bytes.size());
  p.layers = c.layers;
  p.code.reserve(e.code.size() + 1), p.layer_of.reserve(e.code.size() + 1);
  for (const Emitted& i : e.code) {
    p.layer_of.push_back(i.layer);
    isa::Instruction& linked = p.code.emplace_back(instruction_of(i, e.descriptors));
    if (auto* load = std::get_if<isa::Load>(&linked)) {
      if (load->src == isa::Space::kDram && load->src_imm >= kConstantBit) load->src_imm += p.constants_address - kConstantBit;
    }
    if (auto* load = std::get_if<isa::Dequantize>(&linked)) load->src_imm += p.constants_address - kConstantBit;
  }
  p.code.push_back(isa::End{});
  p.layer_of.push_back(p.layers.empty() ? 0 : static_cast<uint32_t>(p.layers.size() - 1));
  if (p.layers.empty()) p.layers.push_back({"end", "control", 0, 0});
  auto boundary = [&](const std::vector<ValueId>& list) {
    std::vector<isa::BoundaryTensor> out;
    for (ValueId v : list) {
      const Value& value = graph.value(v);
      out.push_back({value.name, value.type, value.shape, c.placement->of[static_cast<size_t>(schedule.root[static_cast<size_t>(v)])].address});
    }
    return out;
  };
  p.inputs = boundary(graph.inputs), p.outputs = boundary(graph.outputs);
  p.scratchpad_peak_bytes = std::max(c.placement->resident_peak_bytes, e.ring_peak());
  p.compulsory_dram_bytes = compulsory_bytes(p);
  return p;
}

/// Where memory counts, DRAM's cycles for as many passes over all of it are added to a candidate's cost; moving a byte beside other work costs half a
/// cycle's share (cost_of in sim/timing/timing.h).
constexpr int64_t kPassesOfMemory = 8;

}  // namespace

Attempt attempt(const std::shared_ptr<const Source>& source, const Preferences& preferences, const Task& task, int64_t limit) {
  const auto& [machine, precision, options, extent] = task;
  Attempt a;
  try {
    a.candidate = emit_all(source, machine, preferences, extent);
    std::vector<Emitted>& code = a.candidate.emitter->code;
    assign_descriptors(code, a.candidate.emitter->descriptors);
    synchronise(code, machine);
    isa::Program p = link(machine, precision, a.candidate);
    std::vector<isa::StandIn> stand_ins;
    if (extent == Extent::kExcerpt) {
      for (const LeftOut& l : a.candidate.source->left_out) stand_ins.push_back(l.by);
    }
    if (options.judge && !options.phase_text) code = {};  // many megabytes that nobody reads again
    a.candidate.cost = options.judge ? options.judge(p, stand_ins, limit) : estimate(*a.candidate.emitter, machine, a.candidate.layers.size());
    if (options.least_memory) a.candidate.cost += kPassesOfMemory * static_cast<int64_t>(p.dram_bytes) / machine.dram.bytes_per_cycle;
    a.program = std::move(p);
  } catch (const Failure& f) {
    if (f.error().code != ErrorCode::kResource) throw;
    a.failure = f;
  }
  return a;
}

}  // namespace systole
