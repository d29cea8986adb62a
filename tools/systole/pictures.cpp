#include "command.h"

namespace systole::cli {

void PictureOptions::add_to(CLI::App& command) {
  command.add_option("--report", files.html, "write a page with plots (roofline, timeline, energy, comparison) to an .html file");
  command.add_option("--trace", files.trace, "write a trace for ui.perfetto.dev or chrome://tracing to a .json file");
  command.add_option("--csv", files.csv, "write a line per layer to a .csv file");
}

void PictureOptions::write(const Compiled& compiled, const ModelOptions& model) const {
  if (files.none()) return;
  Comparison comparison;
  if (!files.html.empty() && !model.model.ends_with(".npu")) {
    CompareOptions options;
    options.npus = {model.npu.empty() ? "edge" : model.npu}, options.measure_cpu = false;
    // A page without the comparison is better than none: models that only a run compiles have no workload yet.
    if (auto compared = compare_model(model.model, model.compile_options(), options); compared) comparison = compared.value();
  }
  write_pictures(compiled, files, comparison, model.point).value();
}

}  // namespace systole::cli
