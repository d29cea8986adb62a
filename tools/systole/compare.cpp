// systole compare: NPU, CPU and GPU side by side on one model.
#include "command.h"

namespace systole::cli {

void add_compare(CLI::App& app) {
  struct Options {
    ModelOptions model;
    CompareOptions compare;
    bool no_cpu = false;
    std::string json;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("compare", "Latency, power and energy of a model on NPUs, on this CPU and on other processors");
  o->model.add_to(*c);
  c->remove_option(c->get_option("--npu"));
  c->add_option("--npu", o->compare.npus, "machines: presets or .yaml files")->delimiter(',')->capture_default_str();
  std::string names;
  for (const std::string& n : comparison_processors()) names += (names.empty() ? "" : ", ") + n;
  c->add_option("--processors", o->compare.processors, "CPUs and GPUs to model: " + names + ", or .yaml files")->delimiter(',')->capture_default_str();
  c->add_option("--batch", o->compare.batch, "a second row of each modelled processor at this batch")->capture_default_str();
  c->add_option("--npu-batch", o->compare.npu_batch, "a second row of each NPU at this batch, for a model whose inputs begin with the batch")->capture_default_str();
  c->add_flag("--no-cpu", o->no_cpu, "do not measure this CPU");
  c->add_option("--seconds", o->compare.seconds, "time for each CPU measurement")->capture_default_str()->check(CLI::Range(0.01, 3600.0));
  c->add_option("--cpu-watts", o->compare.cpu_watts_per_thread, "power of a busy CPU thread where RAPL cannot be read")->capture_default_str()->check(CLI::Range(0.01, 1000.0));
  c->add_option("--json", o->json, "write the table as JSON to a file, or - for standard output");
  c->footer("Example:\n  systole compare resnet50.onnx --npu nano,edge,server --processors h200,a100 --batch 32");
  c->callback([o] {
    o->compare.measure_cpu = !o->no_cpu;
    const Comparison r = compare_model(o->model.model, o->model.compile_options(), o->compare).value();
    if (o->json != "-") write_text("-", to_text(r));
    if (!o->json.empty()) write_text(o->json, to_json(r));
  });
}

}  // namespace systole::cli
