#include <algorithm>
#include <chrono>
#include <filesystem>
#include <future>

#include "architectures/architectures.h"
#include "base/file.h"
#include "base/parallel.h"
#include "codegen/compile.h"
#include "graph/text.h"
#include "import/onnx.h"
#include "isa/codec.h"
#include "machine/describe.h"
#include "ops/operator.h"
#include "passes/pipeline.h"
#include "report/report.h"
#include "report/timeline.h"
#include "sim/energy/energy.h"
#include "runtime/compiled.h"
#include "runtime/model_file.h"
#include "runtime/program_cache.h"
#include "sim/check/race_checker.h"
#include "sim/timing/timing.h"

namespace systole {
namespace {

std::vector<TensorInfo> describe(const std::vector<Plan::Boundary>& list) {
  std::vector<TensorInfo> out;
  for (const auto& t : list) out.push_back({t.name, t.type, t.shape, t.known});
  return out;
}

/// Candidates are compared by the timing model itself.
std::shared_ptr<PlanContext> context_for(Machine machine, FloatPolicy policy, std::string precision, int64_t batch) {
  auto c = std::make_shared<PlanContext>(PlanContext{std::move(machine), policy, std::move(precision), {}});
  c->judge = judge_on(c->machine), c->batch = batch;
  return c;
}

/// The machine that a file was compiled for; `npu` names its description where it is no preset.
Machine machine_of(const std::string& name, uint64_t hash, const std::string& where, const std::string& npu) {
  Machine machine = load_machine(npu.empty() ? name : npu);
  if (machine.hash != hash) {
    fail(ErrorCode::kMismatch, where, "compiled for machine '" + name + "' in another description", "machine '" + machine.name + "' as it is described now",
         "compile the model again, or name the description with --npu");
  }
  return machine;
}

Compiled on_its_machine(isa::Program program, const std::string& where, const std::string& npu) {
  Machine machine = machine_of(program.machine_name, program.machine_hash, where, npu);
  const auto context = context_for(std::move(machine), {}, program.precision, program.batch);
  std::string name = program.model;
  return std::make_shared<CompiledModel>(std::move(name), std::make_unique<Plan>(std::move(program), context), context);
}

/// The program of a model that runs on the NPU alone.
const isa::Program& only_program(const Plan& plan, const std::string& name) {
  if (!plan.whole()) fail(ErrorCode::kUnsupported, "model '" + name + "'", "parts of it run on the host", "a model that runs on the NPU alone", "'systole check' lists the nodes of the host and why");
  return plan.whole()->program;
}

/// A program's file, or a plan's.
Compiled from_bytes(const Bytes& bytes, const std::string& path, const std::string& npu) {
  if (!Plan::is_plan_file(bytes)) return on_its_machine(isa::deserialise(bytes, path), path, npu);
  PlanHead head = Plan::read_head(bytes, path);
  const auto context = context_for(machine_of(head.machine, head.machine_hash, path, npu), head.policy, head.precision, head.batch);
  return std::make_shared<CompiledModel>(std::move(head.model), Plan::deserialise(bytes, path, context), context);
}

void check_phase_name(const std::string& name) {
  std::string list;
  auto known = [&](const char* phase) {
    list += (list.empty() ? "" : ", ") + std::string(phase);
    return name == phase;
  };
  for (const char* phase : kFrontPhases) {
    if (known(phase)) return;
  }
  for (const char* phase : kBackPhases) {
    if (known(phase)) return;
  }
  fail(ErrorCode::kBadInput, "--stop-after", "'" + name + "'", "one of " + list);
}

std::string phase_text(Graph graph, const Machine& machine, const CompileOptions& options) {
  std::string text;
  auto observer = [&](const std::string& phase, const Graph& g) {
    if (phase != options.stop_after) return true;
    text = print_graph(g, options.phase_data);
    return false;
  };
  const FrontResult front = run_front(std::move(graph), options.precision, observer);
  if (!front.stopped) generate(front.graph, machine, front.precision, {.judge = judge_on(machine), .stop_after = options.stop_after, .phase_text = &text});
  return text;
}

void accumulate(EnergyReport& total, const EnergyReport& e, double runs) {
  const bool first = total.parts.empty();
  if (first) total = e;
  for (size_t i = 0; i < e.joules.size(); ++i) total.joules[i] = (first ? 0 : total.joules[i]) + e.joules[i] * runs;
  for (auto m : {&EnergyReport::dynamic_j, &EnergyReport::static_j, &EnergyReport::core_j, &EnergyReport::chip_j, &EnergyReport::system_j}) total.*m = (first ? 0 : total.*m) + e.*m * runs;
  if (!first) total.power_w.insert(total.power_w.end(), e.power_w.begin(), e.power_w.end());
}

/// Adds a program's report to the model's, `runs` times over.
void accumulate(Report& total, const Report& r, int64_t runs) {
  total.precision = r.precision;
  for (LayerReport l : r.layers) {
    l.first_cycle += total.cycles, l.last_cycle += total.cycles;
    total.layers.push_back(std::move(l));
  }
  total.cycles += r.cycles * runs, total.bound_cycles += r.bound_cycles * runs, total.macs += r.macs * runs, total.instructions += r.instructions * runs;
  total.dram_read_bytes += r.dram_read_bytes * runs, total.dram_write_bytes += r.dram_write_bytes * runs, total.weights_bytes += r.weights_bytes;
  total.scratchpad_peak_bytes = std::max(total.scratchpad_peak_bytes, r.scratchpad_peak_bytes), total.dram_footprint_bytes += r.dram_footprint_bytes;
  total.nodes_on_npu += r.nodes_on_npu;
  accumulate(total.energy, r.energy, static_cast<double>(runs));
  if (total.engines.empty()) {
    total.engines = r.engines;
    for (auto& e : total.engines) {
      e.busy_cycles = 0;
      for (auto& [reason, cycles] : e.stall_cycles) cycles = 0;
    }
  }
  for (size_t i = 0; i < r.engines.size(); ++i) {
    total.engines[i].busy_cycles += r.engines[i].busy_cycles * runs;
    for (const auto& [reason, cycles] : r.engines[i].stall_cycles) total.engines[i].stall_cycles[reason] += cycles * runs;
  }
}

Report report_of(Plan& plan, const std::string& name, const Machine& machine, Timeline* timeline = nullptr) {
  Report total;
  total.model = name, total.machine = machine.name, total.clock_hz = static_cast<double>(machine.clock_hz);
  total.programs = total.program_runs = 0;
  int64_t ran = 0;
  plan.visit_programs([&](LoadedProgram& p) { ran += p.runs; });
  plan.visit_programs([&](LoadedProgram& p) {
    const isa::Sequence& sequence = p.sequence();
    const int64_t runs = plan.whole() || ran == 0 ? 1 : p.runs;
    const Timing timing = simulate(sequence, machine);
    const Report report = make_report(p.program, machine, sequence, timing);
    if (timeline) append(*timeline, p.program, machine, sequence, timing, report.energy.power_w, static_cast<int64_t>(total.layers.size()));
    accumulate(total, report, runs);
    ++total.programs, total.program_runs += runs;
  });
  plan.visit_host_nodes([&](HostNodeInfo& n) { total.host.push_back({n.name, n.type, n.reason, n.runs}); });
  total.nodes_on_host = static_cast<int64_t>(total.host.size());
  total.latency_s = static_cast<double>(total.cycles) / total.clock_hz;
  total.throughput_per_s = total.cycles ? 1 / total.latency_s : 0;
  total.efficiency = total.cycles ? static_cast<double>(total.bound_cycles) / static_cast<double>(total.cycles) : 0;
  derive_power(total);
  return total;
}

/// Writes a plan's file to the cache while the model is already in use: its constants never change. The model's own file, and the graph
/// that shares it, go there too: to unmap hundreds of megabytes takes time.
std::future<void> store_beside(const ProgramCache& cache, const std::string& key, const Plan& plan, const std::string& name, Graph graph, Bytes file) {
  std::vector<Bytes> pieces = plan.serialise(name);
  return std::async(std::launch::async, [cache, key, pieces = std::move(pieces), graph = std::move(graph), file = std::move(file)]() mutable {
    graph = {}, file = {};
    cache.store_pieces(key, pieces);
  });
}

/// Compiles, or takes what the cache holds for the same bytes. A file that may name external data is always read in full.
Compiled compile_or_recall(const std::string& path, Machine machine, const CompileOptions& options) {
  std::string name = model_name(path);
  const ProgramCache cache(options.cache ? ProgramCache::default_folder() : "");
  Bytes bytes = map_file(path);
  const std::string content = cache.enabled() ? cache.content_of(path, bytes) : "";
  const bool by_file = !content.empty();
  const std::string key = by_file ? ProgramCache::key_of_file(content, option_key(options, name), machine) : "";
  if (const auto kept = by_file ? cache.find_bytes(key) : std::nullopt) {
    try {
      return from_bytes(*kept, path, options.npu);
    } catch (const Failure&) {
      // damaged: compiled anew below
    }
  }
  FrontResult front = run_onnx_passes(read_onnx(bytes, path, options), options.precision);
  const auto context = context_for(std::move(machine), front.policy, front.precision, std::max<int64_t>(1, options.batch));
  if (cache.enabled() && !by_file) context->cache_folder = ProgramCache::default_folder();
  auto plan = std::make_unique<Plan>(front.graph, context);
  std::future<void> stored;
  if (by_file && plan->exact_file()) stored = store_beside(cache, key, *plan, name, std::move(front.graph), std::move(bytes));
  context->cache_folder = cache.enabled() ? ProgramCache::default_folder() : "";  // for what is compiled at run time
  return std::make_shared<CompiledModel>(std::move(name), std::move(plan), context, std::move(stored));
}

}  // namespace

Result<CompileResult> compile(const std::string& onnx_path, const CompileOptions& options) {
  return catch_failures([&] {
    const auto begin = std::chrono::steady_clock::now();
    if (!options.stop_after.empty()) check_phase_name(options.stop_after);
    Machine machine = load_machine(options.npu);
    EnergyModel{machine};  // a description without figures for its energy fails before the work
    CompileResult result;
    if (!options.stop_after.empty()) {
      result.phase_text = phase_text(read_onnx(onnx_path, options), machine, options);
    } else {
      result.model = compile_or_recall(onnx_path, std::move(machine), options);
    }
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return result;
  });
}

Result<Compiled> load_program(const std::string& path, const std::string& npu) {
  return catch_failures([&] {
    return from_bytes(read_shared(path), path, npu);
  });
}

Result<bool> save_program(const Compiled& model, const std::string& path) {
  return catch_failures([&] {
    write_pieces(path, model->with_plan([&](Plan& plan) { return plan.serialise(model->name); }));
    return true;
  });
}

std::vector<TensorInfo> inputs_of(const Compiled& model) {
  return model->with_plan([](Plan& plan) { return describe(plan.inputs()); });
}
std::vector<TensorInfo> outputs_of(const Compiled& model) {
  return model->with_plan([](Plan& plan) { return describe(plan.outputs()); });
}

Result<Report> profile(const Compiled& model, const std::string& point) {
  return catch_failures([&] {
    const Machine machine = at_operating_point(model->machine(), point);
    return model->with_plan([&](Plan& plan) {
      Report r = report_of(plan, model->name, machine);
      r.precision = model->precision(), r.batch = model->batch();
      return r;
    });
  });
}

Result<bool> write_pictures(const Compiled& model, const PictureFiles& files, const Comparison& comparison, const std::string& point) {
  return catch_failures([&] {
    const Machine machine = at_operating_point(model->machine(), point);
    return model->with_plan([&](Plan& plan) {
      Timeline timeline;
      Report r = report_of(plan, model->name, machine, &timeline);
      r.precision = model->precision(), r.batch = model->batch();
      if (!files.html.empty()) write_file(files.html, html_page(r, timeline, machine, comparison));
      if (!files.trace.empty()) write_file(files.trace, trace_json(r, timeline));
      if (!files.csv.empty()) write_file(files.csv, to_csv(r));
      return true;
    });
  });
}

namespace {

constexpr size_t kLeastLent = 1 << 16;  ///< bytes; a plan may keep what is smaller (plan.cpp, kBoundElements)

/// A caller's tensor for the time of one run: large ones without a copy.
HostValue lent(const Tensor& t) { return t.bytes.size() < kLeastLent ? HostValue(t) : HostValue(TensorPtr(&t, [](const Tensor*) {})); }

/// Whether bytes are a caller's own.
bool borrows(const Tensor& t, const std::vector<Tensor>& inputs) {
  const std::less<const uint8_t*> before;
  return std::any_of(inputs.begin(), inputs.end(), [&](const Tensor& in) {
    const TensorBytes& lender = in.bytes;
    return before(t.bytes.data(), lender.end()) && before(lender.data(), t.bytes.end());
  });
}

}  // namespace

Result<std::vector<Tensor>> run(const Compiled& model, const std::vector<Tensor>& inputs) {
  return catch_failures([&] {
    std::vector<HostValue> values;
    for (const Tensor& t : inputs) values.push_back(lent(t));
    std::vector<Tensor> out;
    for (const HostValue& v : model->run(values)) {
      if (!v.tensor) fail(ErrorCode::kUnsupported, "model '" + model->name + "'", "an output that is a sequence or an optional", "tensors");
      const Tensor result = shared(v.tensor);
      out.push_back(result);
      if (borrows(result, inputs)) out.back().bytes.own();
    }
    return out;
  });
}

Result<std::vector<std::string>> check(const Compiled& model) {
  return catch_failures([&] {
    std::vector<std::string> lines;
    model->with_plan([&](Plan& plan) {
      plan.visit_programs([&](LoadedProgram& p) {
        for (const Race& race : check_races(p.program, model->machine()).races) lines.push_back(race.text());
      });
    });
    return lines;
  });
}

std::vector<std::string> machine_names() { return preset_names(); }

Result<std::string> describe_machine(const std::string& npu) {
  return catch_failures([&] { return describe(load_machine(npu)); });
}

Result<std::string> machine_yaml(const std::string& npu) {
  return catch_failures([&] { return load_machine(npu).text; });
}

Result<std::string> disassemble_program(const Compiled& model) {
  return catch_failures([&] {
    return model->with_plan([&](Plan& plan) { return isa::print_program(only_program(plan, model->name)); });
  });
}

Result<Compiled> assemble_program(const std::string& text, const std::string& source, const std::string& npu) {
  return catch_failures([&] { return on_its_machine(isa::parse_program(text, source), source, npu); });
}

std::string isa_manual() { return isa::manual(); }

std::vector<std::pair<std::string, std::string>> architecture_names() {
  std::vector<std::pair<std::string, std::string>> list;
  for (const Architecture& a : architectures()) list.emplace_back(a.name, a.description);
  return list;
}

Result<bool> write_architecture(const std::string& name, const std::string& path, uint64_t seed, int64_t size) {
  return catch_failures([&] {
    const Architecture& a = find_architecture(name);
    if (size < 0 || size > 4096 || size < 0 || (size > 0 && size < 4)) fail(ErrorCode::kBadInput, "--size", std::to_string(size), "4 to 4096, or 0 for the usual one");
    a.write(path, seed, size ? size : a.default_size);
    return true;
  });
}

void set_threads(int threads) { set_thread_count(threads); }

}  // namespace systole
