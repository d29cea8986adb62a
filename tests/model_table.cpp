// Every ONNX model of ../shared/models/dev: compiled for three machines, executed, checked against the reference
// evaluator bit for bit and against ONNX Runtime's recorded outputs within the stated bounds. Writes models.md; a model
// that does not compile must stand in unsupported.txt with its reason. Passes, saying so, where ../shared is absent.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/file.h"
#include "base/parallel.h"
#include "import/onnx.h"
#include "passes/pipeline.h"
#include "report/report.h"
#include "runtime/inputs.h"
#include "runtime/npy.h"
#include "runtime/plan.h"
#include "sim/check/race_checker.h"
#include "sim/timing/timing.h"

namespace systole {
namespace {

const std::string kDev = std::string(SYSTOLE_SHARED) + "/models/dev/";

struct Agreement {
  double relative = 0;   ///< greatest error / (range + floor)
  double absolute = 0;
  double cosine = 1;
  bool same_top = true;
};

/// ONNX Runtime's own sigmoid rounds to 0 below 1.2e-7: errors under this are its, not ours.
constexpr double kFloor = 2e-7;

Agreement compare(const std::vector<Tensor>& got, const std::vector<Tensor>& want) {
  Agreement a;
  for (size_t k = 0; k < want.size(); ++k) {
    if (got[k].shape != want[k].shape) return {INFINITY, INFINITY, 0, false};
    double lo = INFINITY, hi = -INFINITY, error = 0, dot = 0, x2 = 0, y2 = 0;
    int64_t top_got = 0, top_want = 0;
    for (int64_t i = 0; i < want[k].count(); ++i) {
      const double x = want[k].at(i), y = got[k].at(i);
      if (std::isnan(x) && std::isnan(y)) continue;
      error = std::max(error, std::isnan(x - y) ? INFINITY : std::fabs(x - y));
      lo = std::min(lo, x), hi = std::max(hi, x), dot += x * y, x2 += x * x, y2 += y * y;
      if (y > got[k].at(top_got)) top_got = i;
      if (x > want[k].at(top_want)) top_want = i;
    }
    const double range = std::max(hi - lo, want[k].count() == 1 ? std::fabs(hi) : 0.0);
    a.absolute = std::max(a.absolute, error);
    a.relative = std::max(a.relative, std::max(0.0, error - kFloor) / std::max(range, 1e-30));
    // An output that is all but zero has no direction.
    if (x2 > 1e-10) a.cosine = std::min(a.cosine, dot / std::sqrt(x2 * y2 + 1e-300));
    a.same_top &= top_got == top_want;
  }
  return a;
}

struct Case {
  nlohmann::json entry;
  std::vector<Tensor> inputs, expected;
  ImportOptions options;
};

Case load_case(const nlohmann::json& entry) {
  Case c{entry, {}, {}, {}};
  for (const auto& i : entry["ref_inputs"]) {
    c.inputs.push_back(read_npy(kDev + i["file"].get<std::string>()));
    c.options.input_shapes[i["name"]] = c.inputs.back().shape;
  }
  for (const auto& o : entry["ref_outputs"]) c.expected.push_back(read_npy(kDev + o["file"].get<std::string>()));
  return c;
}

/// One model on one machine: execution, race proof and timing rules of every program.
struct Outcome {
  std::vector<Tensor> outputs;
  int64_t cycles = 0, bound = 0;
  size_t host_nodes = 0;
  double efficiency() const { return cycles ? static_cast<double>(bound) / static_cast<double>(cycles) : 0; }
};

void check_program(const LoadedProgram& p, const Machine& machine, const std::string& where, Outcome& o) {
  const CheckReport races = check_races(p.program, machine);
  EXPECT_TRUE(races.races.empty()) << where << ": " << races.races[0].text();
  const isa::Sequence sequence = isa::sequence(p.program);
  const Timing t = simulate(sequence, machine);
  const Report r = make_report(p.program, machine, sequence, t);
  o.cycles += t.cycles * p.runs, o.bound += r.bound_cycles * p.runs;
  for (const auto& e : r.engines) {
    int64_t sum = e.busy_cycles;
    for (const auto& [reason, cycles] : e.stall_cycles) sum += cycles;
    EXPECT_EQ(sum, t.cycles) << where << " engine " << e.name;
  }
  EXPECT_LE(r.bound_cycles, t.cycles) << where;
  int64_t serial = 0;
  for (size_t i = 0; i < t.events.size(); ++i) {
    EXPECT_LE(t.events[i].dispatched, t.events[i].start) << where;
    EXPECT_LT(t.events[i].start, t.events[i].retire) << where;
    serial += t.events[i].retire - t.events[i].start + 1 + static_cast<int64_t>(sequence.words_before[i]) * isa::kWordBytes / machine.control.fetch_bytes_per_cycle;
  }
  EXPECT_LE(t.cycles, serial) << where;
}

struct Model {
  FrontResult front;
  std::vector<HostValue> inputs;
};

/// `preset` empty: the reference evaluator. `where` empty: execution alone.
Outcome execute(const Model& m, const std::string& preset, const std::string& where) {
  const auto context = std::make_shared<PlanContext>(PlanContext{load_machine(preset.empty() ? "edge" : preset), m.front.policy, m.front.precision, {}, {}, preset.empty()});
  context->judge = judge_on(context->machine);
  Plan plan(m.front.graph, context);
  Outcome o;
  for (const HostValue& v : plan.run(m.inputs)) o.outputs.push_back(v.tensor ? *v.tensor : Tensor());
  if (!preset.empty() && !where.empty()) plan.visit_programs([&](LoadedProgram& p) { check_program(p, context->machine, where, o); });
  plan.visit_host_nodes([&](HostNodeInfo& n) { o.host_nodes += n.runs > 0; });
  return o;
}

bool same_bits(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  for (size_t k = 0; k < a.size(); ++k) {
    if (a[k].bytes != b[k].bytes) return false;
  }
  return a.size() == b.size();
}

/// Inputs in graph order.
Model model_of(const Case& c, const std::string& precision) {
  Model m{run_onnx_passes(import_onnx(kDev + c.entry["file"].get<std::string>(), c.options), precision), {}};
  for (ValueId v : m.front.graph.inputs) {
    for (size_t i = 0; i < c.inputs.size(); ++i) {
      if (c.entry["ref_inputs"][i]["name"] == m.front.graph.value(v).name) m.inputs.emplace_back(c.inputs[i]);
    }
  }
  return m;
}

/// "name: text" lines of a file beside this one.
std::map<std::string, std::string> read_list(const char* file) {
  std::map<std::string, std::string> list;
  std::ifstream in(std::string(SYSTOLE_TESTS) + "/" + file);
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(": ");
    if (!line.empty() && line[0] != '#' && colon != std::string::npos) list[line.substr(0, colon)] = line.substr(colon + 2);
  }
  return list;
}

std::string row_for(const Case& c) {
  const std::string name = c.entry["name"];
  const Model model = model_of(c, "auto");
  const FrontResult& front = model.front;
  const auto reference = execute(model, "", name).outputs;
  std::map<std::string, Outcome> outcomes;
  for (const char* preset : {"edge", "nano", "server"}) {
    outcomes[preset] = execute(model, preset, name + " on " + preset);
    EXPECT_TRUE(same_bits(outcomes[preset].outputs, reference)) << name << " on " << preset << " differs from the reference";
  }
  for (const HostIsa isa : {HostIsa::kAvx512, HostIsa::kAvx2, HostIsa::kScalar}) {
    limit_host_isa(isa);
    EXPECT_TRUE(same_bits(execute(model, "edge", "").outputs, reference)) << name << " with " << to_string(isa) << " differs from the reference";
  }
  limit_host_isa(HostIsa::kAmx);
  set_thread_count(1);
  EXPECT_TRUE(same_bits(execute(model, "edge", name).outputs, reference)) << name << " with one thread";
  set_thread_count(0);
  const Agreement a = compare(outcomes["edge"].outputs, c.expected);
  std::string accuracy, fp32 = "";
  if (front.precision == "int8") {
    const double published = c.entry["ort"]["maxdiff_optimized_vs_disabled"].is_null() ? 0 : c.entry["ort"]["maxdiff_optimized_vs_disabled"].get<double>();
    // One output quantisation step is the spacing of the recorded values.
    double step = INFINITY;
    for (const auto& t : c.expected) {
      for (int64_t i = 1; i < t.count(); ++i) {
        const double d = std::fabs(t.at(i) - t.at(i - 1));
        if (d > 1e-6) step = std::min(step, d);
      }
    }
    EXPECT_LE(a.absolute, std::max(published, std::isinf(step) ? 0 : step) + 1e-6) << name;
    EXPECT_TRUE(a.same_top) << name;
    accuracy = fmt::format("max error {:.3g}, {}", a.absolute, a.same_top ? "same top-1" : "OTHER top-1");
  } else {
    // Some networks need more than 8 significant bits on these inputs; they are listed with what they reach.
    const auto sensitive = read_list("bf16_sensitive.txt");
    const bool listed = sensitive.count(name) != 0;
    EXPECT_GE(a.cosine, listed ? std::stod(sensitive.at(name)) : 0.999) << name << " in bf16";
    EXPECT_TRUE(!listed || a.cosine < 0.999) << name << " reaches 0.999 now: take it out of bf16_sensitive.txt";
    accuracy = fmt::format("cosine {:.6f}{}", a.cosine, listed ? " (use fp32)" : "");
    const Model exact = model_of(c, "fp32");
    const Outcome edge = execute(exact, "edge", name + " fp32"), nano = execute(exact, "nano", name + " fp32 nano");
    EXPECT_TRUE(same_bits(edge.outputs, nano.outputs)) << name << " fp32 depends on the machine";
    const Agreement f = compare(edge.outputs, c.expected);
    EXPECT_LE(f.relative, 1e-3) << name << " in fp32";
    fp32 = fmt::format("{:.1e}", f.relative);
  }
  std::string row = fmt::format("| {} | {} | {} | {} | {} |", name, front.precision, accuracy, fp32, outcomes["edge"].host_nodes ? std::to_string(outcomes["edge"].host_nodes) : "-");
  for (const char* preset : {"edge", "nano", "server"}) row += fmt::format(" {} ({:.0f} %) |", outcomes[preset].cycles, 100 * outcomes[preset].efficiency());
  return row + "\n";
}

TEST(ModelTable, EveryModel) {
  std::ifstream manifest(kDev + "manifest.json");
  if (!manifest) {
    std::printf("no ../shared/models here: nothing to compare with\n");
    return;
  }
  const auto j = nlohmann::json::parse(manifest);
  std::string table =
      "# Models\n\nWritten by the test `model_table`. Every model of the development set: bits equal to the reference evaluator (in the precision listed) on all three\n"
      "machines, with one and two threads, on every instruction set of the host; every program proved free of races; accuracy against ONNX Runtime's recorded outputs. `fp32`: greatest error over the output's range.\n"
      "`host`: nodes that the host runs (token lookups, scatters by data, control flow by data; `systole check` says why). Cycles are those of the NPU's programs; in brackets the share of\n"
      "the bound max(MX at full array, compulsory DRAM bytes / bandwidth).\n\n"
      "| model | precision | accuracy | fp32 | host | edge cycles | nano cycles | server cycles |\n|---|---|---|---|---|---|---|---|\n";
  int passed = 0;
  const char* only = std::getenv("SYSTOLE_MODEL");
  for (const auto& entry : j["onnx"]) {
    const std::string name = entry["name"];
    if (only && name.find(only) == std::string::npos) continue;
    try {
      table += row_for(load_case(entry));
      ++passed;
    } catch (const Failure& f) {
      ADD_FAILURE() << name << ": " << f.what();
    }
    std::printf("  %s\n", name.c_str());
    std::fflush(stdout);
  }
  write_file(std::string(SYSTOLE_BUILD) + "/models.md", table);
  std::printf("%d models pass\n", passed);
  if (only) return;
  const auto page = read_file(std::string(SYSTOLE_TESTS) + "/../docs/models.md");
  EXPECT_EQ(table, std::string(page.begin(), page.end())) << "docs/models.md is not what this test wrote: copy " << SYSTOLE_BUILD << "/models.md and say why it changed";
}

/// The classes that ONNX Runtime 1.30 (all optimisations) gives the photographs of the development set on the very tensors
/// that read_input makes of them: photographs.txt, one "file class" a line, written by tools of developers.
TEST(ModelTable, PhotographsGiveOnnxRuntimesClasses) {
  const std::string model = kDev + "mobilenetv2-qdq-224.onnx";
  if (!file_exists(model)) {
    std::printf("no ../shared/models here: nothing to compare with\n");
    return;
  }
  const Compiled compiled = compile(model, {}).value().model;
  ImageOptions image;
  image.mean = {0.485f, 0.456f, 0.406f}, image.std = {0.229f, 0.224f, 0.225f};
  std::ifstream list(std::string(SYSTOLE_TESTS) + "/photographs.txt");
  std::string file;
  int64_t expected = 0;
  int count = 0, equal = 0;
  while (list >> file >> expected) {
    const Tensor logits = run(compiled, {read_input(kDev + "data/imagenet/" + file, inputs_of(compiled)[0], image)}).value()[0];
    int64_t top = 0;
    for (int64_t i = 0; i < logits.count(); ++i) {
      if (logits.at(i) > logits.at(top)) top = i;
    }
    EXPECT_EQ(top, expected) << file;
    equal += top == expected, ++count;
  }
  EXPECT_EQ(count, 49);
  std::printf("  %d of %d photographs: same class as ONNX Runtime\n", equal, count);
}

}  // namespace
}  // namespace systole
