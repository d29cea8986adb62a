// systole compile: ONNX to a program file, or to the graph after a phase.
#include <fmt/format.h>

#include "command.h"

namespace systole::cli {

void add_compile(CLI::App& app) {
  struct Options {
    ModelOptions model;
    std::string out, stop_after;
    bool with_data = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("compile", "Compile an ONNX model to a program (.npu)");
  o->model.add_to(*c);
  o->model.add_batch_to(*c);
  c->add_option("--out,-o", o->out, "program file [the model's name with .npu]; - prints a stopped phase to standard output");
  c->add_option("--stop-after", o->stop_after, "print what a phase made: import, simplify, quantise, legalise, fuse (graphs), place (tensors), emit, synchronise (instructions)");
  c->add_flag("--with-data", o->with_data, "print constants of graphs in full, so that the text parses back");
  c->footer("Examples:\n  systole compile resnet50.onnx --npu nano -o resnet50-nano.npu\n  systole compile resnet50.onnx --stop-after fuse");
  c->callback([o] {
    CompileOptions options = o->model.compile_options();
    options.stop_after = o->stop_after, options.phase_data = o->with_data;
    const CompileResult r = compile(o->model.model, options).value();
    if (!r.model) return write_text(o->out.empty() ? "-" : o->out, r.phase_text);
    std::string path = o->out;
    if (path.empty()) {
      path = o->model.model.ends_with(".onnx") ? o->model.model.substr(0, o->model.model.size() - 5) : o->model.model;
      path += ".npu";
    }
    save_program(r.model, path).value();
    fmt::print("{}: compiled in {:.3f} s\n", path, r.seconds);
  });
}

}  // namespace systole::cli
