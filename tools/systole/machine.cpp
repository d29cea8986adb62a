// systole machine: what a machine description means.
#include <fmt/format.h>

#include "command.h"

namespace systole::cli {

void add_machine(CLI::App& app) {
  struct Options {
    std::string name;
    bool yaml = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("machine", "List machines, or print what follows from a description");
  c->add_option("name", o->name, "preset or .yaml file; without it, the presets are listed");
  c->add_flag("--yaml", o->yaml, "print the description itself, to edit");
  c->footer("Examples:\n  systole machine\n  systole machine edge --yaml > my.yaml");
  c->callback([o] {
    if (o->name.empty()) {
      for (const auto& name : machine_names()) fmt::print("{}\n", name);
      return;
    }
    write_text("-", o->yaml ? machine_yaml(o->name).value() : describe_machine(o->name).value());
  });
}

}  // namespace systole::cli
