// systole check: will it run, what runs where and why, and is it free of races.
#include <fmt/format.h>

#include "command.h"

namespace systole::cli {
namespace {

/// What each reason asks for.
std::string advice(const std::string& reason) {
  if (reason.find("computed at run time") != std::string::npos) return "make the input a constant, or give it with --constant NAME=FILE.npy";
  if (reason.find("arithmetic on") != std::string::npos) return "compute in float: the vector engine has no arithmetic on this type";
  if (reason.find("strings") != std::string::npos || reason.find("sequence") != std::string::npos) return "keep text and sequences outside of the model";
  return "none needed: the host runs it in the same run";
}

}  // namespace

void add_check(CLI::App& app) {
  auto o = std::make_shared<ModelOptions>();
  CLI::App* c = app.add_subcommand("check", "Say whether a model runs on a machine, what falls to the host and why; prove its programs free of races");
  o->add_to(*c);
  o->add_batch_to(*c);
  c->footer("Examples:\n  systole check model.onnx --npu nano\n  systole check resnet50.npu");
  c->callback([o] {
    double seconds = 0;
    const Compiled model = o->load({}, &seconds);
    const Report report = profile(model).value();
    fmt::print("{}: runs on {} in {}\n", o->model, report.machine, report.precision);
    fmt::print("  NPU           {} layers in {} program{}; {} bytes of weights, scratchpad peak {} bytes, DRAM {} bytes\n", report.nodes_on_npu, report.programs, report.programs == 1 ? "" : "s", report.weights_bytes,
               report.scratchpad_peak_bytes, report.dram_footprint_bytes);
    if (report.host.empty()) fmt::print("  host          nothing\n");
    for (const auto& h : report.host) fmt::print("  host          {} ({}): {}\n                change: {}\n", h.name, h.type, h.reason, advice(h.reason));
    const auto findings = check(model).value();
    for (const auto& f : findings) fmt::print("race: {}\n", f);
    if (!findings.empty()) fail(ErrorCode::kBadInput, o->model, std::to_string(findings.size()) + " races", "none");
    fmt::print("  races         none: every access is in bounds and every conflicting pair is ordered\n");
  });
}

}  // namespace systole::cli
