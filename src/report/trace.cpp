// Chrome trace events ("X" slices, "s"/"f" flows, "C" counters, "M" names); times in microseconds.
#include <nlohmann/json.hpp>

#include "isa/instruction.h"
#include "report/timeline.h"

namespace systole {

std::string trace_json(const Report& report, const Timeline& t) {
  using nlohmann::json;
  const double us = t.clock_hz > 0 ? 1e6 / t.clock_hz : 0;
  json events = json::array();
  events.push_back({{"ph", "M"}, {"pid", 1}, {"name", "process_name"}, {"args", {{"name", report.model + " on " + report.machine}}}});
  for (int e = 0; e < isa::kEngines; ++e) events.push_back({{"ph", "M"}, {"pid", 1}, {"tid", e + 1}, {"name", "thread_name"}, {"args", {{"name", isa::to_string(static_cast<isa::Engine>(e))}}}});
  for (size_t i = 0; i < t.items.size(); ++i) {
    const TimelineItem& item = t.items[i];
    const LayerReport& layer = report.layers[static_cast<size_t>(item.layer)];
    json args = {{"cycles", item.end - item.start}, {"first_cycle", item.start}, {"waited_cycles", item.start - item.dispatched}};
    if (item.dram_bytes) args["dram_bytes"] = item.dram_bytes;
    events.push_back({{"ph", "X"}, {"pid", 1}, {"tid", item.engine + 1}, {"ts", static_cast<double>(item.start) * us}, {"dur", static_cast<double>(item.end - item.start) * us}, {"name", layer.name}, {"cat", layer.kind},
                      {"args", args}});
    if (item.waited_for < 0) continue;
    const TimelineItem& from = t.items[static_cast<size_t>(item.waited_for)];
    events.push_back({{"ph", "s"}, {"pid", 1}, {"tid", from.engine + 1}, {"ts", static_cast<double>(from.end) * us}, {"id", i}, {"name", "wait"}, {"cat", "dependency"}});
    events.push_back({{"ph", "f"}, {"bp", "e"}, {"pid", 1}, {"tid", item.engine + 1}, {"ts", static_cast<double>(item.start) * us}, {"id", i}, {"name", "wait"}, {"cat", "dependency"}});
  }
  auto counter = [&](const char* name, const char* unit, const std::vector<double>& values, double scale) {
    for (size_t k = 0; k < values.size(); ++k) {
      const double at = static_cast<double>(t.cycles) * us * static_cast<double>(k) / static_cast<double>(values.size());
      events.push_back({{"ph", "C"}, {"pid", 1}, {"ts", at}, {"name", name}, {"args", {{unit, values[k] * scale}}}});
    }
  };
  counter("power", "W", t.power_w, 1);
  counter("DRAM", "GB/s", t.dram_bytes_per_s, 1e-9);
  const json out = {{"displayTimeUnit", "ns"}, {"traceEvents", events}, {"otherData", {{"model", report.model}, {"machine", report.machine}, {"precision", report.precision}, {"cycles", report.cycles}}}};
  return out.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace systole
