#include <algorithm>
#include <chrono>
#include <filesystem>

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
#include "runtime/compiled.h"
#include "sim/check/race_checker.h"
#include "sim/timing/timing.h"

namespace systole {
namespace {

std::vector<TensorInfo> describe(const std::vector<isa::BoundaryTensor>& list) {
  std::vector<TensorInfo> out;
  for (const auto& t : list) out.push_back({t.name, t.type, t.shape});
  return out;
}

Compiled on_its_machine(isa::Program program, const std::string& where, const std::string& npu) {
  Machine machine = load_machine(npu.empty() ? program.machine_name : npu);
  if (machine.hash != program.machine_hash) {
    fail(ErrorCode::kMismatch, where, "compiled for machine '" + program.machine_name + "' in another description", "machine '" + machine.name + "' as it is described now",
         "compile the model again, or name the description with --npu");
  }
  return std::make_shared<CompiledModel>(std::move(program), std::move(machine));
}

/// Candidates are compared by the timing model itself.
Judge timed_on(const Machine& machine) {
  return [&machine](const isa::Program& p) { return simulate(isa::sequence(p.code, "candidate"), machine).cycles; };
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

}  // namespace

Result<CompileResult> compile(const std::string& onnx_path, const CompileOptions& options) {
  return catch_failures([&] {
    const auto begin = std::chrono::steady_clock::now();
    if (!options.stop_after.empty()) check_phase_name(options.stop_after);
    const Machine machine = load_machine(options.npu);
    Graph graph = import_onnx(onnx_path, {options.dims, options.input_shapes, {}});
    if (graph.name.empty()) graph.name = "model";
    graph.name = std::filesystem::path(onnx_path).stem().string();
    CompileResult result;
    auto observer = [&](const std::string& phase, const Graph& g) {
      if (phase != options.stop_after) return true;
      result.phase_text = print_graph(g, options.phase_data);
      return false;
    };
    FrontResult front = run_front(std::move(graph), options.precision, observer);
    if (!front.stopped) {
      const bool stop = !options.stop_after.empty();
      isa::Program program = generate(front.graph, machine, front.precision, {timed_on(machine), options.stop_after, stop ? &result.phase_text : nullptr});
      if (!stop) result.model = std::make_shared<CompiledModel>(std::move(program), machine);
    }
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return result;
  });
}

Result<Compiled> load_program(const std::string& path, const std::string& npu) {
  return catch_failures([&] {
    return on_its_machine(isa::deserialise(read_file(path), path), path, npu);
  });
}

Result<bool> save_program(const Compiled& model, const std::string& path) {
  return catch_failures([&] {
    const auto bytes = isa::serialise(model->program);
    write_file(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    return true;
  });
}

std::vector<TensorInfo> inputs_of(const Compiled& model) { return describe(model->program.inputs); }
std::vector<TensorInfo> outputs_of(const Compiled& model) { return describe(model->program.outputs); }

Result<Report> profile(const Compiled& model) {
  return catch_failures([&] {
    const isa::Sequence sequence = isa::sequence(model->program.code, "program '" + model->program.model + "'");
    return make_report(model->program, model->machine, sequence, simulate(sequence, model->machine));
  });
}

Result<std::vector<Tensor>> run(const Compiled& model, const std::vector<Tensor>& inputs) {
  return catch_failures([&] { return model->run(inputs); });
}

Result<std::vector<std::string>> check(const Compiled& model) {
  return catch_failures([&] {
    std::vector<std::string> lines;
    for (const Race& race : check_races(model->program, model->machine).races) lines.push_back(race.text());
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
  return catch_failures([&] { return isa::print_program(model->program); });
}

Result<Compiled> assemble_program(const std::string& text, const std::string& source, const std::string& npu) {
  return catch_failures([&] { return on_its_machine(isa::parse_program(text, source), source, npu); });
}

std::string isa_manual() { return isa::manual(); }

std::string operator_table() {
  std::string t = "# Operators\n\nWritten by `systole ops` from the operator records in `src/ops`; do not edit. Engine: what runs it; *folded*: only on constants and shapes.\n\n| domain | operator | engine | folds on the host |\n|---|---|---|---|\n";
  for (const Operator& o : operators()) t += std::string("| ") + (*o.domain ? o.domain : "ai.onnx") + " | " + o.name + " | " + o.engine + " | " + (o.fold ? "yes" : "through the reference") + " |\n";
  return t;
}

std::vector<std::pair<std::string, std::string>> architecture_names() {
  std::vector<std::pair<std::string, std::string>> list;
  for (const Architecture& a : architectures()) list.emplace_back(a.name, a.description);
  return list;
}

Result<bool> write_architecture(const std::string& name, const std::string& path, uint64_t seed, int64_t size) {
  return catch_failures([&] {
    const Architecture& a = find_architecture(name);
    if (size < 0 || size > 4096 || (size > 0 && size < 16)) fail(ErrorCode::kBadInput, "--size", std::to_string(size), "16 to 4096, or 0 for the usual one");
    a.write(path, seed, size ? size : a.default_size);
    return true;
  });
}

void set_threads(int threads) { set_thread_count(threads); }

}  // namespace systole
