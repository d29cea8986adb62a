// Between 45 nm and 7 nm, where published tables stand, each figure follows a power law through both. Above 45 nm energy
// goes with feature size and the square of the supply; at 5 nm by the foundry's announced factor.
#include "sim/energy/technology.h"

#include <yaml-cpp/yaml.h>

#include <cmath>

#include "base/error.h"
#include "machine/presets.h"

namespace systole {
namespace {

constexpr const char* kNames[kCircuits] = {"multiply_int8", "multiply_int16", "multiply_int32", "multiply_bf16", "multiply_f32", "add_int16", "add_int32", "add_f32", "flip_flop", "wire_bit_mm", "core_cycle"};

const YAML::Node& tables() {
  static const YAML::Node root = YAML::Load(kTechnologies[0].yaml);
  return root;
}

double figure(const YAML::Node& node, const char* key) { return node[key].as<double>(); }

YAML::Node node_of(int64_t nm) {
  std::string known;
  for (const auto& n : tables()["nodes"]) {
    if (n["nm"].as<int64_t>() == nm) return n;
    known += (known.empty() ? "" : ", ") + n["nm"].as<std::string>();
  }
  fail(ErrorCode::kBadInput, "power.node_nm", std::to_string(nm), "one of " + known);
}

/// The factor on a figure given at 45 and 7 nm, both at nominal supplies.
double between(const YAML::Node& pj, int64_t nm) {
  const double at45 = figure(pj, "45"), at7 = figure(pj, "7");
  if (nm > 45) {
    const double v = figure(node_of(nm), "volts") / figure(node_of(45), "volts");
    return at45 * static_cast<double>(nm) / 45 * v * v;
  }
  if (nm < 7) return at7 * figure(tables()["rules"], "beyond_7nm");
  return at45 * std::pow(static_cast<double>(nm) / 45, std::log(at45 / at7) / std::log(45.0 / 7));
}

}  // namespace

Technology::Technology(int64_t node_nm, double supply_v, bool low_leakage) : node_nm_(node_nm), supply_v_(supply_v) {
  const YAML::Node node = node_of(node_nm), rules = tables()["rules"];
  const double nominal = figure(node, "volts");
  if (supply_v_ == 0) supply_v_ = nominal;
  if (!(supply_v_ >= 0.5 * nominal && supply_v_ <= 1.4 * nominal)) {
    fail(ErrorCode::kBadInput, "power.supply_mv", std::to_string(std::lround(supply_v_ * 1000)), std::to_string(std::lround(500 * nominal)) + " to " + std::to_string(std::lround(1400 * nominal)) + " at " + std::to_string(node_nm) + " nm");
  }
  voltage_factor_ = supply_v_ * supply_v_ / (nominal * nominal);
  gate_density_ = figure(node, "gate_density"), bitcell_um2_ = figure(node, "bitcell_um2");
  operand_activity_ = figure(rules, "operand_activity"), clock_root_ = figure(rules, "clock_root"), array_efficiency_ = figure(rules, "array_efficiency"), placement_ = figure(rules, "placement");
  leakage_w_mm2_ = 1e-3 * figure(node, "leakage_mw_mm2") * (low_leakage ? figure(rules, "low_leakage_share") : 1) * (supply_v_ / nominal) * std::exp((supply_v_ - nominal) / figure(rules, "leakage_volts"));
  for (int i = 0; i < kCircuits; ++i) {
    const YAML::Node op = tables()["operations"][kNames[i]];
    operation_pj_[i] = between(op["pj"], node_nm) * voltage_factor_, operation_um2_[i] = figure(op, "um2");
  }
  // Energy of an access goes with the square root of the size: the slope is the geometric mean over the published sizes.
  double log_slope = 0, n = 0;
  for (const auto& point : tables()["sram"]) log_slope += std::log(between(point["pj"], node_nm) / std::sqrt(figure(point, "bytes"))), n += 1;
  sram_slope_pj_ = std::exp(log_slope / n) * voltage_factor_;
}

double Technology::sram_pj(double macro_bytes, double width_bytes) const { return sram_slope_pj_ * std::sqrt(macro_bytes) * width_bytes / 8; }

double Technology::logic_mm2(Circuit op, double count) const { return count * operation_um2_[static_cast<size_t>(op)] * 1e-6 / gate_density_ / placement_; }
double Technology::sram_mm2(double bytes) const { return bytes * 8 * bitcell_um2_ * 1e-6 / array_efficiency_; }
double Technology::leakage_w(double logic_mm2, double sram_mm2) const { return leakage_w_mm2_ * (logic_mm2 + 0.5 * sram_mm2); }

DramEnergy dram_energy(const std::string& kind) {
  std::string known;
  for (const auto& entry : tables()["dram"]) {
    const YAML::Node& d = entry.second;
    if (entry.first.as<std::string>() == kind) return {figure(d, "device_pj_bit"), figure(d, "interface_pj_bit"), figure(d, "activate_nj"), figure(d, "standby_mw_gbs")};
    known += (known.empty() ? "" : ", ") + entry.first.as<std::string>();
  }
  fail(ErrorCode::kNotFound, "dram.kind", "'" + kind + "' has no energy table", known);
}

std::vector<int64_t> technology_nodes() {
  std::vector<int64_t> list;
  for (const auto& n : tables()["nodes"]) list.push_back(n["nm"].as<int64_t>());
  return list;
}

std::vector<std::string> technology_sources() { return tables()["sources"].as<std::vector<std::string>>(); }

}  // namespace systole
