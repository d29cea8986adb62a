// systole sweep: machines by the thousand on some models.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>

#include "command.h"

namespace systole::cli {
namespace {

std::string front_text(const SweepReport& r, const SweepOptions& o) {
  std::string t = fmt::format("{} machines ({} from the journal), {} impossible or too small; {} on the Pareto front of latency, energy and area\n", r.points, r.resumed, r.infeasible, r.front.size());
  const size_t shown = std::min<size_t>(r.front.size(), 20);
  for (size_t i = 0; i < shown; ++i) {
    const SweepPoint& p = r.front[i];
    t += fmt::format("  {:>7}  {:>10.4g} ms  {:>10.4g} mJ  {:>8.3g} mm2 ", p.point, 1e3 * p.latency_s, 1e3 * p.energy_j, p.area_mm2);
    for (const auto& [key, value] : p.values) t += " " + key + "=" + value;
    t += "\n";
  }
  if (shown < r.front.size()) t += fmt::format("  and {} more\n", r.front.size() - shown);
  return t + o.out + (o.html.empty() ? "" : " and " + o.html) + "\n";
}

}  // namespace

void add_sweep(CLI::App& app) {
  struct Options {
    SweepOptions sweep;
    std::vector<std::string> models;
    ModelOptions model;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("sweep", "Try machines of a design space on models: latency, energy, area, Pareto front");
  c->add_option("space", o->sweep.space, "YAML: base machine and values of its parameters")->required();
  c->add_option("models", o->models, "ONNX models")->required();
  c->add_option("--search", o->sweep.search, "grid, random or evolve")->capture_default_str();
  c->add_option("--points", o->sweep.points, "machines to try; 0: the whole grid, or 1000");
  c->add_option("--seed", o->sweep.seed, "of random and evolve")->capture_default_str();
  o->model.add_bindings_to(*c);
  o->model.add_batch_to(*c);
  c->add_option("--out,-o", o->sweep.out, "CSV; FILE.journal keeps what is done, and a sweep that was killed goes on from it")->capture_default_str();
  c->add_option("--report", o->sweep.html, "write a page with plots to an .html file");
  o->model.add_threads_to(*c);
  c->footer("Examples:\n  systole sweep space.yaml resnet50.onnx --report sweep.html\n  systole sweep space.yaml a.onnx b.onnx --search evolve --points 500\n  systole sweep space.yaml decoder.onnx --dim tokens=128 --batch 8\n  mpirun -n 4 systole sweep space.yaml resnet50.onnx");
  c->callback([o] {
    o->sweep.model = o->model.compile_options();
    if (isatty(STDERR_FILENO)) {
      o->sweep.progress = [](int64_t done, int64_t all) {
        const int64_t bars = all ? 40 * done / all : 40;
        std::fprintf(stderr, "\r[%-40s] %lld of %lld machines%s", std::string(static_cast<size_t>(bars), '#').c_str(), static_cast<long long>(done), static_cast<long long>(all), done == all ? "\n" : "");
      };
    }
    const SweepReport r = sweep(o->models, o->sweep).value();
    const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
    if (!rank || std::string(rank) == "0") write_text("-", front_text(r, o->sweep));
  });
}

}  // namespace systole::cli
