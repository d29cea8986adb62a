#include <algorithm>
#include <memory>

#include "base/error.h"
#include "codegen/layers.h"
#include "codegen/stage.h"

namespace systole {
namespace {

int64_t staged(const Emitter& e, const Node& node, const Map& m, const std::vector<int64_t>& extent) {
  const std::vector<int64_t> zero(extent.size(), 0);
  int64_t bytes = 0;
  for (size_t k = 0; k < node.inputs.size(); ++k) bytes += staged_bytes(e, node.inputs[k], input_box(m, k, e.graph.value(node.inputs[k]).shape, zero, extent));
  const Box out{std::vector<int64_t>(zero.begin(), zero.begin() + m.output_rank()), std::vector<int64_t>(extent.begin(), extent.begin() + m.output_rank())};
  return bytes + staged_bytes(e, node.outputs[0], out);
}

/// What moving a box of a tensor costs, in bytes: its own, and those that DRAM could have moved between its runs.
int64_t transfer(const Emitter& e, ValueId value, const Box& box) {
  constexpr int64_t kBetweenRuns = 512;
  if (e.resident(value)) return 0;
  const Shape& shape = e.graph.value(value).shape;
  const int64_t elements = element_count(box.extent);
  int64_t run = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    run *= box.extent[d];
    if (box.extent[d] != shape[d]) break;
  }
  return elements * bytes_of(e.graph.value(value).type) + (run ? elements / run : 0) * kBetweenRuns;
}

/// The same for all tiles of these extents.
double transfers(const Emitter& e, const Node& node, const Map& m, const std::vector<int64_t>& extent) {
  const size_t rank = static_cast<size_t>(m.output_rank());
  const std::vector<int64_t> zero(extent.size(), 0);
  int64_t bytes = transfer(e, node.outputs[0], {{zero.begin(), zero.begin() + static_cast<long>(rank)}, {extent.begin(), extent.begin() + static_cast<long>(rank)}});
  for (size_t k = 0; k < node.inputs.size(); ++k) bytes += transfer(e, node.inputs[k], input_box(m, k, e.graph.value(node.inputs[k]).shape, zero, extent));
  double tiles = 1;
  for (size_t d = 0; d < rank; ++d) tiles *= static_cast<double>(ceil_div(m.extents[d], extent[d]));
  return tiles * static_cast<double>(bytes);
}

/// Halves loops until the tile takes at most `budget` of the ring: the outermost, or another where that keeps the runs of what is
/// moved longer (an input that lies in another order).
std::vector<int64_t> tile_for(const Emitter& e, const Node& node, const Map& m, int64_t budget) {
  std::vector<int64_t> extent = m.extents;
  const size_t rank = static_cast<size_t>(m.output_rank());
  while (staged(e, node, m, extent) > budget) {
    size_t best = rank;
    double least = 0;
    for (size_t d = 0; d < rank; ++d) {
      if (extent[d] == 1) continue;
      std::vector<int64_t> halved = extent;
      halved[d] = (halved[d] + 1) / 2;
      const double cost = transfers(e, node, m, halved);
      if (best == rank || cost < 0.9 * least) best = d, least = cost;
    }
    if (best == rank) break;
    extent[best] = (extent[best] + 1) / 2;
  }
  return extent;
}

void emit_tiles(Emitter& e, const Node& node, const Map& m, const std::vector<int64_t>& tile) {
  const bool in_groups = e.preferences.tiles_in_groups && e.ring.bytes() >= 3 * e.machine.group_bytes() && staged(e, node, m, tile) <= e.machine.group_bytes();
  std::vector<std::unique_ptr<StagedInput>> inputs;
  for (ValueId v : node.inputs) inputs.push_back(std::make_unique<StagedInput>(e, v));
  StagedOutput output(e, node.outputs[0]);
  const size_t rank = static_cast<size_t>(m.output_rank());
  std::vector<int64_t> lo(tile.size(), 0);
  for (bool more = true; more;) {
    std::vector<int64_t> extent = tile;
    for (size_t d = 0; d < rank; ++d) extent[d] = std::min(tile[d], m.extents[d] - lo[d]);
    std::vector<Tile> tiles;
    if (in_groups) e.ring.begin_tile();
    for (size_t k = 0; k < inputs.size(); ++k) tiles.push_back(inputs[k]->get(input_box(m, k, e.graph.value(node.inputs[k]).shape, lo, extent)));
    const Box out{{lo.begin(), lo.begin() + static_cast<long>(rank)}, {extent.begin(), extent.begin() + static_cast<long>(rank)}};
    emit_vector(e, node, tiles, output.get(out), lo, extent, {});
    output.store(out);
    more = false;
    for (size_t d = rank; d-- > 0;) {
      lo[d] += tile[d];
      if (lo[d] < m.extents[d]) {
        more = true;
        break;
      }
      lo[d] = 0;
    }
  }
  e.ring.end_tiles();
}

}  // namespace

void emit_map(Emitter& e, const Node& node) {
  const Map& m = std::get<Map>(node.op);
  if (element_count(Shape(m.extents.begin(), m.extents.begin() + m.output_rank())) == 0) return;
  const auto mark = e.mark();
  // Tiles of a lock group or a sixth of the ring pipeline well; what does not fit is tried larger, down to one element in all of it.
  for (int64_t budget : {std::min(e.ring.bytes() / 6, e.machine.group_bytes()), e.ring.bytes() / 3, e.ring.bytes(), e.ring.bytes() / 12, e.ring.bytes() / 24}) {
    try {
      return emit_tiles(e, node, m, tile_for(e, node, m, budget));
    } catch (const RingFull&) {
      e.rewind(mark);
    }
  }
  fail(ErrorCode::kResource, "node '" + node.name + "'", "one row of this map needs " + std::to_string(staged(e, node, m, tile_for(e, node, m, 0))) + " bytes of scratchpad",
       "at most " + std::to_string(e.ring.bytes()), "use a machine with more scratchpad");
}

void emit_move(Emitter& e, const Node& node) {
  const Move& m = std::get<Move>(node.op);
  const Value& out = e.graph.value(node.outputs[0]);
  const Location to = e.location(node.outputs[0]);
  const int64_t element = bytes_of(out.type);
  for (const CopyRegion& r : m.regions) {
    if (e.schedule.in_place(node, r)) continue;
    Emitter::Copy c;
    c.element_bytes = element, c.extents = r.extents;
    c.dst = to.space, c.dst_address = to.address + static_cast<uint64_t>(r.dst_offset * element);
    for (int64_t s : r.dst_strides) c.dst_strides.push_back(s * element);
    if (r.input < 0) {
      c.src = isa::Space::kFill, c.fill_bits = m.fill_bits;
    } else {
      const ValueId v = node.inputs[static_cast<size_t>(r.input)];
      const Value& in = e.graph.value(v);
      const Location from = e.location(v);
      c.src = in.constant ? isa::Space::kDram : from.space;
      c.src_address = (in.constant ? kConstantBit + e.constant_offset(v, 0, stored_bytes(in)) : from.address) + static_cast<uint64_t>(r.src_offset * element);
      for (int64_t s : r.src_strides) c.src_strides.push_back(s * element);
    }
    // LD goes on with what comes next while ST waits for what is made.
    if (c.src == isa::Space::kScratchpad && c.dst == isa::Space::kDram) c.engine = isa::Engine::kStore;
    e.copy(c);
  }
}

}  // namespace systole
