// Where tensors lie over an order of work.
#include <gtest/gtest.h>

#include <set>

#include "schedule/place.h"
#include "schedule/test_graphs.h"
#include "schedule/tile_contract.h"

namespace systole {
namespace {

TEST(Place, WhatWaitsTakesTheRoomThatIsLeft) {
  const Machine machine = load_machine("server");
  const int64_t half = (machine.memory.scratchpad_bytes - 4 * machine.group_bytes()) / 2 / 2;  // elements: two of them fill the scratchpad beside the ring
  Made m;
  const ValueId kept = m.map({m.input({half})});
  ValueId v = kept;
  for (int i = 0; i < 40; ++i) v = m.map({v});
  m.g.outputs = {m.map({v, kept})};
  const Schedule schedule(m.g);
  const Placement p = place(m.g, schedule, machine, {.ring_groups = 4, .waiting_last = true});
  EXPECT_EQ(p.of[static_cast<size_t>(kept)].space, isa::Space::kDram);
  for (size_t n = 1; n + 1 < m.g.nodes.size(); ++n) EXPECT_EQ(p.of[static_cast<size_t>(m.g.nodes[n].outputs[0])].space, isa::Space::kScratchpad) << n;
}

TEST(Place, TensorsOfStepsWithASmallRingLieBesideItAlone) {
  const Machine machine = load_machine("server");
  const int64_t most = machine.memory.scratchpad_bytes, group = machine.group_bytes();
  const Preferences large{.ring_groups = 12}, small{.ring_groups = 12, .small_ring_groups = 4};
  Made m;
  // Operands too large for what a ring of 12 groups leaves, not for what one of 4 leaves; before and after them a map that streams.
  const ValueId a = m.map({m.copy(m.input({1, 1, 512, 1024}))}), b = m.map({m.copy(m.input({1, 1, 1, 1, 1024, 128}))});
  const ValueId product = m.map({m.product(a, b)});
  const ValueId streamed = m.map({m.input({most})});
  m.g.outputs = {m.map({product}), m.map({streamed})};
  const Schedule schedule(m.g);
  const Placement without = place(m.g, schedule, machine, large), with = place(m.g, schedule, machine, small);
  const auto resident = [](const Placement& p, ValueId v) { return p.of[static_cast<size_t>(v)].space == isa::Space::kScratchpad; };
  EXPECT_FALSE(resident(without, a));
  EXPECT_TRUE(resident(with, a));
  int above = 0;
  for (size_t v = 0; v < m.g.values.size(); ++v) {
    if (schedule.first[v] < 0 || !resident(with, static_cast<ValueId>(v))) continue;
    const int64_t end = static_cast<int64_t>(with.of[v].address) + stored_bytes(m.g.values[v]);
    above += end > most - 12 * group;
    EXPECT_LE(end, most - 4 * group);
    for (int s = schedule.first[v]; s <= schedule.last[v]; ++s) EXPECT_LE(end, with.ring_base[static_cast<size_t>(s)]) << m.g.values[v].name;
  }
  EXPECT_GT(above, 0);
}

/// Products of images by images read parts of tensors that the scratchpad does not hold, image by image: that needs no large ring.
TEST(Place, PartsOfLargeTensorsPassProductsOfImages) {
  const Machine machine = load_machine("server");
  for (const int64_t images : {4, 1}) {  // of the second operand
    Made m;
    const ValueId a = m.map({m.input({64, 1, 256, 256})}), b = m.map({m.input({64, 1, 1, 1, 256, 256})});
    const ValueId part_a = m.node(View{}, {a}, m.value({4, 1, 256, 256})), part_b = m.node(View{}, {b}, m.value({images, 1, 1, 1, 256, 256}));
    Contract c;
    c.format = MacFormat::kBF16;
    const ValueId scores = m.map({m.node(c, {part_a, part_b}, m.g.add_value("sums", DType::kF32, {4, 1, 256, 256}))});
    const ValueId kept = m.map({m.map({scores})});
    m.g.outputs = {m.copy(m.map({kept})), m.map({a}), m.map({b})};
    const Schedule schedule(m.g);
    const Placement p = place(m.g, schedule, machine, {.ring_groups = 15, .small_ring_groups = 2});
    EXPECT_EQ(p.of[static_cast<size_t>(scores)].space == isa::Space::kScratchpad, images > 1);
  }
}

TEST(Place, WhatRunsBesideAContractionHasItsRing) {
  const Machine machine = load_machine("server");
  Made m;
  const ValueId a = m.map({m.input({1, 1, 4096, 2048})}), b = m.map({m.input({1, 1, 1, 1, 2048, 512})});  // more than a scratchpad
  const ValueId kept = m.map({m.input({512, 1024})});
  const ValueId product = m.product(a, b), copied = m.copy(kept);
  m.g.outputs = {product, copied, m.map({kept})};
  const Schedule schedule(m.g, Schedule::Order::kCopiesBeside, &machine);
  const Placement p = place(m.g, schedule, machine, {.ring_groups = 12, .small_ring_groups = 4});
  int beside = 0;
  for (size_t s = 0; s < schedule.steps.size(); ++s) {
    if (schedule.steps[s].with < 0) continue;
    ++beside;
    EXPECT_EQ(p.ring_base[s], p.ring_base[static_cast<size_t>(schedule.steps[s].with)]);
    EXPECT_LE(p.ring_base[s], machine.memory.scratchpad_bytes - 12 * machine.group_bytes());
  }
  EXPECT_EQ(beside, 1);
}

TEST(Schedule, PartsOfAMoveAreMadeInTheirPlace) {
  Made m;
  const ValueId x = m.input({4, 3, 32}), y = m.input({4, 3, 64});
  const ValueId left = m.map({x}), right = m.map({y}), read_twice = m.map({x}), narrow = m.map({m.input({4, 3, 8})});
  const auto beside = [&](std::vector<ValueId> parts) {  // along the last dimension
    Move move;
    int64_t width = 0, at = 0;
    for (ValueId v : parts) width += m.g.value(v).shape[2];
    for (size_t k = 0; k < parts.size(); ++k) {
      const Shape s = m.g.value(parts[k]).shape;
      move.regions.push_back({static_cast<int>(k), s, 0, at, row_major_strides(s), {3 * width, width, 1}});
      at += s[2];
    }
    return m.node(move, std::move(parts), m.value({4, 3, width}));
  };
  const ValueId both = beside({left, right}), other = beside({read_twice, x}), short_runs = beside({narrow, x});
  m.g.outputs = {m.map({both}), other, m.map({read_twice}), m.map({short_runs})};
  const Schedule schedule(m.g);
  EXPECT_EQ(schedule.root[static_cast<size_t>(left)], both);
  EXPECT_EQ(schedule.root[static_cast<size_t>(right)], both);
  EXPECT_EQ(schedule.offset[static_cast<size_t>(right)], 32 * 2);
  EXPECT_EQ(schedule.strides[static_cast<size_t>(right)].of, (std::vector<int64_t>{3 * 96, 96, 1}));
  EXPECT_EQ(schedule.root[static_cast<size_t>(read_twice)], read_twice);
  EXPECT_EQ(schedule.root[static_cast<size_t>(narrow)], narrow);
  EXPECT_EQ(steps_of(m, schedule, both), 0);
  EXPECT_EQ(steps_of(m, schedule, other), 1);
  EXPECT_EQ(steps_of(m, schedule, short_runs), 1);
}

TEST(Schedule, ProductsReadOperandsWhereAMoveFoundThem) {
  Made m;
  const ValueId x = m.map({m.input({1, 1, 64, 128})}), b = m.map({m.input({1, 1, 1, 1, 64, 32})});
  const ValueId operand = m.turned(x), read_by_a_map = m.turned(x), twice = m.turned(x), given_out = m.turned(x);
  m.g.outputs = {m.product(operand, b), m.product(read_by_a_map, b), m.map({read_by_a_map}), m.product(twice, b), m.product(twice, b), m.product(given_out, b), given_out};
  const Schedule schedule(m.g);
  EXPECT_EQ(schedule.root[static_cast<size_t>(operand)], x);
  EXPECT_EQ(schedule.strides[static_cast<size_t>(operand)].of, (std::vector<int64_t>{0, 0, 1, 128}));
  EXPECT_EQ(steps_of(m, schedule, operand), 0);
  EXPECT_GE(schedule.last[static_cast<size_t>(x)], 0);
  for (ValueId v : {read_by_a_map, twice, given_out}) {
    EXPECT_EQ(schedule.root[static_cast<size_t>(v)], v);
    EXPECT_EQ(steps_of(m, schedule, v), 1);
  }
  // What several products read is turned once where it fits the scratchpad.
  const Machine machine = load_machine("server");
  Made large;
  const ValueId y = large.map({large.input({1, 1, 1024, 4096})}), c = large.map({large.input({1, 1, 1, 1, 1024, 32})}), shared = large.turned(y);  // 8 MiB
  large.g.outputs = {large.product(shared, c), large.product(shared, c), large.map({y})};
  EXPECT_EQ(Schedule(large.g, Schedule::Order::kAsGiven, &machine).root[static_cast<size_t>(shared)], y);
}

/// Heads of several sequences: two strides along the images of a product.
TEST(Schedule, ProductsReadAndMakeHeadsOfABatchInTheirPlace) {
  Made m;
  const Shape rows = {2, 40, 3 * 64}, heads = {6, 1, 40, 64}, loops = {2, 3, 40, 64};
  const std::vector<int64_t> in_rows = {40 * 192, 64, 192, 1}, in_heads = {3 * 40 * 64, 40 * 64, 64, 1};
  const auto move = [&](ValueId v, const Shape& to, const auto& src, const auto& dst) { return m.node(Move{{{0, loops, 0, 0, src, dst}}, 0}, {v}, m.value(to)); };
  const ValueId x = m.map({m.input(rows)}), operand = move(x, heads, in_rows, in_heads);
  const ValueId sums = m.g.add_value("sums", DType::kF32, heads);
  Contract c;
  c.format = MacFormat::kBF16;
  m.node(c, {operand, m.map({m.input({6, 1, 1, 1, 64, 64})})}, sums);
  const ValueId made = m.map({sums}), back = move(made, rows, in_heads, in_rows);
  const ValueId no_drain = m.map({m.input(heads)}), copied = move(no_drain, rows, in_heads, in_rows);
  m.g.outputs = {m.map({x}), m.map({back}), m.map({copied})};
  const Schedule schedule(m.g);
  const Strides expected{{64, 0, 192, 1}, 3, 40 * 192};
  EXPECT_EQ(schedule.root[static_cast<size_t>(operand)], x);
  EXPECT_EQ(schedule.strides[static_cast<size_t>(operand)], expected);
  EXPECT_EQ(schedule.root[static_cast<size_t>(made)], back);
  EXPECT_EQ(schedule.strides[static_cast<size_t>(made)], expected);
  EXPECT_EQ(expected.image(5), 40 * 192 + 2 * 64);
  EXPECT_EQ(steps_of(m, schedule, copied), 1);  // maps that drain nothing take several images at a time
}

TEST(Schedule, AMapFollowsTheDrainThatMakesItsInput) {
  Made m;
  const ValueId a = m.map({m.input({1, 1, 64, 64})}), b = m.map({m.input({1, 1, 1, 1, 64, 64})}), other = m.map({m.input({1, 1, 64, 64})});
  const ValueId followed = m.product(a, b), own = m.map({followed}), second = m.product(a, b), mixed = m.map({second, other}), third = m.product(a, b), across = m.map({third});
  auto& turned = std::get<Map>(m.g.nodes.back().op).accesses[0].index;
  std::swap(turned[2], turned[3]);
  m.g.outputs = {followed, own, second, mixed, third, across};
  const Schedule schedule(m.g);
  EXPECT_EQ(Schedule::made_by(m.g, step_of(m, schedule, followed)), (std::vector<ValueId>{followed, own}));
  EXPECT_EQ(steps_of(m, schedule, own), 0);
  EXPECT_EQ(schedule.first[static_cast<size_t>(own)], schedule.first[static_cast<size_t>(followed)]);
  EXPECT_EQ(Schedule::made_by(m.g, step_of(m, schedule, second)), (std::vector<ValueId>{second})) << "another tensor is read besides";
  EXPECT_EQ(Schedule::made_by(m.g, step_of(m, schedule, third)), (std::vector<ValueId>{third})) << "other elements are read";
}

TEST(Place, SmallTensorsTakeTurns) {
  const Machine machine = load_machine("server");
  Made m;
  ValueId v = m.map({m.input({64, 1024})});  // half a lock group
  for (int i = 0; i < 12; ++i) v = m.map({v});
  m.g.outputs = {v};
  const Schedule schedule(m.g);
  const Placement p = place(m.g, schedule, machine, {.ring_groups = 4});
  std::set<uint64_t> addresses;
  for (size_t n = 0; n + 1 < m.g.nodes.size(); ++n) addresses.insert(p.of[static_cast<size_t>(m.g.nodes[n].outputs[0])].address);
  EXPECT_EQ(addresses.size(), 12u) << "room that was in use is taken again before room that was not";
}

/// Chunks of one and a half lock groups, copied beside sums that stay: sums of a few bytes, and those that drains alone read, must not stand between them.
TEST(Place, ChunksTakeTurnsAndSumsLieSideBySide) {
  const Machine machine = load_machine("server");
  Made m;
  const ValueId a = m.input({1, 1, 128, 32}), b = m.input({1, 1, 1, 1, 32, 256});
  ValueId chunk = m.copy(m.input({192, 1024}));
  std::vector<ValueId> chunks = {chunk}, sums;
  for (int i = 0; i < 8; ++i) {
    sums.push_back(i % 2 ? m.map({m.input({16, 64})}) : m.product(a, b));
    chunks.push_back(chunk = m.copy(chunk));
  }
  for (size_t i = 0; i < sums.size(); ++i) m.g.outputs.push_back(i % 2 ? m.map({sums[i]}) : m.product(a, b, sums[i]));
  m.g.outputs.push_back(m.map({chunk}));
  const Schedule schedule(m.g);
  const auto address = [](const Placement& p, ValueId v) { return static_cast<int64_t>(p.of[static_cast<size_t>(v)].address); };
  for (const Turns turns : {Turns::kSmall, Turns::kLarge}) {
    const Placement p = place(m.g, schedule, machine, {.ring_groups = 4, .resident_align_bytes = 256, .turns = turns});
    std::set<int64_t> groups;
    for (ValueId v : sums) groups.insert(address(p, v) / machine.group_bytes());
    const bool same = address(p, chunks[4]) == address(p, chunks[2]);
    if (turns == Turns::kLarge) EXPECT_LE(groups.size(), 2u);
    else EXPECT_EQ(groups.size(), sums.size());
    EXPECT_EQ(same, turns == Turns::kSmall) << "the room of the chunk before last is the first that is free";
  }
}

/// A long product whose first operand is at hand: the other streams by in parts of it, not tile by tile of all its rows.
TEST(Tiles, StreamedWeightsComeInParts) {
  const Machine machine = load_machine("server");
  Contract c;
  c.format = MacFormat::kBF16;
  ContractShape s{.contract = &c, .in_w = 64, .in_c = 6272, .out_w = 64, .k_channels = 6272, .columns = 256, .a_bytes = 2, .out_bytes = 4, .a_resident = true, .out_resident = true, .weights_streamed = true};
  const int64_t ring = 8 * machine.group_bytes();
  const ContractTile best = search_tiles(machine, s, ring).front();
  EXPECT_TRUE(best.weights_in_parts);
  EXPECT_LT(best.depth, s.k_channels);
  EXPECT_GE(best.weight_columns, 128) << "rows of few bytes are slow to read";
  s.weights_streamed = false, s.weights_dynamic_resident = true;
  for (const ContractTile& t : search_tiles(machine, s, ring)) EXPECT_TRUE(!t.weights_in_parts && t.depth == s.k_channels);
}

}  // namespace
}  // namespace systole
