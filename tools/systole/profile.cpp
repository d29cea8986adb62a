// systole profile: time a model and print a table per layer; needs no data.
#include "command.h"

namespace systole::cli {

void add_profile(CLI::App& app) {
  struct Options {
    ModelOptions model;
    PictureOptions pictures;
    std::string json;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("profile", "Time a model cycle by cycle and print each layer");
  o->model.add_to(*c);
  o->model.add_batch_to(*c);
  c->add_option("--point", o->model.point, "operating point of the machine: other voltage and clock (systole machine NAME lists them)");
  o->pictures.add_to(*c);
  c->add_option("--json", o->json, "write the report as JSON to a file, or - for standard output");
  c->footer("Example:\n  systole profile resnet50.onnx --npu edge\n  systole profile resnet50.onnx --report resnet50.html --trace resnet50.json");
  c->callback([o] {
    double seconds = 0;
    const Compiled model = o->model.load({}, &seconds);
    Report report = profile(model, o->model.point).value();
    o->pictures.write(model, o->model);
    if (o->json != "-") write_text("-", to_text(report, 0) + "\n" + layer_table(report));
    if (!o->json.empty()) write_text(o->json, to_json(report));
  });
}

}  // namespace systole::cli
