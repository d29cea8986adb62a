// systole check: prove a program free of races and out-of-bounds accesses.
#include <fmt/format.h>

#include "command.h"

namespace systole::cli {

void add_check(CLI::App& app) {
  auto o = std::make_shared<ModelOptions>();
  CLI::App* c = app.add_subcommand("check", "Prove a compiled program free of races and out-of-bounds accesses");
  o->add_to(*c);
  c->footer("Example:\n  systole check resnet50.npu");
  c->callback([o] {
    double seconds = 0;
    const auto findings = check(o->load({}, &seconds)).value();
    for (const auto& f : findings) fmt::print("race: {}\n", f);
    if (!findings.empty()) fail(ErrorCode::kBadInput, o->model, std::to_string(findings.size()) + " races", "none");
    fmt::print("{}: every access is in bounds and every conflicting pair is ordered\n", o->model);
  });
}

}  // namespace systole::cli
