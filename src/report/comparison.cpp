// Text and JSON of a comparison of processors.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "systole/systole.h"

namespace systole {
namespace {

std::string quantity(double v, const char* unit) {
  if (v <= 0) return "-";
  const struct { double scale; const char* prefix; } kScales[] = {{1e9, "G"}, {1e6, "M"}, {1e3, "k"}, {1, ""}, {1e-3, "m"}, {1e-6, "u"}, {1e-9, "n"}};
  for (const auto& s : kScales) {
    if (v >= s.scale) return fmt::format("{:.3g} {}{}", v / s.scale, s.prefix, unit);
  }
  return fmt::format("{:.3g} {}", v, unit);
}

/// Joules of the other processor over the NPU's, a column per NPU.
std::string gains(const Comparison& c, const CompareRow& r) {
  std::string t;
  for (const CompareRow& n : c.rows) {
    if (n.kind != "NPU") continue;
    const bool known = r.kind != "NPU" && r.energy_j > 0 && n.energy_j > 0;
    t += fmt::format(" {:>8}", known ? fmt::format("{:.3g}x", r.energy_j / n.energy_j) : "-");
  }
  return t;
}

/// Eight letters for a column of an NPU.
std::string column_name(const CompareRow& r) {
  const std::string batch = r.batch > 1 ? "x" + std::to_string(r.batch) : "";
  return r.processor.substr(0, 8 - std::min<size_t>(6, batch.size())) + batch;
}

}  // namespace

std::string to_text(const Comparison& c) {
  std::string t = fmt::format("{} ({:.3f} GMAC, NPU in {})\n", c.model, static_cast<double>(c.macs) * 1e-9, c.precision), npus;
  for (const CompareRow& n : c.rows) npus += n.kind == "NPU" ? fmt::format(" {:>8}", column_name(n)) : "";
  if (!npus.empty()) t += fmt::format("  {:107} inferences per joule of NPU : this\n", "");
  t += fmt::format("  {:<31} {:<4} {:<5} {:>5} {:>9} {:>10} {:>9} {:>9} {:>7} {:>6}{}  basis\n", "processor", "kind", "prec.", "batch", "latency", "throughput", "power", "energy", "inf/J", "util.", npus);
  for (const CompareRow& r : c.rows) {
    t += fmt::format("  {:<31} {:<4} {:<5} {:>5} {:>9} {:>10} {:>9} {:>9} {:>7} {:>6}{}  {}: {}\n", r.processor.substr(0, 31), r.kind, r.precision, r.batch, quantity(r.latency_s, "s"),
                     r.throughput_per_s > 0 ? quantity(r.throughput_per_s, "/s") : "-", quantity(r.power_w, "W"), quantity(r.energy_j, "J"), r.energy_j > 0 ? fmt::format("{:.3g}", 1 / r.energy_j) : "-",
                     r.utilisation > 0 ? fmt::format("{:.0f} %", 100 * r.utilisation) : "-", gains(c, r), r.basis, r.note);
  }
  for (const std::string& remark : c.remarks) t += "  " + remark + "\n";
  return t;
}

std::string to_json(const Comparison& c) {
  nlohmann::json j = {{"model", c.model}, {"precision", c.precision}, {"macs", c.macs}, {"remarks", c.remarks}, {"rows", nlohmann::json::array()}};
  for (const CompareRow& r : c.rows) {
    j["rows"].push_back({{"processor", r.processor}, {"kind", r.kind}, {"precision", r.precision}, {"basis", r.basis}, {"note", r.note}, {"batch", r.batch}, {"latency_s", r.latency_s},
                         {"throughput_per_s", r.throughput_per_s}, {"power_w", r.power_w}, {"energy_j", r.energy_j}, {"utilisation", r.utilisation}});
  }
  return j.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace systole
