// Text and JSON of an explanation.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "systole/systole.h"

namespace systole {

std::string to_text(const Explanation& x) {
  std::string t = fmt::format("{} on {} ({}{}): {:.4g} ms, {:.4g} mJ, {:.3g} mm2\n", x.model, x.machine, x.precision, x.batch > 1 ? fmt::format(", batch {}", x.batch) : "", 1e3 * x.latency_s, 1e3 * x.energy_j, x.area_mm2);
  for (const std::string& f : x.findings) t += "  - " + f + "\n";
  t += fmt::format("  {:>8} {:>9} {:>8}  change (each one compiled and simulated)\n", "faster", "energy", "area");
  for (const ExplainChange& c : x.changes) {
    if (c.error.empty()) t += fmt::format("  {:>7.2f}x {:>+7.1f} % {:>+6.1f} %  {}: {}\n", c.speedup, 100 * (c.energy_ratio - 1), 100 * (c.area_ratio - 1), c.kind, c.what);
    else t += fmt::format("  {:>8} {:>9} {:>8}  {}: {}: {}\n", "-", "-", "-", c.kind, c.what, c.error);
  }
  return t;
}

std::string to_json(const Explanation& x) {
  nlohmann::json j = {{"model", x.model}, {"machine", x.machine}, {"precision", x.precision}, {"batch", x.batch}, {"cycles", x.cycles}, {"latency_s", x.latency_s}, {"energy_j", x.energy_j}, {"area_mm2", x.area_mm2}, {"findings", x.findings}, {"changes", nlohmann::json::array()}};
  for (const ExplainChange& c : x.changes) j["changes"].push_back({{"kind", c.kind}, {"what", c.what}, {"error", c.error}, {"speedup", c.speedup}, {"energy_ratio", c.energy_ratio}, {"area_ratio", c.area_ratio}});
  return j.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace systole
