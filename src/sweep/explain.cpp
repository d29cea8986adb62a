// What to change: each candidate change of the model or the machine is made, compiled and timed again.
#include <algorithm>
#include <functional>

#include "base/error.h"
#include "base/parallel.h"
#include "passes/partition.h"
#include "passes/pipeline.h"
#include "quantize/rewrite.h"
#include "runtime/model_file.h"
#include "runtime/observe.h"
#include "sweep/evaluate.h"
#include "systole/systole.h"

namespace systole {
namespace {

struct MachineChange {
  const char* what;
  void (*make)(Machine&);
};
constexpr MachineChange kMachineChanges[] = {
    {"twice the DRAM bandwidth (dram.bytes_per_cycle)", [](Machine& m) { m.dram.bytes_per_cycle *= 2; }},
    {"twice the scratchpad (memory.scratchpad_bytes)", [](Machine& m) { m.memory.scratchpad_bytes *= 2; }},
    {"half the scratchpad (memory.scratchpad_bytes)", [](Machine& m) { m.memory.scratchpad_bytes /= 2; }},
    {"twice the accumulators (memory.accumulator_bytes)", [](Machine& m) { m.memory.accumulator_bytes *= 2; }},
    {"twice the array's rows (mx.rows)", [](Machine& m) { m.mx.rows *= 2; }},
    {"twice the array's depth (mx.depth, mx.float_units)", [](Machine& m) { m.mx.depth *= 2, m.mx.float_units *= 2; }},
    {"twice the array's columns (mx.columns, mx.b_port_bytes_per_cycle, memory.accumulator_bytes)", [](Machine& m) { m.mx.columns *= 2, m.mx.b_port_bytes *= 2, m.memory.accumulator_bytes *= 2; }},
    {"half the array's depth (mx.depth, mx.float_units)", [](Machine& m) { m.mx.depth = std::max<int64_t>(1, m.mx.depth / 2), m.mx.float_units = std::max<int64_t>(1, m.mx.float_units / 2); }},
    {"bf16 at the rate of int8 (mx.float_units)", [](Machine& m) { m.mx.float_units = m.mx.depth; }},
    {"operands of two bytes at the rate of one (mx.a_element_bytes)", [](Machine& m) { m.mx.a_element_bytes = 2; }},
    {"twice the weight port (mx.b_port_bytes_per_cycle)", [](Machine& m) { m.mx.b_port_bytes *= 2; }},
    {"four depthwise pixels more a cycle (mx.depthwise_pixels_per_cycle)", [](Machine& m) { m.mx.depthwise_pixels += 4; }},
    {"twice the vector lanes and table ports (vx.lanes, vx.table_ports)", [](Machine& m) { m.vx.lanes *= 2, m.vx.table_ports *= 2; }},
    {"twice the table ports (vx.table_ports)", [](Machine& m) { m.vx.table_ports *= 2; }},
    {"twice the DMA width (dma.bytes_per_cycle)", [](Machine& m) { m.dma.bytes_per_cycle *= 2; }},
    {"twice the fetch width and queues (control.*)", [](Machine& m) { m.control.fetch_bytes_per_cycle *= 2, m.control.fifo_depth = std::min<int64_t>(30, 2 * m.control.fifo_depth); }},
};

/// The model in int8 with placeholder ranges: its cycles are those of any calibrated one, its values mean nothing.
SweepModel in_int8(const Graph& onnx, const std::string& name, const char* precision) {
  FrontResult front = run_simplify(onnx, "fp32");
  fold_constants(front.graph);
  prune_and_sort(front.graph);
  infer_shapes(front.graph);
  std::map<ValueId, Histogram> ranges;
  for (ValueId v : activations_to_observe(front.graph)) ranges[v].lo = -1, ranges[v].hi = 1, ranges[v].counts.assign(Histogram::kBins, 1);
  RewriteOptions rewrite;
  rewrite.method = "minmax", rewrite.bias_correction = false;
  return primitives_of(run_onnx_passes(insert_qdq(front.graph, ranges, rewrite), precision), name);
}

/// Functions of several slots or look-ups become a clamp at 0. Returns how many maps changed.
int with_cheap_activations(Graph& g) {
  int changed = 0;
  for (Node& n : g.nodes) {
    auto* map = std::get_if<Map>(&n.op);
    if (!map || map->reduce != isa::Reduce::kNone) continue;
    bool here = false;
    for (auto* list : {&map->pre, &map->post}) {
      for (Operation& o : *list) {
        if (o.operands.size() == 1 && isa::micro_info(o.op).slots >= 4) o.op = isa::Micro::kRelu, here = true;
      }
    }
    changed += here;
  }
  return changed;
}

struct Candidate {
  ExplainChange change;
  std::function<PointCost()> evaluate;
};

std::vector<std::string> diagnosis(const Report& r) {
  std::vector<std::string> lines;
  auto percent = [](double part, double whole) { return std::to_string(static_cast<int>(whole > 0 ? 100 * part / whole + 0.5 : 0)) + " %"; };
  const char* kNames[] = {"LD", "ST", "MX", "VX"};
  if (r.engines.empty()) return lines;
  size_t busiest = 0;
  for (size_t e = 0; e < r.engines.size(); ++e) {
    if (r.engines[e].busy_cycles > r.engines[busiest].busy_cycles) busiest = e;
  }
  lines.push_back(std::string(kNames[busiest]) + " is the busiest engine: at work in " + percent(static_cast<double>(r.engines[busiest].busy_cycles), static_cast<double>(r.cycles)) + " of the cycles; the run takes " + percent(static_cast<double>(r.cycles), static_cast<double>(r.bound_cycles)) +
                  " of its bound");
  std::vector<const LayerReport*> layers;
  for (const LayerReport& l : r.layers) layers.push_back(&l);
  auto lost = [](const LayerReport* l) { return std::max({l->mx_cycles, l->vx_cycles, l->dma_cycles}) - l->ideal_mx_cycles; };
  std::stable_sort(layers.begin(), layers.end(), [&](auto* a, auto* b) { return lost(a) > lost(b); });
  for (size_t i = 0; i < std::min<size_t>(3, layers.size()); ++i) {
    const LayerReport& l = *layers[i];
    lines.push_back(l.name + " (" + l.kind + ") keeps " + l.bound_by() + " busy for " + percent(static_cast<double>(std::max({l.mx_cycles, l.vx_cycles, l.dma_cycles})), static_cast<double>(r.cycles)) + " of the run" +
                    (l.macs ? ", " + percent(static_cast<double>(l.ideal_mx_cycles), static_cast<double>(std::max<int64_t>(1, l.mx_cycles))) + " of the array" : ", without multiply-adds"));
  }
  for (const HostReport& h : r.host) {
    if (lines.size() < 8) lines.push_back(h.name + " (" + h.type + ") runs on the host: " + h.reason);
  }
  return lines;
}

/// Of a few machines and models, compiled as they would be to run.
PointCost cost_of_change(const std::vector<SweepModel>& models, const Machine& machine) { return evaluate(models, machine, Effort::kUsual); }

}  // namespace

Result<Explanation> explain_model(const std::string& onnx_path, const CompileOptions& o) {
  return catch_failures([&] {
    const std::string name = model_name(onnx_path);
    const Machine machine = load_machine(o.npu);
    const Graph onnx = read_onnx(onnx_path, o);
    const SweepModel model = primitives_of(run_onnx_passes(onnx, o.precision), name);
    const PointCost base = cost_of_change({model}, machine);
    if (!base.error.empty()) fail(ErrorCode::kResource, name + " on " + machine.name, base.error, "a model that the machine runs");
    Explanation x;
    x.model = name, x.machine = machine.name, x.precision = model.precision, x.batch = std::max<int64_t>(1, o.batch);
    x.cycles = base.models[0].cycles, x.latency_s = base.models[0].latency_s, x.energy_j = base.models[0].energy_j, x.area_mm2 = base.area_mm2;
    std::vector<Candidate> candidates;
    auto add = [&](const char* kind, const std::string& what, std::function<PointCost()> f) { candidates.push_back({{kind, what, {}, 0, 0, 0}, std::move(f)}); };
    if (!model.precision.starts_with("int8")) {
      add("model", "quantise to int8 (systole quantize)", [&] { return cost_of_change({in_int8(onnx, name, "int8")}, machine); });
      add("model", "quantise to int8, the rest in bf16 (systole quantize, --precision int8-bf16)", [&] { return cost_of_change({in_int8(onnx, name, "int8-bf16")}, machine); });
    }
    if (model.precision == "int8") add("model", "compute the float rest in bf16 (--precision int8-bf16)", [&] { return cost_of_change({primitives_of(run_onnx_passes(onnx, "int8-bf16"), name)}, machine); });
    if (model.precision == "fp32" || model.precision == "fp16") add("model", "compute in bf16 (--precision bf16)", [&] { return cost_of_change({primitives_of(run_onnx_passes(onnx, "bf16"), name)}, machine); });
    SweepModel cheap = model;
    int changed = 0;
    for (Graph& g : cheap.graphs) changed += with_cheap_activations(g);
    if (changed) add("model", "cheap activations: Relu-like in place of exp, sigmoid, tanh, erf in " + std::to_string(changed) + " maps (the model must be trained so)", [&] { return cost_of_change({cheap}, machine); });
    for (const MachineChange& c : kMachineChanges) {
      add("machine", c.what, [&model, &machine, make = c.make] {
        Machine m = machine;
        make(m);
        return cost_of_change({model}, m);
      });
    }
    for (size_t p = 1; p < machine.power.points.size(); ++p) {
      add("machine", "operating point '" + machine.power.points[p].name + "' (--point)", [&model, &machine, p] { return cost_of_change({model}, at_operating_point(machine, machine.power.points[p].name)); });
    }
    parallel_for(static_cast<int64_t>(candidates.size()), 1, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) {
        Candidate& c = candidates[static_cast<size_t>(i)];
        PointCost cost;
        try {
          cost = c.evaluate();
        } catch (const Failure& f) {
          cost.error = f.what();
        }
        c.change.error = cost.error;
        if (!cost.error.empty()) continue;
        c.change.speedup = x.latency_s / cost.models[0].latency_s, c.change.energy_ratio = cost.models[0].energy_j / x.energy_j, c.change.area_ratio = cost.area_mm2 / x.area_mm2;
      }
    });
    for (Candidate& c : candidates) x.changes.push_back(std::move(c.change));
    // What gains most in latency x energy comes first; what cannot be done last.
    auto gain = [](const ExplainChange& c) { return c.error.empty() ? c.speedup / c.energy_ratio : 0; };
    std::stable_sort(x.changes.begin(), x.changes.end(), [&](const ExplainChange& a, const ExplainChange& b) { return gain(a) > gain(b); });
    x.findings = diagnosis(profile(compile(onnx_path, o).value().model).value());
    return x;
  });
}

}  // namespace systole
