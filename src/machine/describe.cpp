#include "machine/describe.h"

#include <fmt/format.h>

#include "machine/cost.h"

namespace systole {

std::string describe(const Machine& m) {
  const double hz = static_cast<double>(m.clock_hz), tops = 2 * m.peak_int8_macs_per_second() * 1e-12;
  const double float_tflops = tops * static_cast<double>(m.mx.float_units) / static_cast<double>(m.mx.depth), bandwidth = static_cast<double>(m.dram.bytes_per_cycle) * hz;
  std::string t = fmt::format("{}: {}\n", m.name, m.description);
  t += fmt::format("  array         {} x {} x {} (rows x columns x depth) = {} MAC/cycle int8 at {:.2f} GHz\n", m.mx.rows, m.mx.columns, m.mx.depth, m.macs_per_cycle(), hz * 1e-9);
  t += fmt::format("  peak          {:.3f} TOPS int8, {:.3f} TFLOP/s bf16, {:.3f} TFLOP/s fp32 (six bf16 passes)\n", tops, float_tflops, float_tflops / 6);
  t += fmt::format("  vector        {} lanes: {:.3f} Gop/s fp32, {} function look-ups a cycle\n", m.vx.lanes, static_cast<double>(m.vx.lanes) * hz * 1e-9, m.vx.table_ports);
  t += fmt::format("  scratchpad    {} KiB in {} lock groups of {} KiB\n", m.memory.scratchpad_bytes / 1024, m.memory.groups, m.group_bytes() / 1024);
  t += fmt::format("  accumulators  {} KiB: two halves of {} elements\n", m.memory.accumulator_bytes / 1024, m.accumulator_elements());
  t += fmt::format("  {:<13} {} B/cycle = {:.2f} GB/s, {} banks, rows of {} B, {} MiB addressed\n", m.dram.kind, m.dram.bytes_per_cycle, bandwidth * 1e-9, m.dram.banks, m.dram.row_bytes, m.dram.capacity_bytes >> 20);
  t += fmt::format("  balance       {:.0f} int8 MAC per DRAM byte: layers below it are memory-bound\n", m.peak_int8_macs_per_second() / bandwidth);
  t += fmt::format("  control       {} entries per queue, window {}, fetch {} B/cycle\n", m.control.fifo_depth, m.control.window, m.control.fetch_bytes_per_cycle);
  t += fmt::format("  technology    {} nm{}, operating points:", m.power.node_nm, m.power.low_leakage ? ", low leakage" : "");
  for (const OperatingPoint& p : m.power.points) t += fmt::format(" {} ({} at {:.0f} MHz)", p.name, p.supply_mv ? fmt::format("{:.2f} V", static_cast<double>(p.supply_mv) * 1e-3) : "nominal supply", static_cast<double>(p.clock_hz) * 1e-6);
  t += "\n";
  t += "  memory map    (scratchpad, lock group: bytes)\n";
  for (int64_t g = 0; g < m.memory.groups; ++g) t += fmt::format("    {:>2}: 0x{:06x} to 0x{:06x}\n", g, g * m.group_bytes(), (g + 1) * m.group_bytes() - 1);
  return t;
}

}  // namespace systole
