// Energy, power and area of a machine: activity x the figures of its technology, and leakage x time.
#pragma once
#include <array>
#include <vector>

#include "sim/energy/activity.h"
#include "sim/energy/technology.h"

namespace systole {

/// Parts of the machine that energy is charged to. Boundaries: the core is everything before kInterface; the chip adds the
/// interface to external memory, scalar cores and the rest; then comes external memory itself.
enum class Part : uint8_t { kArray, kAccumulators, kScratchpad, kVector, kDma, kControl, kClock, kLeakage, kInterface, kCores, kRest, kDram };
inline constexpr int kParts = 12;
const char* to_string(Part part);

/// Joules (or watts, or square millimetres) by part.
struct ByPart {
  std::array<double, kParts> value{};
  double& operator[](Part p) { return value[static_cast<size_t>(p)]; }
  double operator[](Part p) const { return value[static_cast<size_t>(p)]; }
  ByPart& operator+=(const ByPart& o);
  ByPart scaled(double factor) const;
  double core() const, chip() const, total() const;  ///< sums inside the three boundaries
};

class EnergyModel {
 public:
  /// Fails (kBadInput, kNotFound) on a technology node, a supply or a kind of memory that the tables lack.
  explicit EnergyModel(const Machine& machine);

  ByPart joules(const Activity& activity) const;
  /// Watts while a program runs, whatever it does: leakage, the root of the clock tree, standby of external memory.
  ByPart static_watts() const;
  /// Watts when nothing runs: leakage, and standby of external memory.
  ByPart idle_watts() const;
  /// Interface and external memory have no area here.
  ByPart area_mm2() const { return area_; }
  const Technology& technology() const { return technology_; }

 private:
  /// What single operations take on this machine.
  struct Picojoules {
    double flip_flop, integer_mac, bf16_mac, accumulator_word, scratchpad_byte, add, multiply, compare, lookup, dma_bit, instruction_word;
  };
  void measure_area();
  void measure_operations();
  double flip_flops() const;
  double scratchpad_byte_pj() const;

  const Machine machine_;
  const Technology technology_;
  const DramEnergy dram_;
  ByPart area_;
  double sram_mm2_ = 0;
  Picojoules picojoules_{};
};

/// Of one run of a program.
struct ProgramEnergy {
  std::vector<ByPart> instructions;  ///< dynamic, per dispatched instruction
  ByPart dynamic, constant;          ///< sums; the total is both
  Activity activity;                 ///< of all instructions
};
ProgramEnergy program_energy(const EnergyModel& model, const Machine& machine, const isa::Sequence& sequence, const Timing& timing);

/// Watts over time, in `steps` equal slices of the run: each instruction's energy is spread from its start to its retirement.
std::vector<double> power_track(const ProgramEnergy& energy, const Machine& machine, const Timing& timing, size_t steps);

}  // namespace systole
