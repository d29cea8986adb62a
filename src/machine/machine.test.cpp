#include <gtest/gtest.h>

#include <random>
#include <regex>

#include "base/error.h"
#include "machine/cost.h"
#include "machine/describe.h"
#include "machine/machine.h"

namespace systole {
namespace {

std::string error_of(const std::string& yaml) {
  try {
    parse_machine(yaml, "m.yaml");
  } catch (const Failure& f) {
    return f.what();
  }
  return "";
}

TEST(Machine, PresetsLoadAndDescribe) {
  for (const auto& name : preset_names()) {
    const Machine m = load_machine(name);
    EXPECT_EQ(m.name, name);
    EXPECT_NE(describe(m).find("peak"), std::string::npos);
  }
  EXPECT_EQ(load_machine("edge").macs_per_cycle(), 1024);
}

TEST(Machine, ErrorsNameLineKeyAndRange) {
  const std::string edge = load_machine("edge").text;
  auto edit = [&](const std::string& from, const std::string& to) { return std::regex_replace(edge, std::regex(from), to); };
  const struct { std::string yaml, expected; } kCases[] = {
      {edit("rows: 4\n", "rows: 0\n"), "mx.rows: '0'"},
      {edit("rows: 4\n", "rows: many\n"), "mx.rows: 'many'"},
      {edit("rows: 4\n", "rwos: 4\n"), "mx.rwos: unknown key"},
      {edit("  rows: 4 *\n", ""), "mx.rows: missing key"},
      {edit("scratchpad_bytes: 2Mi", "scratchpad_bytes: 2000000"), "a multiple of 64 x lock_groups"},
      {edit("float_units: 4 ", "float_units: 17 "), "at most mx.depth"},
      {edit("clock_hz: 1G", "clock_hz: [1]"), "clock_hz: not a number"},
      {edit("kind: LPDDR5", "kin: LPDDR5"), "dram.kin: unknown key"},
      {"just text", "not a mapping"},
      {"a: [", "valid YAML"},
  };
  for (const auto& c : kCases) EXPECT_NE(error_of(c.yaml).find(c.expected), std::string::npos) << "expected " << c.expected << ", got: " << error_of(c.yaml);
  EXPECT_NE(error_of(edit("rows: 4\n", "rows: 0\n")).find("m.yaml:7"), std::string::npos) << error_of(edit("rows: 4\n", "rows: 0\n"));
}

TEST(Machine, HashFollowsValuesNotSpelling) {
  const Machine edge = load_machine("edge");
  EXPECT_EQ(parse_machine(std::regex_replace(edge.text, std::regex("2Mi"), "2097152"), "x").hash, edge.hash);
  EXPECT_NE(parse_machine(std::regex_replace(edge.text, std::regex("banks: 16"), "banks: 8"), "x").hash, edge.hash);
}

/// The loop nest of docs/microarchitecture.md, tile by tile; the closed form must equal it.
int64_t walk_matrix(const Machine& m, const MatrixBlock& b) {
  const int64_t bytes = operand_bytes(b.format), word = m.mx.rows * m.mx.depth * m.mx.a_element_bytes, window = word / bytes, rate = b.format == MacFormat::kInt8 ? m.mx.depth : m.mx.float_units;
  const int64_t row_groups = ceil_div(b.m, m.mx.rows);
  struct Tile { int64_t work, load, fetch; };
  std::vector<Tile> tiles;
  for (int64_t pass = 0; pass < passes_of(b.format); ++pass) {
    for (int64_t run = 0; run < b.runs; ++run) {
      for (int64_t k = 0; k < b.run_elements; k += window) {
        const int64_t l = std::min(window, b.run_elements - k), spare = word - l * bytes;
        const int64_t covered = b.row_step_bytes > 0 && spare > 0 ? spare / b.row_step_bytes + 1 : 1, fetch = ceil_div(m.mx.rows, std::min(m.mx.rows_per_fetch, covered));
        for (int64_t n = 0; n < b.n; n += m.mx.columns) {
          tiles.push_back({row_groups * std::max(ceil_div(l, rate), fetch), ceil_div(ceil_div(l, m.mx.depth) * m.mx.depth * m.mx.columns * bytes, m.mx.b_port_bytes), fetch});
        }
      }
    }
  }
  int64_t t = std::max(tiles[0].load, tiles[0].fetch) + m.mx.pipeline_cycles;
  for (size_t i = 0; i + 1 < tiles.size(); ++i) t += std::max(tiles[i].work, tiles[i + 1].load);
  return t + tiles.back().work;
}

TEST(Cost, MatrixFormulaEqualsTheLoopNest) {
  std::mt19937 rng(1);
  for (const auto& name : preset_names()) {
    const Machine m = load_machine(name);
    for (int i = 0; i < 1000; ++i) {
      MatrixBlock b{1 + static_cast<int64_t>(rng() % 300), 1 + static_cast<int64_t>(rng() % 100), 1 + static_cast<int64_t>(rng() % 5), 1 + static_cast<int64_t>(rng() % 700), static_cast<MacFormat>(rng() % 4),
                    static_cast<int64_t>(rng() % 100)};
      ASSERT_EQ(matrix_cycles(m, b), walk_matrix(m, b)) << name << " m " << b.m << " n " << b.n << " runs " << b.runs << " k " << b.run_elements << " f " << static_cast<int>(b.format);
    }
  }
}

TEST(Cost, MoreOfAnythingIsNeverSlower) {
  const Machine edge = load_machine("edge");
  Machine twice = edge;
  twice.mx.b_port_bytes *= 2;
  Machine columns = edge;
  columns.mx.columns *= 2;
  for (int64_t k : {27, 64, 576, 2048}) {
    const MatrixBlock b{256, 64, 1, k, MacFormat::kInt8, 64};
    EXPECT_LE(matrix_cycles(twice, b), matrix_cycles(edge, b));
    EXPECT_LE(matrix_cycles(columns, b), matrix_cycles(edge, b) + 64);
    EXPECT_GE(matrix_cycles(edge, b) * edge.macs_per_cycle(), 256 * 64 * k);
  }
}

}  // namespace
}  // namespace systole
