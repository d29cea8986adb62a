// The HTML report: a template, a style, a script, the plotting library and the data as JSON, in one file.
#include <nlohmann/json.hpp>

#include "report/assets.h"
#include "report/timeline.h"

namespace systole {
namespace {

using nlohmann::json;
constexpr size_t kMostItems = 40000;

/// Neighbours of one engine and layer become one until the page stays small.
std::vector<TimelineItem> thinned(const std::vector<TimelineItem>& items, int64_t cycles) {
  if (items.size() <= kMostItems) return items;
  const int64_t gap = std::max<int64_t>(1, cycles / static_cast<int64_t>(kMostItems));
  std::vector<TimelineItem> out;
  std::vector<int64_t> last(8, -1);
  for (const TimelineItem& i : items) {
    int64_t& l = last[static_cast<size_t>(i.engine)];
    if (l >= 0 && out[static_cast<size_t>(l)].layer == i.layer && i.start - out[static_cast<size_t>(l)].end <= gap) {
      out[static_cast<size_t>(l)].end = std::max(out[static_cast<size_t>(l)].end, i.end);
      continue;
    }
    l = static_cast<int64_t>(out.size());
    out.push_back(i);
  }
  return out;
}

json page_data(const Report& r, const Timeline& t, const Machine& m, const Comparison& comparison) {
  json items = json::array(), memory = json::array();
  for (const TimelineItem& i : thinned(t.items, t.cycles)) items.insert(items.end(), {i.engine, i.layer, i.start, i.end - i.start});
  for (const Residence& x : t.memory) {
    if (t.memory.size() <= 2 * kMostItems || (x.to - x.from) * 4000 > t.cycles) memory.insert(memory.end(), {x.slice, x.layer, x.from, x.to});
  }
  const bool integers = r.precision.starts_with("int8");
  const double macs = static_cast<double>(integers ? m.macs_per_cycle() : m.mx.rows * m.mx.columns * m.mx.float_units), hz = static_cast<double>(m.clock_hz);
  return {{"report", json::parse(to_json(r))}, {"cycles", t.cycles}, {"items", items}, {"memory", memory}, {"memory_slices", kMemorySlices}, {"power_w", t.power_w}, {"dram_bytes_per_s", t.dram_bytes_per_s},
          {"machine", {{"peak_macs_per_s", macs * hz}, {"dram_bytes_per_s", static_cast<double>(m.dram.bytes_per_cycle) * hz}, {"scratchpad_bytes", m.memory.scratchpad_bytes}}},
          {"comparison", comparison.rows.empty() ? json::array() : json::parse(to_json(comparison))["rows"]}};
}

}  // namespace

std::string html_page(const Report& report, const Timeline& timeline, const Machine& machine, const Comparison& comparison) {
  return make_page(report_content(), report.model + " on " + report.machine, report_script(), page_data(report, timeline, machine, comparison).dump(-1, ' ', true, json::error_handler_t::replace));
}

}  // namespace systole
