// systole model: write a standard architecture as ONNX with seeded weights.
#include <fmt/format.h>

#include "command.h"

namespace systole::cli {

void add_model(CLI::App& app) {
  struct Options {
    std::string name, out;
    uint64_t seed = 1;
    int64_t size = 0;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("model", "Write a standard architecture as ONNX with seeded random weights");
  c->add_option("name", o->name, "architecture; without it, they are listed");
  c->add_option("--out,-o", o->out, "file [NAME.onnx]");
  c->add_option("--seed", o->seed, "seed of the weights")->capture_default_str();
  c->add_option("--size", o->size, "height and width of the input, 0 for the usual one")->capture_default_str();
  c->footer("Example:\n  systole model resnet50 -o resnet50.onnx");
  c->callback([o] {
    if (o->name.empty()) {
      for (const auto& [name, description] : architecture_names()) fmt::print("{:<14} {}\n", name, description);
      return;
    }
    const std::string path = o->out.empty() ? o->name + ".onnx" : o->out;
    write_architecture(o->name, path, o->seed, o->size).value();
    fmt::print("{}: {} with random weights of seed {}\n", path, o->name, o->seed);
  });
}

}  // namespace systole::cli
