// systole profile: time a model and print a table per layer; needs no data.
#include "command.h"

namespace systole::cli {

void add_profile(CLI::App& app) {
  struct Options {
    ModelOptions model;
    std::string json;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("profile", "Time a model cycle by cycle and print each layer");
  o->model.add_to(*c);
  c->add_option("--point", o->model.point, "operating point of the machine: other voltage and clock (systole machine NAME lists them)");
  c->add_option("--json", o->json, "write the report as JSON to a file, or - for standard output");
  c->footer("Example:\n  systole profile resnet50.onnx --npu edge");
  c->callback([o] {
    double seconds = 0;
    const Report report = profile(o->model.load({}, &seconds), o->model.point).value();
    if (o->json != "-") write_text("-", to_text(report, 0) + "\n" + layer_table(report));
    if (!o->json.empty()) write_text(o->json, to_json(report));
  });
}

}  // namespace systole::cli
