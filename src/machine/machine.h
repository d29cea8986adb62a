// What an NPU is made of, as one typed description, read from YAML. Everything that the compiler, the models and the
// reports know about a machine comes from here; src/machine/cost.h turns it into cycles.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace systole {

/// Matrix engine: an R x C x D array. D-deep dot products, C columns, R rows share one B tile.
struct MatrixEngine {
  int64_t rows = 0, columns = 0, depth = 0;
  int64_t float_units = 0;            ///< bf16 multiply-adds a cycle in each of the R x C cells
  int64_t a_element_bytes = 1;        ///< one read of A brings rows x depth elements of this many bytes
  int64_t b_port_bytes = 0;           ///< bytes of B loaded per cycle
  int64_t rows_per_fetch = 1;         ///< output rows served by one A read when they lie in the same window
  int64_t depthwise_pixels = 1;       ///< image pixels fetched per cycle in depthwise mode
  int64_t pipeline_cycles = 0;        ///< fill and drain of the array

  int64_t a_word_bytes() const { return rows * depth * a_element_bytes; }
};

/// Vector engine: L fp32 lanes running micro-programs over streams.
struct VectorEngine {
  int64_t lanes = 0;
  int64_t table_ports = 0;            ///< lanes served per cycle by the function tables
  int64_t start_cycles = 0, drain_cycles = 0;
};

/// Scratchpad of `groups` equal lock groups, and the accumulator memory of two halves.
struct OnChipMemory {
  int64_t scratchpad_bytes = 0, groups = 0, accumulator_bytes = 0;
};

/// Load and store engines.
struct DmaEngine {
  int64_t bytes_per_cycle = 0;        ///< on-chip side of a copy
  int64_t start_cycles = 0;           ///< from issue to the first address
  int64_t buffer_bytes = 0;           ///< credit for outstanding reads
};

/// External memory, in core cycles. One channel class for all kinds; flash has one bank and no refresh.
struct DramTiming {
  std::string kind;
  int64_t capacity_bytes = 0, burst_bytes = 0, bytes_per_cycle = 0, banks = 0, row_bytes = 0;
  int64_t cas_cycles = 0, activate_cycles = 0, precharge_cycles = 0;   ///< tCL, tRCD, tRP
  int64_t turnaround_cycles = 0;                                        ///< read <-> write
  int64_t refresh_interval_cycles = 0, refresh_cycles = 0;              ///< tREFI, tRFC; 0: no refresh
  int64_t port_cycles = 0;                                              ///< interconnect and controller, each way
};

/// Control: fetch and dispatch.
struct Control {
  int64_t fifo_depth = 0;             ///< entries per engine
  int64_t window = 0;                 ///< no dispatch while a FIFO head is this much older
  int64_t fetch_bytes_per_cycle = 0;
};

/// A voltage and frequency at which the machine may run.
struct OperatingPoint {
  std::string name;
  int64_t supply_mv = 0, clock_hz = 0;
};

/// What energy and area follow from, beside the rest of the description. No part of the machine's hash: programs and cycles
/// do not depend on it.
struct Power {
  int64_t node_nm = 16;               ///< technology node, technologies/cmos.yaml
  int64_t supply_mv = 0;              ///< 0: the node's nominal supply
  int64_t low_leakage = 0;            ///< 1: a low-power process
  int64_t register_bits_per_mac = 16; ///< flip-flops clocked with a multiplier: operand, its share of two levels of the adder tree
  int64_t mac_bits = 8;               ///< integer operands: 8 or 16
  int64_t control_cores = 0;          ///< scalar cores that run beside the engines
  int64_t bank_bytes = 16384;         ///< of the scratchpad: one word-wide bank is active in an access
  int64_t clock_gating = 1;           ///< 0: every flip-flop is clocked in every cycle
  int64_t die_mm2 = 0;                ///< what leaks; 0: the sum of the parts
  int64_t rest_mw = 0;                ///< parts of the chip that the description does not have (host links, clocks)
  std::vector<OperatingPoint> points; ///< the first is the machine as described
};

struct Machine {
  std::string name, description;
  int64_t clock_hz = 0, cores = 1;
  MatrixEngine mx;
  VectorEngine vx;
  OnChipMemory memory;
  DmaEngine dma;
  DramTiming dram;
  Control control;
  Power power;
  std::string text;   ///< the YAML it was read from
  uint64_t hash = 0;  ///< of the values, not of the spelling

  int64_t group_bytes() const { return memory.scratchpad_bytes / memory.groups; }
  /// Elements of fp32/int32 in one accumulator half.
  int64_t accumulator_elements() const { return memory.accumulator_bytes / 8; }
  int64_t macs_per_cycle() const { return mx.rows * mx.columns * mx.depth; }
  /// Peak multiply-adds per second for int8; bf16 runs at float_units / depth of it.
  double peak_int8_macs_per_second() const { return static_cast<double>(macs_per_cycle()) * static_cast<double>(clock_hz); }
};

/// A number with an optional unit suffix: Ki, Mi, Gi for bytes; k, M, G for rates.
std::optional<double> parse_quantity(const std::string& text);

/// Parses a description. `source` names it in errors ("edge.yaml:12: mx.rows: ...").
Machine parse_machine(std::string_view yaml, const std::string& source);

/// A preset name ("edge") or a path that ends in .yaml.
Machine load_machine(const std::string& name_or_path);

/// The machine at one of its operating points ("" is the first): other clock, and external memory that takes the same time in
/// seconds. Fails (kNotFound) with the list of points.
Machine at_operating_point(Machine machine, const std::string& point);

/// Names of the presets built into the library, in order.
std::vector<std::string> preset_names();

}  // namespace systole
