// YAML to Machine. One table lists each key with its allowed range; unknown, missing and impossible values are errors
// with file, line, key and range.
#include "machine/machine.h"

#include <yaml-cpp/yaml.h>

#include <cmath>
#include <cstdlib>
#include <functional>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "machine/presets.h"

namespace systole {
namespace {

struct Key {
  const char* section;
  const char* name;
  std::function<int64_t&(Machine&)> member;
  int64_t lo, hi;
  bool optional = false;
};

const std::vector<Key>& keys() {
  constexpr int64_t K = 1024, M = K * K, G = K * M;
  static const std::vector<Key> list = {
      {"", "clock_hz", [](Machine& m) -> int64_t& { return m.clock_hz; }, 1'000'000, 10'000'000'000},
      {"", "cores", [](Machine& m) -> int64_t& { return m.cores; }, 1, 1024},
      {"mx", "rows", [](Machine& m) -> int64_t& { return m.mx.rows; }, 1, 256},
      {"mx", "columns", [](Machine& m) -> int64_t& { return m.mx.columns; }, 1, 1024},
      {"mx", "depth", [](Machine& m) -> int64_t& { return m.mx.depth; }, 1, 1024},
      {"mx", "float_units", [](Machine& m) -> int64_t& { return m.mx.float_units; }, 1, 1024},
      {"mx", "a_element_bytes", [](Machine& m) -> int64_t& { return m.mx.a_element_bytes; }, 1, 4, true},
      {"mx", "b_port_bytes_per_cycle", [](Machine& m) -> int64_t& { return m.mx.b_port_bytes; }, 1, 64 * K},
      {"mx", "rows_per_fetch", [](Machine& m) -> int64_t& { return m.mx.rows_per_fetch; }, 1, 256},
      {"mx", "depthwise_pixels_per_cycle", [](Machine& m) -> int64_t& { return m.mx.depthwise_pixels; }, 1, 64},
      {"mx", "pipeline_cycles", [](Machine& m) -> int64_t& { return m.mx.pipeline_cycles; }, 1, 4096},
      {"vx", "lanes", [](Machine& m) -> int64_t& { return m.vx.lanes; }, 1, 4096},
      {"vx", "table_ports", [](Machine& m) -> int64_t& { return m.vx.table_ports; }, 1, 4096},
      {"vx", "start_cycles", [](Machine& m) -> int64_t& { return m.vx.start_cycles; }, 0, 4096},
      {"vx", "drain_cycles", [](Machine& m) -> int64_t& { return m.vx.drain_cycles; }, 0, 4096},
      {"memory", "scratchpad_bytes", [](Machine& m) -> int64_t& { return m.memory.scratchpad_bytes; }, 16 * K, 128 * M},
      {"memory", "lock_groups", [](Machine& m) -> int64_t& { return m.memory.groups; }, 4, 16},
      {"memory", "accumulator_bytes", [](Machine& m) -> int64_t& { return m.memory.accumulator_bytes; }, 1 * K, 16 * M},
      {"dma", "bytes_per_cycle", [](Machine& m) -> int64_t& { return m.dma.bytes_per_cycle; }, 1, 64 * K},
      {"dma", "start_cycles", [](Machine& m) -> int64_t& { return m.dma.start_cycles; }, 0, 4096},
      {"dma", "buffer_bytes", [](Machine& m) -> int64_t& { return m.dma.buffer_bytes; }, 64, 16 * M},
      {"dram", "capacity_bytes", [](Machine& m) -> int64_t& { return m.dram.capacity_bytes; }, 1 * M, 1024 * G},
      {"dram", "burst_bytes", [](Machine& m) -> int64_t& { return m.dram.burst_bytes; }, 1, 4 * K},
      {"dram", "bytes_per_cycle", [](Machine& m) -> int64_t& { return m.dram.bytes_per_cycle; }, 1, 64 * K},
      {"dram", "banks", [](Machine& m) -> int64_t& { return m.dram.banks; }, 1, 4096},
      {"dram", "row_bytes", [](Machine& m) -> int64_t& { return m.dram.row_bytes; }, 64, 1 * M},
      {"dram", "cas_cycles", [](Machine& m) -> int64_t& { return m.dram.cas_cycles; }, 0, 4096},
      {"dram", "activate_cycles", [](Machine& m) -> int64_t& { return m.dram.activate_cycles; }, 0, 4096},
      {"dram", "precharge_cycles", [](Machine& m) -> int64_t& { return m.dram.precharge_cycles; }, 0, 4096},
      {"dram", "turnaround_cycles", [](Machine& m) -> int64_t& { return m.dram.turnaround_cycles; }, 0, 4096},
      {"dram", "refresh_interval_cycles", [](Machine& m) -> int64_t& { return m.dram.refresh_interval_cycles; }, 0, 1'000'000'000},
      {"dram", "refresh_cycles", [](Machine& m) -> int64_t& { return m.dram.refresh_cycles; }, 0, 1'000'000},
      {"dram", "port_cycles", [](Machine& m) -> int64_t& { return m.dram.port_cycles; }, 0, 4096},
      {"control", "fifo_depth", [](Machine& m) -> int64_t& { return m.control.fifo_depth; }, 1, 30},
      {"control", "window_instructions", [](Machine& m) -> int64_t& { return m.control.window; }, 8, 120},
      {"control", "fetch_bytes_per_cycle", [](Machine& m) -> int64_t& { return m.control.fetch_bytes_per_cycle; }, 1, 4 * K},
      {"power", "node_nm", [](Machine& m) -> int64_t& { return m.power.node_nm; }, 5, 65, true},
      {"power", "supply_mv", [](Machine& m) -> int64_t& { return m.power.supply_mv; }, 0, 1500, true},
      {"power", "low_leakage", [](Machine& m) -> int64_t& { return m.power.low_leakage; }, 0, 1, true},
      {"power", "register_bits_per_mac", [](Machine& m) -> int64_t& { return m.power.register_bits_per_mac; }, 0, 256, true},
      {"power", "mac_bits", [](Machine& m) -> int64_t& { return m.power.mac_bits; }, 8, 16, true},
      {"power", "control_cores", [](Machine& m) -> int64_t& { return m.power.control_cores; }, 0, 64, true},
      {"power", "bank_bytes", [](Machine& m) -> int64_t& { return m.power.bank_bytes; }, 512, 16 * M, true},
      {"power", "clock_gating", [](Machine& m) -> int64_t& { return m.power.clock_gating; }, 0, 1, true},
      {"power", "die_mm2", [](Machine& m) -> int64_t& { return m.power.die_mm2; }, 0, 10000, true},
      {"power", "rest_mw", [](Machine& m) -> int64_t& { return m.power.rest_mw; }, 0, 100000, true},
  };
  return list;
}

struct Reader {
  const std::string& source;

  std::string at(const YAML::Node& node, const std::string& key) const {
    const auto mark = node.Mark();
    return source + (mark.is_null() ? "" : ":" + std::to_string(mark.line + 1)) + ": " + key;
  }

  int64_t number(const YAML::Node& node, const std::string& key, int64_t lo, int64_t hi) const {
    const std::string range = "an integer from " + std::to_string(lo) + " to " + std::to_string(hi) + " (suffixes Ki, Mi, Gi, k, M, G)";
    if (!node.IsScalar()) fail(ErrorCode::kBadInput, at(node, key), "not a number", range);
    const std::string text = node.Scalar();
    const double value = parse_quantity(text).value_or(NAN);
    if (!(value >= static_cast<double>(lo) && value <= static_cast<double>(hi)) || value != static_cast<double>(static_cast<int64_t>(value))) {
      fail(ErrorCode::kBadInput, at(node, key), "'" + text + "'", range);
    }
    return static_cast<int64_t>(value);
  }
};

void reject_unknown(const Reader& reader, const YAML::Node& node, const std::string& section) {
  std::set<std::string> known;
  if (section.empty()) known = {"name", "description", "sources"};
  if (section == "dram") known.insert("kind");
  if (section == "power") known.insert("points");
  for (const Key& k : keys()) {
    if (section == k.section) known.insert(k.name);
    if (section.empty() && *k.section) known.insert(k.section);
  }
  for (const auto& entry : node) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "(not a scalar)";
    if (known.count(key)) continue;
    std::string list;
    for (const auto& k : known) list += (list.empty() ? "" : ", ") + k;
    fail(ErrorCode::kBadInput, reader.at(entry.first, (section.empty() ? "" : section + ".") + key), "unknown key", "one of " + list);
  }
}

void read_points(const Reader& reader, const YAML::Node& list, Machine& m) {
  if (!list.IsSequence() || list.size() > 16) fail(ErrorCode::kBadInput, reader.at(list, "power.points"), "not a list", "at most 16 of {name, supply_mv, clock_hz}");
  for (const YAML::Node& p : list) {
    if (!p.IsMap() || !p["name"] || !p["name"].IsScalar() || !p["supply_mv"] || !p["clock_hz"] || p.size() != 3) fail(ErrorCode::kBadInput, reader.at(p, "power.points"), "an entry of other keys", "{name, supply_mv, clock_hz}");
    m.power.points.push_back({p["name"].Scalar(), reader.number(p["supply_mv"], "power.points.supply_mv", 100, 1500), reader.number(p["clock_hz"], "power.points.clock_hz", 1'000'000, 10'000'000'000)});
  }
}

/// Relations between values that a range per key cannot express.
void check_relations(const Machine& m, const std::string& source) {
  auto require = [&](bool ok, const char* key, const std::string& found, const char* expected) {
    if (!ok) fail(ErrorCode::kBadInput, source + ": " + key, found, expected);
  };
  require(m.memory.scratchpad_bytes % (m.memory.groups * 64) == 0, "memory.scratchpad_bytes", std::to_string(m.memory.scratchpad_bytes),
          "a multiple of 64 x lock_groups");
  require(m.mx.float_units <= m.mx.depth, "mx.float_units", std::to_string(m.mx.float_units), "at most mx.depth");
  require(m.memory.accumulator_bytes % (8 * m.mx.columns) == 0 && m.accumulator_elements() >= 4 * m.mx.columns, "memory.accumulator_bytes",
          std::to_string(m.memory.accumulator_bytes), "a multiple of 8 x mx.columns, and four columns a half at least");
  require(m.dram.row_bytes % m.dram.burst_bytes == 0, "dram.row_bytes", std::to_string(m.dram.row_bytes), "a multiple of dram.burst_bytes");
  require(m.dram.refresh_interval_cycles == 0 || m.dram.refresh_cycles < m.dram.refresh_interval_cycles, "dram.refresh_cycles",
          std::to_string(m.dram.refresh_cycles), "less than dram.refresh_interval_cycles");
}

}  // namespace

std::optional<double> parse_quantity(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const std::string unit = end;
  const double scale = unit.empty() ? 1 : unit == "Ki" ? 0x1p10 : unit == "Mi" ? 0x1p20 : unit == "Gi" ? 0x1p30 : unit == "k" ? 1e3 : unit == "M" ? 1e6 : unit == "G" ? 1e9 : 0;
  return end == text.c_str() || scale == 0 ? std::nullopt : std::optional(value * scale);
}

Machine parse_machine(std::string_view yaml, const std::string& source) {
  if (yaml.size() > (1u << 20)) fail(ErrorCode::kResource, source, "the description is larger than 1 MiB");
  YAML::Node root;
  try {
    root = YAML::Load(std::string(yaml));
  } catch (const YAML::Exception& e) {
    fail(ErrorCode::kBadInput, source + ":" + std::to_string(e.mark.line + 1), e.msg, "valid YAML");
  }
  const Reader reader{source};
  if (!root.IsMap()) fail(ErrorCode::kBadInput, source, "not a mapping", "keys such as 'name', 'clock_hz', 'mx'", "start from 'systole machine edge --yaml'");
  Machine m;
  m.text = yaml;
  reject_unknown(reader, root, "");
  auto text = [&](const YAML::Node& node, const std::string& key) {
    if (!node || !node.IsScalar()) fail(ErrorCode::kBadInput, reader.at(root, key), "missing", "a string");
    return node.Scalar();
  };
  m.name = text(root["name"], "name");
  m.description = text(root["description"], "description");
  std::string values = m.name;  // that programs depend on; an optional one only where it is not the default
  Machine defaults;
  for (const char* section : {"mx", "vx", "memory", "dma", "dram", "control"}) {
    if (!root[section] || !root[section].IsMap()) fail(ErrorCode::kBadInput, source + ": " + section, "missing section", "a mapping");
    reject_unknown(reader, root[section], section);
  }
  if (root["power"]) {
    if (!root["power"].IsMap()) fail(ErrorCode::kBadInput, source + ": power", "not a mapping", "keys such as 'node_nm', 'points'");
    reject_unknown(reader, root["power"], "power");
  }
  m.dram.kind = text(root["dram"]["kind"], "dram.kind");
  for (const Key& k : keys()) {
    const std::string path = (*k.section ? std::string(k.section) + "." : "") + k.name;
    const YAML::Node parent = *k.section ? root[k.section] : root;
    if (k.optional && (!parent || !parent[k.name])) continue;
    if (!parent[k.name]) fail(ErrorCode::kBadInput, reader.at(parent, path), "missing key", "an integer from " + std::to_string(k.lo) + " to " + std::to_string(k.hi));
    const int64_t value = reader.number(parent[k.name], path, k.lo, k.hi);
    k.member(m) = value;
    if (!k.optional || (std::string_view(k.section) != "power" && value != k.member(defaults))) values += ";" + path + "=" + std::to_string(value);
  }
  m.power.points = {{"nominal", m.power.supply_mv, m.clock_hz}};
  if (root["power"] && root["power"]["points"]) read_points(reader, root["power"]["points"], m);
  check_relations(m, source);
  m.hash = content_hash(values);
  return m;
}

Machine load_machine(const std::string& name_or_path) {
  for (const Preset& p : kPresets) {
    if (name_or_path == p.name) return parse_machine(p.yaml, std::string(p.name) + ".yaml");
  }
  if (name_or_path.size() > 5 && name_or_path.ends_with(".yaml")) {
    const auto bytes = read_file(name_or_path, 1 << 20);
    return parse_machine({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, name_or_path);
  }
  std::string names;
  for (const Preset& p : kPresets) names += (names.empty() ? "" : ", ") + std::string(p.name);
  fail(ErrorCode::kNotFound, "machine '" + name_or_path + "'", "no such preset", names + ", or a file that ends in .yaml");
}

Machine at_operating_point(Machine m, const std::string& point) {
  if (point.empty()) return m;
  std::string names;
  for (const OperatingPoint& p : m.power.points) {
    names += (names.empty() ? "" : ", ") + p.name;
    if (p.name != point) continue;
    // Cycles of external memory at the other clock, rounded up; its bandwidth in bytes per second stays.
    const auto scaled = [&](int64_t cycles) { return (cycles * p.clock_hz + m.clock_hz - 1) / m.clock_hz; };
    DramTiming& d = m.dram;
    for (int64_t* cycles : {&d.cas_cycles, &d.activate_cycles, &d.precharge_cycles, &d.turnaround_cycles, &d.refresh_interval_cycles, &d.refresh_cycles, &d.port_cycles}) *cycles = scaled(*cycles);
    d.bytes_per_cycle = std::max<int64_t>(1, d.bytes_per_cycle * m.clock_hz / p.clock_hz);
    m.clock_hz = p.clock_hz, m.power.supply_mv = p.supply_mv;
    return m;
  }
  fail(ErrorCode::kNotFound, "operating point '" + point + "' of machine '" + m.name + "'", "no such point", names);
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const Preset& p : kPresets) names.emplace_back(p.name);
  return names;
}

}  // namespace systole
