#include "sim/energy/energy.h"

#include <algorithm>
#include <cmath>

namespace systole {

namespace {
constexpr double kPico = 1e-12;
constexpr double kLaneRegisterBits = 512;       // 16 registers of 32 bits
constexpr double kClockedBitsPerSlot = 128;     // three operands and a result
constexpr double kControlBits = 20000;          // queues, descriptors, sequencer
constexpr double kDispatchBits = 1024;          // clocked per instruction word
constexpr double kDmaPipelineStages = 8;
constexpr double kTableBytes = 2048;            // function tables behind one port: 704 segments, 6 KiB of ROM in a third of an SRAM's area
constexpr double kInstructionBufferBytes = 16384;

double whole(int64_t v) { return static_cast<double>(v); }
}  // namespace

const char* to_string(Part part) {
  constexpr const char* kNames[kParts] = {"array", "accumulators", "scratchpad", "vector", "dma", "control", "clock", "leakage", "interface", "cores", "rest", "dram"};
  return kNames[static_cast<int>(part)];
}

ByPart& ByPart::operator+=(const ByPart& o) {
  for (size_t i = 0; i < kParts; ++i) value[i] += o.value[i];
  return *this;
}
ByPart ByPart::scaled(double factor) const {
  ByPart r = *this;
  for (double& v : r.value) v *= factor;
  return r;
}
double ByPart::core() const {
  double sum = 0;
  for (size_t i = 0; i < static_cast<size_t>(Part::kInterface); ++i) sum += value[i];
  return sum;
}
double ByPart::chip() const { return core() + (*this)[Part::kInterface] + (*this)[Part::kCores] + (*this)[Part::kRest]; }
double ByPart::total() const { return chip() + (*this)[Part::kDram]; }

EnergyModel::EnergyModel(const Machine& machine)
    : machine_(machine), technology_(machine.power.node_nm, static_cast<double>(machine.power.supply_mv) * 1e-3, machine.power.low_leakage != 0), dram_(dram_energy(machine.dram.kind)) {
  measure_area();
  measure_operations();
}

double EnergyModel::flip_flops() const {
  const Machine& m = machine_;
  return whole(m.macs_per_cycle()) * (whole(m.power.register_bits_per_mac) + 16) + whole(m.vx.lanes) * kLaneRegisterBits + whole(m.dma.bytes_per_cycle) * 8 * kDmaPipelineStages * 2 + kControlBits;
}

void EnergyModel::measure_area() {
  const Machine& m = machine_;
  const Technology& t = technology_;
  const auto logic = [&](Circuit op, double n) { return t.logic_mm2(op, n); };
  const bool wide = m.power.mac_bits == 16;
  const double cells = whole(m.macs_per_cycle()), float_cells = whole(m.mx.rows * m.mx.columns * m.mx.float_units);
  area_[Part::kArray] = logic(wide ? Circuit::kMultiplyInt16 : Circuit::kMultiplyInt8, cells) + logic(wide ? Circuit::kAddInt32 : Circuit::kAddInt16, cells) +
                        logic(Circuit::kFlipFlop, cells * (whole(m.power.register_bits_per_mac) + 16)) + logic(Circuit::kMultiplyBF16, float_cells) + logic(Circuit::kAddF32, float_cells);
  area_[Part::kAccumulators] = 2 * t.sram_mm2(whole(m.memory.accumulator_bytes));  // one port more than single-port cells have
  area_[Part::kScratchpad] = t.sram_mm2(whole(m.memory.scratchpad_bytes));
  const double tables = t.sram_mm2(whole(m.vx.table_ports) * kTableBytes);
  area_[Part::kVector] = logic(Circuit::kMultiplyF32, whole(m.vx.lanes)) + logic(Circuit::kAddF32, whole(m.vx.lanes)) + logic(Circuit::kFlipFlop, whole(m.vx.lanes) * kLaneRegisterBits) + tables;
  const double buffers = t.sram_mm2(2 * whole(m.dma.buffer_bytes));
  area_[Part::kDma] = logic(Circuit::kFlipFlop, whole(m.dma.bytes_per_cycle) * 8 * kDmaPipelineStages * 2) + buffers;
  const double fetch = t.sram_mm2(kInstructionBufferBytes);
  area_[Part::kControl] = 2 * logic(Circuit::kFlipFlop, kControlBits) + fetch;
  area_[Part::kCores] = logic(Circuit::kCoreCycle, whole(m.power.control_cores));
  sram_mm2_ = area_[Part::kAccumulators] + area_[Part::kScratchpad] + tables + buffers + fetch;
}

/// A word of A comes from macros of 8 bytes width side by side, over half the scratchpad's edge.
double EnergyModel::scratchpad_byte_pj() const {
  const double word = std::max(8.0, whole(machine_.mx.a_word_bytes()));
  const double macro = std::max(512.0, whole(std::min(machine_.power.bank_bytes, machine_.memory.scratchpad_bytes)) * 8 / word);
  return technology_.sram_pj(macro, 1) + 8 * technology_.pj(Circuit::kWireBitMm) * std::sqrt(area_[Part::kScratchpad]) / 2;
}

void EnergyModel::measure_operations() {
  const Technology& t = technology_;
  const bool wide = machine_.power.mac_bits == 16;
  Picojoules& p = picojoules_;
  p.flip_flop = machine_.power.clock_gating ? t.pj(Circuit::kFlipFlop) : 0;  // ungated clocks are a constant power
  const double activity = t.operand_activity();
  p.integer_mac = activity * (wide ? t.pj(Circuit::kMultiplyInt16) + t.pj(Circuit::kAddInt32) : t.pj(Circuit::kMultiplyInt8) + t.pj(Circuit::kAddInt16));
  p.bf16_mac = activity * (t.pj(Circuit::kMultiplyBF16) + t.pj(Circuit::kAddF32));
  p.accumulator_word = t.sram_pj(std::max(512.0, whole(machine_.memory.accumulator_bytes / machine_.mx.columns)), 4) + t.pj(Circuit::kAddInt32) / 2;
  p.scratchpad_byte = scratchpad_byte_pj();
  p.add = t.pj(Circuit::kAddF32), p.multiply = t.pj(Circuit::kMultiplyF32), p.compare = t.pj(Circuit::kAddInt32), p.lookup = t.sram_pj(kTableBytes, 8);
  p.dma_bit = kDmaPipelineStages * p.flip_flop + t.pj(Circuit::kWireBitMm) * std::sqrt(area_.core()) / 2;
  p.instruction_word = t.sram_pj(kInstructionBufferBytes, isa::kWordBytes) + kDispatchBits * p.flip_flop;
}

ByPart EnergyModel::joules(const Activity& a) const {
  const Picojoules& p = picojoules_;
  ByPart e;
  e[Part::kArray] = a.integer_macs * p.integer_mac + a.bf16_macs * p.bf16_mac + a.cell_cycles * whole(machine_.power.register_bits_per_mac) * p.flip_flop;
  e[Part::kAccumulators] = a.accumulator_words * p.accumulator_word;
  e[Part::kScratchpad] = (a.array_bytes + a.stream_bytes) * p.scratchpad_byte;
  e[Part::kVector] = a.vector_adds * p.add + a.vector_multiplies * p.multiply + a.vector_compares * p.compare + a.vector_lookups * p.lookup + a.lane_slots * kClockedBitsPerSlot * p.flip_flop;
  e[Part::kDma] = a.dma_bytes * 8 * p.dma_bit;
  e[Part::kControl] = a.instruction_words * p.instruction_word;
  e[Part::kInterface] = a.dram_bytes * 8 * dram_.interface_pj_bit;
  e[Part::kDram] = a.dram_bytes * 8 * dram_.device_pj_bit + a.dram_row_misses * dram_.activate_nj * 1e3;
  return e.scaled(kPico);
}

ByPart EnergyModel::idle_watts() const {
  ByPart w;
  const double parts = area_.core() + area_[Part::kCores];
  w[Part::kLeakage] = technology_.leakage_w(std::max(parts, whole(machine_.power.die_mm2)) - sram_mm2_, sram_mm2_);
  w[Part::kDram] = dram_.standby_mw_gbs * 1e-3 * whole(machine_.dram.bytes_per_cycle) * whole(machine_.clock_hz) * 1e-9;
  return w;
}

ByPart EnergyModel::static_watts() const {
  const double hz = whole(machine_.clock_hz);
  ByPart w = idle_watts();
  w[Part::kClock] = (machine_.power.clock_gating ? technology_.clock_root() : 1) * flip_flops() * technology_.pj(Circuit::kFlipFlop) * kPico * hz;
  w[Part::kCores] = whole(machine_.power.control_cores) * technology_.pj(Circuit::kCoreCycle) * kPico * hz;
  w[Part::kRest] = whole(machine_.power.rest_mw) * 1e-3;
  return w;
}

ProgramEnergy program_energy(const EnergyModel& model, const Machine& machine, const isa::Sequence& sequence, const Timing& timing) {
  ProgramEnergy p;
  p.instructions.reserve(sequence.ops.size());
  for (size_t i = 0; i < sequence.ops.size(); ++i) {
    const Activity a = activity_of(machine, sequence, timing, i);
    p.activity += a;
    p.instructions.push_back(model.joules(a));
    p.dynamic += p.instructions.back();
  }
  p.constant = model.static_watts().scaled(whole(timing.cycles) / whole(machine.clock_hz));
  return p;
}

std::vector<double> power_track(const ProgramEnergy& energy, const Machine& machine, const Timing& timing, size_t steps) {
  std::vector<double> watts(steps, 0);
  if (timing.cycles == 0 || steps == 0) return {};
  const double slice = whole(timing.cycles) / static_cast<double>(steps), seconds = slice / whole(machine.clock_hz);
  for (size_t i = 0; i < energy.instructions.size(); ++i) {
    const Event& e = timing.events[i];
    const double joules = energy.instructions[i].total(), from = whole(e.start), to = std::max(from + 1, whole(e.retire));
    const size_t first = std::min(steps - 1, static_cast<size_t>(from / slice)), last = std::min(steps - 1, static_cast<size_t>(to / slice));
    for (size_t k = first; k <= last; ++k) {
      const double lo = static_cast<double>(k) * slice, hi = k == steps - 1 ? to : lo + slice;
      watts[k] += joules * std::max(0.0, std::min(to, hi) - std::max(from, lo)) / (to - from) / seconds;
    }
  }
  const double constant = energy.constant.total() / (whole(timing.cycles) / whole(machine.clock_hz));
  for (double& w : watts) w += constant;
  return watts;
}

}  // namespace systole
