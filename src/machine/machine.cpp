// YAML to Machine. One table lists each key with its allowed range; unknown, missing and impossible values are errors
// with file, line, key and range.
#include "machine/machine.h"

#include <yaml-cpp/yaml.h>

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
  };
  return list;
}

struct Reader {
  const std::string& source;

  std::string at(const YAML::Node& node, const std::string& key) const {
    const auto mark = node.Mark();
    return source + (mark.is_null() ? "" : ":" + std::to_string(mark.line + 1)) + ": " + key;
  }

  /// A number with an optional unit suffix: Ki, Mi, Gi for bytes; k, M, G for rates.
  int64_t number(const YAML::Node& node, const std::string& key, int64_t lo, int64_t hi) const {
    const std::string range = "an integer from " + std::to_string(lo) + " to " + std::to_string(hi) + " (suffixes Ki, Mi, Gi, k, M, G)";
    if (!node.IsScalar()) fail(ErrorCode::kBadInput, at(node, key), "not a number", range);
    const std::string text = node.Scalar();
    size_t used = 0;
    double value = 0;
    try {
      value = std::stod(text, &used);
    } catch (const std::exception&) {
      fail(ErrorCode::kBadInput, at(node, key), "'" + text + "'", range);
    }
    const std::string unit = text.substr(used);
    const double scale = unit.empty() ? 1 : unit == "Ki" ? 0x1p10 : unit == "Mi" ? 0x1p20 : unit == "Gi" ? 0x1p30 : unit == "k" ? 1e3 : unit == "M" ? 1e6 : unit == "G" ? 1e9 : -1;
    value *= scale;
    if (scale < 0 || !(value >= static_cast<double>(lo) && value <= static_cast<double>(hi)) || value != static_cast<double>(static_cast<int64_t>(value))) {
      fail(ErrorCode::kBadInput, at(node, key), "'" + text + "'", range);
    }
    return static_cast<int64_t>(value);
  }
};

void reject_unknown(const Reader& reader, const YAML::Node& node, const std::string& section) {
  std::set<std::string> known;
  if (section.empty()) known = {"name", "description", "sources"};
  if (section == "dram") known.insert("kind");
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
  std::string values = m.name;
  for (const char* section : {"mx", "vx", "memory", "dma", "dram", "control"}) {
    if (!root[section] || !root[section].IsMap()) fail(ErrorCode::kBadInput, source + ": " + section, "missing section", "a mapping");
    reject_unknown(reader, root[section], section);
  }
  m.dram.kind = text(root["dram"]["kind"], "dram.kind");
  for (const Key& k : keys()) {
    const std::string path = (*k.section ? std::string(k.section) + "." : "") + k.name;
    const YAML::Node parent = *k.section ? root[k.section] : root;
    if (!parent[k.name]) fail(ErrorCode::kBadInput, reader.at(parent, path), "missing key", "an integer from " + std::to_string(k.lo) + " to " + std::to_string(k.hi));
    const int64_t value = reader.number(parent[k.name], path, k.lo, k.hi);
    k.member(m) = value;
    values += ";" + path + "=" + std::to_string(value);
  }
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

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const Preset& p : kPresets) names.emplace_back(p.name);
  return names;
}

}  // namespace systole
