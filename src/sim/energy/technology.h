// Energy and area of circuits in one technology node, from technologies/cmos.yaml.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace systole {

/// What circuits do, in the order of technologies/cmos.yaml.
enum class Circuit : uint8_t { kMultiplyInt8, kMultiplyInt16, kMultiplyInt32, kMultiplyBF16, kMultiplyF32, kAddInt16, kAddInt32, kAddF32, kFlipFlop, kWireBitMm, kCoreCycle };
inline constexpr int kCircuits = 11;

/// External memory, per bit and per row; interface: the controller and PHY on the NPU's chip.
struct DramEnergy {
  double device_pj_bit = 0, interface_pj_bit = 0, activate_nj = 0, standby_mw_gbs = 0;
};

class Technology {
 public:
  /// A node of technologies/cmos.yaml in nanometres; `supply_v` 0 is its nominal voltage. Fails (kBadInput) on a node that
  /// the tables lack, or a supply outside of half to 1.4 times the nominal one.
  Technology(int64_t node_nm, double supply_v, bool low_leakage);

  /// Picojoules at the supply. Dynamic energy goes with its square.
  double pj(Circuit op) const { return operation_pj_[static_cast<size_t>(op)]; }
  /// One access of `width_bytes` to a memory of `macros` of `macro_bytes` that work side by side.
  double sram_pj(double macro_bytes, double width_bytes) const;
  double operand_activity() const { return operand_activity_; }
  double clock_root() const { return clock_root_; }

  /// Square millimetres, placed.
  double logic_mm2(Circuit op, double count) const;
  double sram_mm2(double bytes) const;
  double leakage_w(double logic_mm2, double sram_mm2) const;

  int64_t node_nm() const { return node_nm_; }
  double supply_v() const { return supply_v_; }

 private:
  int64_t node_nm_;
  double supply_v_, voltage_factor_ = 1, gate_density_ = 1, bitcell_um2_ = 0, leakage_w_mm2_ = 0;
  double operand_activity_ = 1, clock_root_ = 0, array_efficiency_ = 1, placement_ = 1;
  double operation_pj_[kCircuits] = {}, operation_um2_[kCircuits] = {};
  double sram_slope_pj_ = 0;  ///< of 64 bits: slope sqrt(bytes)
};

/// The memory kind of a machine description ("LPDDR5"). Fails (kNotFound) with the list of known kinds.
DramEnergy dram_energy(const std::string& kind);

/// Technology nodes of the tables, in nanometres, and the sources of all figures.
std::vector<int64_t> technology_nodes();
std::vector<std::string> technology_sources();

}  // namespace systole
