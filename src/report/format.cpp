// Text and JSON forms of a report.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <nlohmann/json.hpp>

#include "report/timeline.h"

namespace systole {
namespace {

std::string bytes_text(int64_t n) {
  if (n >= 10 << 20) return fmt::format("{:.1f} MiB", static_cast<double>(n) / (1 << 20));
  if (n >= 10 << 10) return fmt::format("{:.1f} KiB", static_cast<double>(n) / (1 << 10));
  return fmt::format("{} B", n);
}

std::string time_text(double seconds) {
  if (seconds >= 1) return fmt::format("{:.3f} s", seconds);
  if (seconds >= 1e-3) return fmt::format("{:.3f} ms", seconds * 1e3);
  return fmt::format("{:.2f} us", seconds * 1e6);
}

std::string energy_text(double joules) {
  if (joules >= 1) return fmt::format("{:.3f} J", joules);
  if (joules >= 1e-3) return fmt::format("{:.3f} mJ", joules * 1e3);
  return fmt::format("{:.2f} uJ", joules * 1e6);
}

std::string power_text(double watts) { return watts >= 1 ? fmt::format("{:.2f} W", watts) : fmt::format("{:.1f} mW", watts * 1e3); }

/// Energy by boundary, power, and the parts in the order of their shares.
std::string energy_lines(const Report& r) {
  const EnergyReport& e = r.energy;
  if (e.parts.empty() || e.system_j <= 0) return "";
  const auto n = static_cast<double>(r.batch);
  std::string t = fmt::format("  energy       core {}, chip {}, with DRAM {} per inference ({} nm, {:.2f} V; leakage and clocks {:.0f} %)\n", energy_text(e.core_j / n), energy_text(e.chip_j / n), energy_text(e.system_j / n), e.node_nm,
                              e.supply_v, 100 * e.static_j / e.system_j);
  t += fmt::format("  power        average {}, peak {}, idle {} with DRAM; chip {:.2f} TOPS/W delivered, {:.2f} nominal\n", power_text(e.average_w), power_text(e.peak_w), power_text(e.idle_w), e.tops_per_w, e.nominal_tops_per_w);
  std::vector<size_t> order(e.parts.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return e.joules[a] > e.joules[b]; });
  t += "  energy by part";
  for (size_t i : order) {
    if (e.joules[i] >= 0.005 * e.system_j) t += fmt::format("  {} {:.0f} %", e.parts[i], 100 * e.joules[i] / e.system_j);
  }
  return t + "\n";
}

double percent(int64_t part, int64_t whole) { return whole ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0; }

std::string shorten(const std::string& s, size_t n) { return s.size() <= n ? s : "..." + s.substr(s.size() - n + 3); }

}  // namespace

std::string to_text(const Report& r, size_t top_layers) {
  std::string t = fmt::format("{} on {} ({}, {:.2f} GHz)\n", r.model, r.machine, r.precision, r.clock_hz * 1e-9);
  const std::string batch = r.batch > 1 ? fmt::format(" for a batch of {}", r.batch) : "";
  t += fmt::format("  latency      {}{}  ({} cycles), {:.1f} inferences/s\n", time_text(r.latency_s), batch, r.cycles, r.throughput_per_s * static_cast<double>(r.batch));
  const bool few = r.macs < 10'000'000;
  t += fmt::format("  efficiency   {:.1f} % of the bound of {} cycles; {:.3f} {}MAC\n", 100 * r.efficiency, r.bound_cycles, static_cast<double>(r.macs) * (few ? 1e-6 : 1e-9), few ? "M" : "G");
  t += fmt::format("  program      {} layers, {} instructions; {} nodes on the NPU, {} on the host\n", r.layers.size(), r.instructions, r.nodes_on_npu, r.nodes_on_host);
  if (r.programs == 0) t += "  note         all of it is compiled when a run brings its data: 'systole run' times what ran\n";
  else if (r.programs != 1 || r.program_runs != 1) t += fmt::format("  run          {} program{} of the NPU, {} executions; host nodes are not timed\n", r.programs, r.programs == 1 ? "" : "s", r.program_runs);
  t += fmt::format("  memory       weights {}, scratchpad peak {}, DRAM {}\n", bytes_text(r.weights_bytes), bytes_text(r.scratchpad_peak_bytes), bytes_text(r.dram_footprint_bytes));
  t += fmt::format("  DRAM traffic read {}, written {}\n", bytes_text(r.dram_read_bytes), bytes_text(r.dram_write_bytes));
  t += energy_lines(r);
  t += "  engine  busy     dependency  bank     DRAM     fetch    done\n";
  for (const auto& e : r.engines) {
    auto stall = [&](const char* s) { return percent(e.stall_cycles.at(s), r.cycles); };
    t += fmt::format("  {:<6}  {:>5.1f} %  {:>8.1f} %  {:>5.1f} %  {:>5.1f} %  {:>5.1f} %  {:>5.1f} %\n", e.name, percent(e.busy_cycles, r.cycles), stall("dependency"), stall("bank"), stall("dram"), stall("fetch"),
                     stall("done"));
  }
  std::vector<const LayerReport*> order;
  for (const auto& l : r.layers) order.push_back(&l);
  auto busy = [](const LayerReport* l) { return std::max({l->mx_cycles, l->vx_cycles, l->dma_cycles}); };
  std::stable_sort(order.begin(), order.end(), [&](auto* a, auto* b) { return busy(a) > busy(b); });
  if (order.size() > top_layers) order.resize(top_layers);
  if (!order.empty()) t += "  top layers                                bound by   MX cycles   VX cycles  DMA cycles\n";
  for (const auto* l : order) t += fmt::format("    {:<38}  {:<8} {:>10}  {:>10}  {:>10}\n", shorten(l->name, 38), l->bound_by(), l->mx_cycles, l->vx_cycles, l->dma_cycles);
  return t;
}

std::string layer_table(const Report& r) {
  std::string t = fmt::format("{:<40} {:<19} {:>9} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>6}\n", "layer", "kind", "MMAC", "from", "to", "MX", "VX", "DMA", "energy uJ", "bound");
  for (const auto& l : r.layers) {
    t += fmt::format("{:<40} {:<19} {:>9.3f} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10.3f} {:>6}\n", shorten(l.name, 40), l.kind, static_cast<double>(l.macs) * 1e-6, l.first_cycle, l.last_cycle, l.mx_cycles, l.vx_cycles,
                     l.dma_cycles, 1e6 * std::accumulate(l.energy_j.begin(), l.energy_j.end(), 0.0), l.bound_by());
  }
  return t;
}

std::string to_csv(const Report& r) {
  std::string t = "layer,kind,macs,first_cycle,last_cycle,mx_cycles,vx_cycles,dma_cycles,dram_bytes,instructions,busy_cycles,dependency_cycles,bank_cycles,dram_port_cycles,bound_by,energy_j";
  for (const std::string& p : r.energy.parts) t += "," + p + "_j";
  t += "\n";
  for (const LayerReport& l : r.layers) {
    std::string name = l.name;
    for (size_t at = 0; (at = name.find('"', at)) != std::string::npos; at += 2) name.insert(at, 1, '"');
    t += fmt::format("\"{}\",{},{},{},{},{},{},{},{},{}", name, l.kind, l.macs, l.first_cycle, l.last_cycle, l.mx_cycles, l.vx_cycles, l.dma_cycles, l.dram_bytes, l.instructions);
    for (const char* reason : {"busy", "dependency", "bank", "dram"}) t += fmt::format(",{}", l.cycles_by_reason.at(reason));
    t += fmt::format(",{},{:.6g}", l.bound_by(), std::accumulate(l.energy_j.begin(), l.energy_j.end(), 0.0));
    for (double j : l.energy_j) t += fmt::format(",{:.6g}", j);
    t += "\n";
  }
  return t;
}

std::string to_json(const Report& r, const std::string& extra) {
  using nlohmann::json;
  json j = {{"model", r.model}, {"machine", r.machine}, {"precision", r.precision}, {"batch", r.batch}, {"cycles", r.cycles}, {"clock_hz", r.clock_hz}, {"latency_s", r.latency_s}, {"throughput_per_s", r.throughput_per_s},
            {"bound_cycles", r.bound_cycles}, {"efficiency", r.efficiency}, {"macs", r.macs}, {"instructions", r.instructions}, {"dram_bytes", r.dram_read_bytes + r.dram_write_bytes},
            {"dram_read_bytes", r.dram_read_bytes}, {"dram_write_bytes", r.dram_write_bytes}, {"weights_bytes", r.weights_bytes}, {"scratchpad_peak_bytes", r.scratchpad_peak_bytes},
            {"dram_footprint_bytes", r.dram_footprint_bytes}, {"nodes_on_npu", r.nodes_on_npu}, {"nodes_on_host", r.nodes_on_host}};
  for (const auto& e : r.engines) j["engines"][e.name] = {{"busy_cycles", e.busy_cycles}, {"stall_cycles", e.stall_cycles}};
  j["layers"] = json::array();
  for (const auto& l : r.layers) {
    j["layers"].push_back({{"name", l.name}, {"kind", l.kind}, {"macs", l.macs}, {"ideal_mx_cycles", l.ideal_mx_cycles}, {"first_cycle", l.first_cycle}, {"last_cycle", l.last_cycle}, {"mx_cycles", l.mx_cycles},
                           {"vx_cycles", l.vx_cycles}, {"dma_cycles", l.dma_cycles}, {"dram_bytes", l.dram_bytes}, {"instructions", l.instructions}, {"cycles_by_reason", l.cycles_by_reason}, {"energy_j", l.energy_j}, {"bound_by", l.bound_by()}});
  }
  const EnergyReport& e = r.energy;
  j["energy"] = {{"parts", e.parts}, {"joules", e.joules}, {"area_mm2", e.area_mm2}, {"dynamic_j", e.dynamic_j}, {"static_j", e.static_j}, {"core_j", e.core_j}, {"chip_j", e.chip_j}, {"system_j", e.system_j},
                 {"average_w", e.average_w}, {"peak_w", e.peak_w}, {"idle_w", e.idle_w}, {"power_w", e.power_w}, {"tops_per_w", e.tops_per_w}, {"nominal_tops_per_w", e.nominal_tops_per_w}, {"node_nm", e.node_nm},
                 {"supply_v", e.supply_v}};
  j["programs"] = r.programs, j["program_runs"] = r.program_runs;
  j["host"] = json::array();
  for (const auto& h : r.host) j["host"].push_back({{"name", h.name}, {"type", h.type}, {"reason", h.reason}, {"runs", h.runs}});
  j.update(json::parse(extra));
  return j.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace systole
