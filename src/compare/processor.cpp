#include "compare/processor.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "machine/presets.h"

namespace systole {
namespace {

class Reader {
 public:
  Reader(const YAML::Node& root, const std::string& source) : root_(root), source_(source) {}

  double number(const YAML::Node& parent, const char* key, double lo, double hi) const {
    const YAML::Node n = parent[key];
    double v = NAN;
    try {
      if (n) v = n.as<double>();
    } catch (const YAML::Exception&) {
      // reported below
    }
    if (!(v >= lo && v <= hi)) fail(ErrorCode::kBadInput, at(n ? n : parent, key), n ? "'" + (n.IsScalar() ? n.Scalar() : "not a number") + "'" : "missing", "a number from " + std::to_string(lo) + " to " + std::to_string(hi));
    return v;
  }
  std::string text(const YAML::Node& parent, const char* key) const {
    if (!parent[key] || !parent[key].IsScalar()) fail(ErrorCode::kBadInput, at(parent, key), "missing", "a string");
    return parent[key].Scalar();
  }
  /// A key of none of these names is a slip of the pen, and what it was meant to set would be left out silently.
  void only(const YAML::Node& parent, const std::vector<std::string>& names) const {
    for (const auto& entry : parent) {
      const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
      if (std::find(names.begin(), names.end(), key) != names.end()) continue;
      std::string list;
      for (const std::string& n : names) list += (list.empty() ? "" : ", ") + n;
      fail(ErrorCode::kBadInput, at(entry.first, key.c_str()), "no key of that name", "one of " + list);
    }
  }
  std::vector<std::string> texts(const char* key) const {
    std::vector<std::string> list;
    if (root_[key] && !root_[key].IsSequence()) fail(ErrorCode::kBadInput, at(root_[key], key), "not a list", "a list of strings");
    for (const YAML::Node& n : root_[key]) {
      if (!n.IsScalar()) fail(ErrorCode::kBadInput, at(n, key), "not a string", "a string");
      list.push_back(n.Scalar());
    }
    return list;
  }
  double element(const YAML::Node& list, size_t i, const char* key) const {
    const YAML::Node n = list[i];
    double v = NAN;
    if (!n.IsScalar() || !YAML::convert<double>::decode(n, v) || !(v >= 1 && v <= 1e6)) fail(ErrorCode::kBadInput, at(list, key), n.IsScalar() ? "'" + n.Scalar() + "'" : "not a number", "[rows, columns], each from 1 to 1000000");
    return v;
  }
  YAML::Node section(const char* key) const {
    if (!root_[key] || !root_[key].IsMap()) fail(ErrorCode::kBadInput, at(root_, key), "missing section", "a mapping");
    return root_[key];
  }
  std::vector<ProcessorPoint> points(const char* key) const {
    std::vector<ProcessorPoint> list;
    if (!root_[key]) return list;
    for (const YAML::Node& p : root_[key]) {
      if (!p.IsMap()) fail(ErrorCode::kBadInput, at(p, key), "not a mapping", "{model, gmac, precision, batch, energy_mj, latency_ms, source}");
      only(p, {"model", "gmac", "precision", "batch", "energy_mj", "latency_ms", "source"});
      ProcessorPoint q;
      q.model = text(p, "model"), q.precision = text(p, "precision"), q.source = text(p, "source"), q.batch = static_cast<int64_t>(number(p, "batch", 1, 1e6));
      if (p["energy_mj"]) q.energy_j = 1e-3 * number(p, "energy_mj", 0, 1e9);
      if (p["gmac"]) q.macs = 1e9 * number(p, "gmac", 0, 1e9);
      if (p["latency_ms"]) q.latency_s = 1e-3 * number(p, "latency_ms", 0, 1e9);
      list.push_back(q);
    }
    return list;
  }

 private:
  std::string at(const YAML::Node& n, const char* key) const {
    const auto mark = n.Mark();
    return source_ + (mark.is_null() ? "" : ":" + std::to_string(mark.line + 1)) + ": " + key;
  }
  const YAML::Node& root_;
  const std::string& source_;
};

Processor parse(const std::string& yaml, const std::string& key, const std::string& source) {
  YAML::Node root;
  try {
    root = YAML::Load(yaml);
  } catch (const YAML::Exception& e) {
    fail(ErrorCode::kBadInput, source + ":" + std::to_string(e.mark.line + 1), e.msg, "valid YAML");
  }
  if (!root.IsMap()) fail(ErrorCode::kBadInput, source, "not a mapping", "keys such as 'name', 'peak_gops'");
  const Reader r(root, source);
  r.only(root, {"name", "kind", "peak_gops", "bandwidth_gbs", "busy_w", "idle_w", "busy_share", "units", "tile", "launch_us", "efficiency", "notes", "published", "measured", "sources"});
  Processor p;
  p.key = key, p.name = r.text(root, "name"), p.kind = r.text(root, "kind");
  const YAML::Node peaks = r.section("peak_gops"), e = r.section("efficiency");
  r.only(peaks, {"fp32", "bf16", "fp16", "int8"}), r.only(e, {"matmul", "conv", "depthwise", "stream"});
  for (const char* precision : {"fp32", "bf16", "fp16", "int8"}) p.peak_ops[precision] = 1e9 * r.number(peaks, precision, 1e-3, 1e9);
  p.bandwidth = 1e9 * r.number(root, "bandwidth_gbs", 1e-3, 1e6);
  p.busy_w = r.number(root, "busy_w", 1e-6, 1e5), p.idle_w = r.number(root, "idle_w", 0, p.busy_w), p.busy_share = r.number(root, "busy_share", 0, 1);
  p.units = r.number(root, "units", 1, 1e6), p.launch_s = 1e-6 * r.number(root, "launch_us", 0, 1e6);
  if (!root["tile"] || !root["tile"].IsSequence() || root["tile"].size() != 2) fail(ErrorCode::kBadInput, source + ": tile", "missing", "[rows, columns]");
  const YAML::Node tile = root["tile"];
  p.tile_rows = r.element(tile, 0, "tile"), p.tile_columns = r.element(tile, 1, "tile");
  p.matmul = r.number(e, "matmul", 1e-3, 1), p.conv = r.number(e, "conv", 1e-3, 1), p.depthwise = r.number(e, "depthwise", 1e-3, 1), p.stream = r.number(e, "stream", 1e-3, 1);
  p.published = r.points("published"), p.measured = r.points("measured");
  p.sources = r.texts("sources");
  return p;
}

}  // namespace

Processor load_processor(const std::string& name_or_path) {
  for (const Preset& p : kProcessors) {
    if (name_or_path == p.name) return parse(p.yaml, p.name, std::string(p.name) + ".yaml");
  }
  if (name_or_path.ends_with(".yaml")) {
    const auto bytes = read_file(name_or_path, 1 << 20);
    return parse(std::string(bytes.begin(), bytes.end()), name_or_path, name_or_path);
  }
  std::string names;
  for (const std::string& n : processor_names()) names += (names.empty() ? "" : ", ") + n;
  fail(ErrorCode::kNotFound, "processor '" + name_or_path + "'", "no such preset", names + ", or a file that ends in .yaml");
}

std::vector<std::string> processor_names() {
  std::vector<std::string> names;
  for (const Preset& p : kProcessors) names.emplace_back(p.name);
  return names;
}

std::vector<ProcessorPoint> points_of(const std::vector<ProcessorPoint>& points, const std::string& model, double macs) {
  size_t longest = 0;
  for (const ProcessorPoint& p : points) {
    if (model.starts_with(p.model)) longest = std::max(longest, p.model.size());
  }
  std::vector<ProcessorPoint> list;
  std::copy_if(points.begin(), points.end(), std::back_inserter(list), [&](const ProcessorPoint& p) {
    return p.model.size() == longest && model.starts_with(p.model) && (p.macs == 0 || std::fabs(p.macs - macs) <= 0.05 * macs);
  });
  return list;
}

Estimate estimate(const Processor& p, const std::vector<WorkItem>& work, const std::string& precision, int64_t batch) {
  const double peak = p.peak_ops.at(precision), n = static_cast<double>(batch);
  double seconds = 0, operations = 0, bytes = 0;
  for (const WorkItem& w : work) {
    const double share = w.kind == WorkKind::kConv ? p.conv : w.kind == WorkKind::kDepthwise ? p.depthwise : w.kind == WorkKind::kMatmul ? p.matmul : 1;
    double filled = 1;  // of the units, by whole tiles in whole waves
    if (w.columns > 0) {
      const double rows = w.rows * n, tile_rows = std::min(p.tile_rows, std::max(16.0, rows));  // libraries have kernels for few rows
      const double tiles = std::ceil(rows / tile_rows) * std::ceil(w.columns / p.tile_columns);
      filled = std::min(1.0, rows * w.columns / (std::ceil(tiles / p.units) * p.units * tile_rows * p.tile_columns));
    }
    const double rate = (w.kind == WorkKind::kStream ? p.peak_ops.at("fp32") : peak * share) * filled;
    const double moved = w.activation_bytes * n + w.weight_bytes;
    seconds += std::max(w.operations * n / rate, moved / (p.bandwidth * p.stream)) + p.launch_s;
    operations += w.operations * n, bytes += moved;
  }
  Estimate e;
  e.latency_s = seconds, e.utilisation = seconds > 0 ? operations / seconds / peak : 0;
  const double load = std::min(1.0, std::max(e.utilisation / p.matmul, seconds > 0 ? bytes / seconds / p.bandwidth : 0));
  e.power_w = p.idle_w + (p.busy_w - p.idle_w) * (p.busy_share + (1 - p.busy_share) * load);
  return e;
}

}  // namespace systole
