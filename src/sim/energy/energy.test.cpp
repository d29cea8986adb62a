// The algebra of energy: scaling laws, sums, boundaries.
#include "sim/energy/energy.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace systole {
namespace {

Activity one_of_each() {
  Activity a;
  a.integer_macs = a.bf16_macs = a.cell_cycles = a.array_bytes = a.accumulator_words = a.vector_adds = a.vector_multiplies = a.vector_compares = a.vector_lookups = a.lane_slots = a.stream_bytes = a.dma_bytes =
      a.dram_bytes = a.dram_row_misses = a.instruction_words = 1000;
  return a;
}

TEST(Energy, HalfTheSquareOfTheSupplyIsHalfTheDynamicEnergy) {
  Machine m = load_machine("edge");
  for (int64_t node : technology_nodes()) {
    m.power.node_nm = node, m.power.supply_mv = 0;
    const double nominal = EnergyModel(m).technology().supply_v();
    m.power.supply_mv = static_cast<int64_t>(nominal * 1000 / 2);
    Machine full = m;
    full.power.supply_mv = 2 * m.power.supply_mv;
    Activity a = one_of_each();
    a.dram_bytes = a.dram_row_misses = 0;  // external memory has its own supply
    EXPECT_NEAR(EnergyModel(m).joules(a).total() / EnergyModel(full).joules(a).total(), 0.25, 1e-12) << node;
    EXPECT_LT(EnergyModel(m).idle_watts()[Part::kLeakage], EnergyModel(full).idle_watts()[Part::kLeakage] / 2) << node;
  }
}

TEST(Energy, NoActivityIsLeakageAlone) {
  for (const std::string& name : preset_names()) {
    const EnergyModel model(load_machine(name));
    EXPECT_EQ(model.joules({}).total(), 0);
    EXPECT_GT(model.idle_watts()[Part::kLeakage], 0);
    EXPECT_EQ(model.idle_watts().core(), model.idle_watts()[Part::kLeakage]);
  }
}

TEST(Energy, NewerNodesTakeLessOfEverything) {
  Machine m = load_machine("edge");
  double before = 1e9, area = 1e9;
  for (int64_t node : technology_nodes()) {
    m.power.node_nm = node;
    const EnergyModel model(m);
    Activity a = one_of_each();
    a.dram_bytes = a.dram_row_misses = 0;
    EXPECT_LT(model.joules(a).total(), before) << node;
    EXPECT_LT(model.area_mm2().total(), area) << node;
    before = model.joules(a).total(), area = model.area_mm2().total();
  }
}

TEST(Energy, EachActionIsChargedOnce) {
  const EnergyModel model(load_machine("edge"));
  const double all = model.joules(one_of_each()).total();
  double sum = 0;
  for (auto member : {&Activity::integer_macs, &Activity::bf16_macs, &Activity::cell_cycles, &Activity::array_bytes, &Activity::accumulator_words, &Activity::vector_adds, &Activity::vector_multiplies,
                      &Activity::vector_compares, &Activity::vector_lookups, &Activity::lane_slots, &Activity::stream_bytes, &Activity::dma_bytes, &Activity::dram_bytes, &Activity::dram_row_misses,
                      &Activity::instruction_words}) {
    Activity a;
    a.*member = 1000;
    EXPECT_GT(model.joules(a).total(), 0);
    sum += model.joules(a).total();
  }
  EXPECT_NEAR(sum / all, 1, 1e-12);
}

TEST(Energy, PublishedFiguresComeBack) {
  Machine m = load_machine("edge");
  m.power.node_nm = 45;
  EXPECT_DOUBLE_EQ(EnergyModel(m).technology().pj(Circuit::kMultiplyInt8), 0.2);
  m.power.node_nm = 7;
  EXPECT_NEAR(EnergyModel(m).technology().pj(Circuit::kMultiplyF32), 1.31, 1e-9);
}

TEST(Energy, UnknownTechnologyIsAnError) {
  Machine m = load_machine("edge");
  m.power.node_nm = 12;
  EXPECT_THROW(EnergyModel{m}, Failure);
  m = load_machine("edge");
  m.power.supply_mv = 100;
  EXPECT_THROW(EnergyModel{m}, Failure);
  m = load_machine("edge");
  m.dram.kind = "core rope";
  EXPECT_THROW(EnergyModel{m}, Failure);
  EXPECT_THROW(at_operating_point(m, "warp"), Failure);
}

TEST(Energy, OperatingPointsKeepTheBandwidthOfExternalMemory) {
  const Machine m = load_machine("edge"), low = at_operating_point(m, "low");
  EXPECT_LT(low.clock_hz, m.clock_hz);
  const auto bandwidth = [](const Machine& x) { return static_cast<double>(x.dram.bytes_per_cycle) * static_cast<double>(x.clock_hz); };
  EXPECT_NEAR(bandwidth(low) / bandwidth(m), 1, 0.02);
  EXPECT_EQ(low.hash, m.hash);
}

}  // namespace
}  // namespace systole
