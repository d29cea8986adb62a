#include "schedule/tile_contract.h"

#include <algorithm>

namespace systole {
namespace {

std::vector<int64_t> halvings(int64_t n) {
  std::vector<int64_t> v;
  for (int64_t x = n; x >= 1; x = (x + 1) / 2) {
    v.push_back(x);
    if (x == 1) break;
  }
  return v;
}

/// Output channels per weight tile: all, halves of it in whole array columns, then fractions of the array.
std::vector<int64_t> weight_columns(const Machine& m, const ContractShape& s) {
  const int64_t c = m.mx.columns;
  std::vector<int64_t> v;
  for (int64_t x = ceil_div(s.columns, c); x >= 1; x = ceil_div(x, 2)) {
    v.push_back(std::min(s.columns, x * c));
    if (x == 1) break;
  }
  for (int64_t x = c / 2; x >= 1; x /= 2) {
    if (x < s.columns) v.push_back(x);
  }
  return v;
}

struct Totals {
  int64_t mx = 0, vx = 0, dma_bytes = 0, blocks = 0;
  int64_t weight_loads = 0, a_loads = 0;      ///< tiles
  int64_t weight_bytes = 0, a_bytes = 0;      ///< of one tile
};

Totals totals_of(const Machine& m, const ContractShape& s, const ContractTile& t) {
  const Contract& c = *s.contract;
  Totals sum;
  const int64_t row_tiles = ceil_div(s.out_h, t.rows), col_tiles = ceil_div(s.out_w, t.cols), weight_tiles = ceil_div(s.columns, t.weight_columns);
  const int64_t blocks_per_tile = ceil_div(t.rows, t.block_rows) * ceil_div(t.cols, t.block_cols) * ceil_div(t.weight_columns, t.block_columns);
  sum.blocks = s.images * s.groups * row_tiles * col_tiles * weight_tiles * blocks_per_tile;
  const int64_t rows = std::min(t.block_rows, s.out_h), cols = std::min(t.block_cols, s.out_w), n = std::min(t.block_columns, s.columns);
  const int64_t parts = parts_of(s, t);
  const int64_t per_part = c.depthwise ? depthwise_cycles(m, {rows, cols, n, c.kernel_h, c.kernel_w, c.stride_h, c.stride_w, c.format})
                                       : matrix_cycles(m, {rows * cols, n, t.by_taps ? 1 : c.dilation_w == 1 ? c.kernel_h : s.taps(), c.dilation_w == 1 && !t.by_taps ? c.kernel_w * t.depth : t.depth, c.format,
                                                           c.stride_w * s.in_c * s.a_bytes});
  sum.mx = sum.blocks * parts * per_part;
  sum.vx = sum.blocks * vector_cycles(m, {rows * cols * ceil_div(n, m.vx.lanes), s.drain_slots, 0, 0});
  const int64_t weight_bytes = t.weight_columns * (s.weight_column_bytes ? s.weight_column_bytes : s.k() * operand_bytes(c.format));
  const int64_t pixel_tiles = s.images * row_tiles * col_tiles;
  const int64_t a_channels = c.depthwise ? ceil_div(t.weight_columns, s.multiplier) : s.k_channels;
  const int64_t dense_tile = s.a_resident ? 0 : input_tile_bytes(s, std::min(t.rows, s.out_h), std::min(t.cols, s.out_w), a_channels, t.by_taps) * (t.by_taps ? s.taps() : 1);
  const int64_t run = std::min(t.cols, s.out_w) * s.a_bytes, burst = m.dram.burst_bytes;
  const int64_t a_tile = s.a_turned ? dense_tile / run * ceil_div(run, burst) * burst : dense_tile;
  const int64_t weight_parts = t.weights_in_parts ? parts : 1;
  const int64_t weight_loads = s.groups * weight_tiles * weight_parts * (!t.weights_in_parts && (t.weights_outer || weight_tiles == 1) ? 1 : pixel_tiles);
  const bool again = c.depthwise || (t.weights_outer && (pixel_tiles > 1 || parts > 1));  // for each tile of weights
  const int64_t a_loads = s.groups * pixel_tiles * (again ? weight_tiles : 1);
  sum.weight_loads = weight_loads, sum.a_loads = a_loads * parts, sum.weight_bytes = s.weights_dynamic_resident ? 0 : weight_bytes / weight_parts, sum.a_bytes = a_tile / parts;
  sum.dma_bytes = weight_loads * sum.weight_bytes + a_loads * a_tile;
  const int64_t outputs = s.images * s.out_h * s.out_w * s.columns * s.groups;
  sum.dma_bytes += outputs * (s.extra_bytes + (s.out_resident ? 0 : s.out_bytes));
  return sum;
}

/// Cycles in which MX waits because the next tile has no room, in lock groups of its own or not, beside the one in use: of all tiles, of the
/// outer loop's alone where that is enough, or none. What is loaded once needs no second place.
int64_t waiting_cycles(const Machine& m, const ContractShape& s, const ContractTile& t, const Totals& x, int64_t weight_bytes, int64_t a_bytes, int64_t stage, int64_t ring_bytes) {
  const int64_t group = m.group_bytes(), weights = x.weight_loads > 1 ? 2 : 1, pixels = x.a_loads > 1 ? 2 : 1;
  const auto room = [&](int64_t bytes) { return s.tiles_in_groups ? ceil_div(bytes, group) * group : bytes; };
  const int64_t drained = stage > 0 && s.tiles_in_groups ? std::min<int64_t>(2, ring_bytes / group / 3) * group : 0;
  const auto fits = [&](int64_t w, int64_t p) { return w * room(weight_bytes) + p * room(a_bytes) + std::max(2 * stage, drained) <= ring_bytes; };
  if (fits(weights, pixels)) return 0;
  if (t.weights_in_parts) return dram_bound_cycles(m, x.dma_bytes);
  const int64_t outer = t.weights_outer ? (x.weight_loads - 1) * x.weight_bytes : (x.a_loads - 1) * x.a_bytes;
  if (fits(t.weights_outer ? 1 : weights, t.weights_outer ? pixels : 1)) return dram_bound_cycles(m, outer);
  return dram_bound_cycles(m, x.dma_bytes);
}

int64_t cost_of(const Machine& m, const ContractShape& s, const ContractTile& t, const Totals& x) {
  // Engines overlap; what cannot overlap is the first load and the last drain, and a few cycles of dispatch per block.
  const int64_t first = dram_bound_cycles(m, t.staged_bytes / 2) + x.vx / std::max<int64_t>(1, x.blocks);
  return std::max({x.mx, x.vx, dram_bound_cycles(m, x.dma_bytes)}) + first + s.block_overhead_cycles * x.blocks * parts_of(s, t) + (x.mx + x.vx) / 64 + dram_bound_cycles(m, x.dma_bytes) / 16;
}

/// Channels on chip at a time, of A or of streamed weights: all, or halves of them. Sums go on from what is in the accumulators where a format
/// passes over them once, in whole blocks of the definition.
std::vector<int64_t> depths(const ContractShape& s, bool by_taps) {
  constexpr int64_t kBlock = 32, kLeast = 256, kMostParts = 16;
  std::vector<int64_t> list = {s.k_channels};
  const Contract& c = *s.contract;
  if ((s.a_resident && !s.weights_streamed) || (s.taps() != 1 && !by_taps) || c.depthwise || passes_of(c.format) != 1) return list;
  for (int64_t parts = 2; parts <= kMostParts && s.k_channels / parts >= kLeast; parts *= 2) list.push_back(ceil_div(ceil_div(s.k_channels, parts), kBlock) * kBlock);
  return list;
}

/// Whether a kernel's taps may come one after the other: where the window of a row takes more than half of the ring. Sums go on as above; dot32 has whole
/// blocks in a tap's channels then.
bool taps_apart(const ContractShape& s, int64_t ring_bytes) {
  constexpr int64_t kBlock = 32;
  const Contract& c = *s.contract;
  if (s.a_resident || s.weights_streamed || s.weights_dynamic_resident || s.taps() == 1 || c.depthwise || c.group_rows || passes_of(c.format) != 1) return false;
  return (c.format == MacFormat::kInt8 || s.k_channels % kBlock == 0) && 2 * input_tile_bytes(s, 1, s.out_w, s.k_channels, false) > ring_bytes;
}

/// Whether parts of these columns of streamed weights may pass by what is resident: in whole rows, or runs that DRAM reads as fast.
bool parts_stream(const Machine& m, const ContractShape& s, int64_t columns) {
  constexpr int64_t kLeastBursts = 4;
  return s.weights_streamed && s.a_resident && (columns == s.columns || columns * operand_bytes(s.contract->format) >= kLeastBursts * m.dram.burst_bytes);
}

/// The accumulator blocks of a tile, and the order of tiles.
void add_tiles(const Machine& machine, const ContractShape& s, ContractTile t, int64_t weight_bytes, int64_t a, int64_t ring_bytes, std::vector<ContractTile>& found) {
  const int64_t c = machine.mx.columns, capacity = machine.accumulator_elements(), wc = t.weight_columns;
  for (int64_t bn = std::min(t.panel, wc); bn < 2 * wc; bn *= 2) {
    // A depthwise block with a multiplier starts at a whole input channel.
    if (s.multiplier > 1 && ((bn < wc && bn % s.multiplier) || (wc < s.columns && wc % s.multiplier))) continue;
    const int64_t columns = std::min(bn, wc), slots = ceil_div(columns, c) * c;
    if (slots > capacity) break;
    // Whole halves, or parts of them: short blocks overlap sooner, long ones cost less to start.
    for (int64_t pixels : {capacity / slots, capacity / slots / 2, capacity / slots / 4}) {
      if (pixels < 1) break;
      t.block_columns = columns;
      t.block_cols = std::min({t.cols, pixels, int64_t{16383}});
      // Even rows per block: no short last block.
      const int64_t most = std::clamp<int64_t>(pixels / t.block_cols, 1, t.rows);
      t.block_rows = ceil_div(t.rows, ceil_div(t.rows, most));
      t.block_cols = ceil_div(t.cols, ceil_div(t.cols, t.block_cols));
      const bool whole = t.block_rows == t.rows && t.block_cols == t.cols && columns == wc;
      if (parts_of(s, t) > 1 && !whole) continue;
      const int64_t block = t.block_rows * t.block_cols * columns;
      const int64_t stage = block * (s.extra_bytes + (s.out_resident ? 0 : s.out_bytes));
      t.staged_bytes = 2 * (weight_bytes + a + stage);
      if (weight_bytes + a + stage > ring_bytes) continue;
      for (bool outer : {true, false}) {
        if (!outer && parts_of(s, t) > 1 && wc < s.columns) continue;  // parts of A are gone before the next weights
        t.weights_outer = outer;
        const Totals totals = totals_of(machine, s, t);
        t.cost = cost_of(machine, s, t, totals) + waiting_cycles(machine, s, t, totals, weight_bytes, a, stage, ring_bytes);
        found.push_back(t);
      }
    }
  }
}

}  // namespace

int64_t input_tile_bytes(const ContractShape& s, int64_t rows, int64_t cols, int64_t channels, bool one_tap) {
  const Contract& c = *s.contract;
  const int64_t h = std::min(s.in_h, (rows - 1) * c.stride_h + (one_tap ? 0 : c.kernel_h - 1) * c.dilation_h + 1);
  const int64_t w = std::min(s.in_w, (cols - 1) * c.stride_w + (one_tap ? 0 : c.kernel_w - 1) * c.dilation_w + 1);
  return h * w * channels * s.a_bytes;
}

int64_t parts_of(const ContractShape& s, const ContractTile& t) { return ceil_div(s.k_channels, t.depth) * (t.by_taps ? s.taps() : 1); }

std::vector<ContractTile> search_tiles(const Machine& machine, const ContractShape& s, int64_t ring_bytes) {
  const int64_t c = machine.mx.columns;
  std::vector<ContractTile> found;
  const bool whole = s.a_resident && s.out_resident;
  const bool apart = taps_apart(s, ring_bytes);
  const auto rows_list = whole ? std::vector<int64_t>{s.out_h} : halvings(s.out_h);
  for (int64_t wc : weight_columns(machine, s)) {
    const int64_t panel = ceil_div(std::min(c, wc), s.panel_columns) * s.panel_columns;
    const int64_t weight_bytes = s.weights_dynamic_resident ? 0 : s.k() * ceil_div(wc, panel) * panel * operand_bytes(s.contract->format);
    if ((weight_bytes > ring_bytes && !s.weights_streamed) || (wc < s.columns && wc % s.panel_columns)) continue;
    for (int64_t rows : rows_list) {
      for (int64_t cols : rows > 1 || whole ? std::vector<int64_t>{s.out_w} : halvings(s.out_w)) {
        for (int64_t depth : depths(s, false)) {
          const int64_t channels = s.contract->depthwise ? ceil_div(wc, s.multiplier) : depth;
          const int64_t a = s.a_resident ? 0 : input_tile_bytes(s, rows, cols, channels, false);
          for (bool in_parts : {false, true}) {
            if (in_parts ? depth == s.k_channels || !parts_stream(machine, s, wc) : depth < s.k_channels && s.a_resident) continue;
            const int64_t weights = in_parts ? ceil_div(weight_bytes * depth, s.k_channels) : weight_bytes;
            if (weights + a > ring_bytes) continue;
            add_tiles(machine, s, {.rows = rows, .cols = cols, .depth = depth, .weights_in_parts = in_parts, .weight_columns = wc, .panel = panel}, weights, a, ring_bytes, found);
          }
        }
        for (int64_t depth : apart ? depths(s, true) : std::vector<int64_t>{}) {
          const int64_t a = input_tile_bytes(s, rows, cols, depth, true);
          if (weight_bytes + a > ring_bytes) continue;
          add_tiles(machine, s, {.rows = rows, .cols = cols, .depth = depth, .by_taps = true, .weight_columns = wc, .panel = panel}, weight_bytes, a, ring_bytes, found);
        }
      }
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const ContractTile& a, const ContractTile& b) { return a.cost < b.cost; });
  if (found.size() > 64) found.resize(64);
  return found;
}

const std::vector<ContractTile>& TileSearch::find(const ContractShape& shape, int64_t ring_bytes) {
  ContractShape key = shape;
  key.contract = nullptr;
  for (const Known& k : known_) {
    if (k.ring_bytes == ring_bytes && k.shape == key && k.contract == *shape.contract) return k.tiles;
  }
  known_.push_back({*shape.contract, key, ring_bytes, search_tiles(machine_, shape, ring_bytes)});
  return known_.back().tiles;
}

}  // namespace systole
