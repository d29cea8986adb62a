// systole explain: what limits a model on a machine, and what to change.
#include "command.h"

namespace systole::cli {

void add_explain(CLI::App& app) {
  struct Options {
    ModelOptions model;
    std::string json;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("explain", "What limits a model, and what each change of model or machine would bring");
  o->model.add_to(*c);
  o->model.add_batch_to(*c);
  c->add_option("--json", o->json, "write it as JSON to a file, or - for standard output");
  c->footer("Example:\n  systole explain mobilenetv2.onnx --npu edge");
  c->callback([o] {
    const Explanation x = explain_model(o->model.model, o->model.compile_options()).value();
    if (o->json != "-") write_text("-", to_text(x));
    if (!o->json.empty()) write_text(o->json, to_json(x));
  });
}

}  // namespace systole::cli
