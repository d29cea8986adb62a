// Orders of work, and where tensors lie over it.
#include <gtest/gtest.h>

#include <set>

#include "schedule/place.h"
#include "schedule/repetitions.h"
#include "schedule/weave.h"

namespace systole {
namespace {

/// A graph of bf16 values under construction.
struct Made {
  Graph g;
  ValueId value(Shape s) { return g.add_value("v" + std::to_string(g.values.size()), DType::kBF16, std::move(s)); }
  ValueId input(Shape s) {
    g.inputs.push_back(value(std::move(s)));
    return g.inputs.back();
  }
  ValueId node(Op op, std::vector<ValueId> in, ValueId out) {
    g.nodes.push_back({"n" + std::to_string(g.nodes.size()), std::move(op), std::move(in), {out}});
    return out;
  }
  static Access plain(size_t rank) {
    Access a;
    for (size_t d = 0; d < rank; ++d) a.index.push_back({0, {{static_cast<int>(d), 1}}});
    return a;
  }
  ValueId map(std::vector<ValueId> in) {
    const Shape s = g.value(in[0]).shape;
    Map m;
    m.extents = s;
    Operation add{in.size() == 1 ? isa::Micro::kMove : isa::Micro::kAdd, {}};
    for (size_t k = 0; k < in.size(); ++k) m.accesses.push_back(plain(s.size())), add.operands.push_back(Operand::input(static_cast<int>(k)));
    m.pre = {add};
    const ValueId out = value(s);
    return node(std::move(m), std::move(in), out);
  }
  ValueId copy(ValueId v) {
    const Shape s = g.value(v).shape;
    const auto strides = row_major_strides(s);
    const ValueId out = value(s);
    return node(Move{{{0, s, 0, 0, strides, strides}}, 0}, {v}, out);
  }
  /// The last two dimensions of [1, 1, m, n] in the other order.
  ValueId turned(ValueId v) {
    const int64_t rows = g.value(v).shape[3], columns = g.value(v).shape[2];
    const ValueId out = value({1, 1, rows, columns});
    return node(Move{{{0, {rows, columns}, 0, 0, {1, rows}, {columns, 1}}}, 0}, {v}, out);
  }
  /// [1, 1, m, k] times [k, n].
  ValueId product(ValueId a, ValueId b) {
    Contract c;
    c.format = MacFormat::kBF16;
    const ValueId sums = g.add_value("s" + std::to_string(g.values.size()), DType::kF32, {1, 1, g.value(a).shape[2], g.value(b).shape[5]});
    node(c, {a, b}, sums);
    return map({sums});
  }
};

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

/// Steps whose first output this is.
auto steps_of(const Made& m, const Schedule& schedule, ValueId v) {
  return std::count_if(schedule.steps.begin(), schedule.steps.end(), [&](const Step& s) { return m.g.nodes[static_cast<size_t>(s.node)].outputs[0] == v; });
}

/// The first of them.
Step step_of(const Made& m, const Schedule& schedule, ValueId v) {
  return *std::find_if(schedule.steps.begin(), schedule.steps.end(), [&](const Step& s) { return m.g.nodes[static_cast<size_t>(s.node)].outputs[0] == v; });
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

TEST(Orders, LargeCopiesRunBesideProducts) {
  const Machine machine = load_machine("server");
  Made m;
  const ValueId a = m.map({m.input({1, 1, 1024, 512})}), b = m.map({m.input({1, 1, 1, 1, 512, 1024})});
  const ValueId kept = m.map({m.input({512, 1024})});
  std::vector<ValueId> products;
  for (int i = 0; i < 4; ++i) products.push_back(m.product(a, b));
  const ValueId early = m.copy(kept), read = m.map({early}), last = m.copy(products.back());
  m.g.outputs = products;
  m.g.outputs.insert(m.g.outputs.end(), {read, last, m.map({kept})});
  const Schedule schedule(m.g, Schedule::Order::kCopiesBeside, &machine);
  EXPECT_FALSE(schedule.as_given());
  const int host = step_of(m, schedule, early).with;
  ASSERT_GE(host, 0);
  EXPECT_GE(schedule.steps[static_cast<size_t>(host)].contract, 0);
  EXPECT_EQ(step_of(m, schedule, last).with, -1) << "no product is behind what it copies";
}

/// Sums over the first of two dimensions, f32.
ValueId sums_over_rows(Made& m, ValueId v) {
  const Shape s = m.g.value(v).shape;
  Map map;
  map.extents = {s[1], s[0]}, map.reduced = 1, map.reduce = isa::Reduce::kSum;
  map.accesses = {{{{0, {{1, 1}}}, {0, {{0, 1}}}}, false}};
  map.pre = {{isa::Micro::kMove, {Operand::input(0)}}};
  return m.node(std::move(map), {v}, m.g.add_value("sums" + std::to_string(m.g.values.size()), DType::kF32, {s[1]}));
}

TEST(Orders, SumsRunBesideProductsWithWhatIsMadeOfThem) {
  const Machine machine = load_machine("server");
  Made m;
  const ValueId a = m.map({m.input({1, 1, 1024, 512})}), b = m.map({m.input({1, 1, 1, 1, 512, 1024})});
  const ValueId large = m.map({m.input({1024, 768})}), few = m.map({m.input({32, 64})});
  const ValueId sums = sums_over_rows(m, large), scaled = m.map({sums}), other = sums_over_rows(m, large), needed = m.map({other}), small = sums_over_rows(m, few);
  const ValueId first = m.product(a, b), second = m.product(a, m.copy(b)), reader = m.map({needed});
  m.g.outputs = {first, second, scaled, small, reader};
  const Schedule schedule(m.g, Schedule::Order::kCopiesBeside, &machine);
  const int host = step_of(m, schedule, sums).with;
  ASSERT_GE(host, 0);
  EXPECT_GE(schedule.steps[static_cast<size_t>(host)].contract, 0);
  EXPECT_EQ(step_of(m, schedule, scaled).with, host) << "made of sums that run beside a product";
  EXPECT_GE(step_of(m, schedule, other).with, 0) << "what reads it comes later";
  EXPECT_EQ(step_of(m, schedule, small).with, -1) << "not worth it";
  std::set<ValueId> made(m.g.inputs.begin(), m.g.inputs.end());
  for (const Step& s : schedule.steps) {
    for (ValueId v : m.g.nodes[static_cast<size_t>(s.node)].inputs) EXPECT_TRUE(made.count(v) || (s.contract >= 0 && m.g.nodes[static_cast<size_t>(s.contract)].outputs[0] == v)) << m.g.value(v).name << " is read before it is made";
    for (ValueId v : Schedule::made_by(m.g, s)) made.insert(v);
  }
}

TEST(Orders, ChainsOfSmallMapsAreLookedAtOnce) {
  const Machine machine = load_machine("server");
  Made m;
  ValueId x = m.map({m.input({8, 8})}), y = m.map({m.input({8, 8})});
  for (int i = 0; i < 200; ++i) {  // each is read twice: 2^200 paths
    const ValueId next = m.map({x, y});
    x = m.map({next, x}), y = m.map({next, y});
  }
  m.g.outputs = {x, y};
  EXPECT_TRUE(Schedule(m.g, Schedule::Order::kCopiesBeside, &machine).as_given());
}

TEST(Orders, WhatReadsAFollowerComesBehindIt) {
  const Machine machine = load_machine("server");
  for (const auto order : {Schedule::Order::kCopiesFirst, Schedule::Order::kCopiesBeside, Schedule::Order::kWoven}) {
    Made m;
    const bool small = order == Schedule::Order::kCopiesFirst;  // what is copied
    const int64_t sums = small ? 512 : 4096;
    const ValueId a = m.map({m.input({1, 1, 320, sums})}), b = m.map({m.input({1, 1, 1, 1, sums, small ? 64 : 1024})});
    std::vector<ValueId> products;
    for (int i = 0; i < 3; ++i) products.push_back(m.product(a, b));
    const ValueId followed = m.product(a, b), own = m.map({followed});
    for (int i = 0; i < 2; ++i) products.push_back(m.product(a, b));
    const ValueId copied = m.copy(own);
    m.g.outputs = products;
    m.g.outputs.insert(m.g.outputs.end(), {followed, own, copied});
    const Schedule schedule(m.g, order, &machine);
    EXPECT_FALSE(schedule.as_given()) << static_cast<int>(order);
    const auto place_of = [&](ValueId v) {
      for (size_t s = 0; s < schedule.steps.size(); ++s) {
        if (const auto made = Schedule::made_by(m.g, schedule.steps[s]); std::find(made.begin(), made.end(), v) != made.end()) return static_cast<int>(s);
      }
      return -1;
    };
    EXPECT_EQ(place_of(own), place_of(followed));
    EXPECT_GT(place_of(copied), place_of(own)) << static_cast<int>(order);
  }
}

TEST(Orders, CopiesStandBeforeProductsThatLeaveDramTheTime) {
  const Machine machine = load_machine("server");
  Made m;
  const ValueId a = m.map({m.input({1, 1, 256, 512})}), b = m.map({m.input({1, 1, 1, 1, 512, 64})});
  const ValueId large = m.map({m.input({64, 1024})}), late = m.map({large});  // late: made when the products are about to begin; not for the copy alone
  std::vector<ValueId> products;
  for (int i = 0; i < 6; ++i) products.push_back(m.product(a, b));
  const ValueId independent = m.copy(late), dependent = m.copy(products.back());
  m.g.outputs = products;
  m.g.outputs.insert(m.g.outputs.end(), {independent, dependent, late});
  const Schedule given(m.g), first(m.g, Schedule::Order::kCopiesFirst, &machine);
  EXPECT_TRUE(given.as_given());
  ASSERT_FALSE(first.as_given());
  ASSERT_EQ(first.steps.size(), given.steps.size());
  const auto place_of = [&](ValueId v) {
    return std::find_if(first.steps.begin(), first.steps.end(), [&](const Step& s) { return m.g.nodes[static_cast<size_t>(s.node)].outputs[0] == v; }) - first.steps.begin();
  };
  EXPECT_LT(place_of(independent), place_of(products.back()));
  EXPECT_GT(place_of(independent), place_of(late));
  EXPECT_GT(place_of(dependent), place_of(products.back()));
  for (size_t i = 1; i < products.size(); ++i) EXPECT_GT(place_of(products[i]), place_of(products[i - 1]));
}

/// A block of a network: two products and a sum, `width` wide inside.
ValueId block(Made& m, ValueId x, int64_t width) {
  const int64_t size = m.g.value(x).shape[3];
  const ValueId inner = m.product(x, m.input({1, 1, 1, 1, size, width}));
  return m.map({m.product(inner, m.input({1, 1, 1, 1, width, size})), x});
}

TEST(Repetitions, AreBlocksThatAreAlike) {
  Made m;
  ValueId x = m.map({m.input({1, 1, 32, 64})});
  for (int i = 0; i < 9; ++i) x = block(m, x, 128);
  x = m.copy(x);
  for (int i = 0; i < 3; ++i) x = block(m, x, 96);  // too few
  for (int i = 0; i < 80; ++i) x = m.map({x});
  m.g.outputs = {x};
  const Schedule schedule(m.g);
  const auto found = repetitions_of(m.g, schedule.steps);
  ASSERT_EQ(found.size(), 2u);
  const size_t blocks = found[0].period * found[0].count;
  EXPECT_EQ(found[0].count, 9u);
  EXPECT_EQ(found[0].first + blocks, 1 + blocks);
  EXPECT_EQ(found[1].period, 1u);
  EXPECT_EQ(found[1].count, 80u);
  EXPECT_EQ(found[1].first + 80, schedule.steps.size());

  // Of 80, 24 stay until they settle, 20 that stand for 35, and the last.
  const auto left_out = left_out_of(found);
  ASSERT_EQ(left_out.size(), 1u);
  EXPECT_EQ(left_out[0].from, found[1].first + 44);
  EXPECT_EQ(left_out[0].to, found[1].first + 79);
  EXPECT_EQ(left_out[0].by.from, found[1].first + 24);
  EXPECT_EQ(left_out[0].by.to, found[1].first + 44);
  EXPECT_EQ(left_out[0].by.blocks, 20);
  EXPECT_EQ(left_out[0].by.left_out, 35);
}

TEST(Repetitions, OfDifferentLengthsStandSideBySide) {
  Made m;
  ValueId x = m.map({m.input({1, 1, 32, 64})});
  constexpr int kSorts = 40, kBlocks = 7;
  for (int sort = 0; sort < kSorts; ++sort) {
    for (int i = 0; i < kBlocks; ++i) x = block(m, x, 32 + 8 * sort);
  }
  m.g.outputs = {x};
  const Schedule schedule(m.g);
  const auto found = repetitions_of(m.g, schedule.steps);
  ASSERT_EQ(found.size(), static_cast<size_t>(kSorts));
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_GE(found[i].count, static_cast<size_t>(kBlocks - 1)) << i;  // the sum at the end of a block is the next sort's too
    if (i > 0) {
      EXPECT_GE(found[i].first, found[i - 1].first + found[i - 1].count * found[i - 1].period);
    }
  }
}

TEST(Repetitions, NeverCutWhatRunsBesideAContraction) {
  const Machine machine = load_machine("server");
  Made m;
  ValueId x = m.input({1, 1, 4096, 2048});
  std::vector<ValueId> copied;
  for (int i = 0; i < 12; ++i) copied.push_back(m.copy(m.input({512, 1024}))), x = m.product(x, m.input({1, 1, 1, 1, 2048, 2048}));
  m.g.outputs = copied;
  m.g.outputs.push_back(x);
  const Schedule schedule(m.g, Schedule::Order::kCopiesBeside, &machine);
  ASSERT_FALSE(schedule.as_given());
  const auto found = repetitions_of(m.g, schedule.steps);
  ASSERT_FALSE(found.empty());
  for (const Repetition& r : found) {
    for (size_t i = 0; i < r.count; ++i) EXPECT_LT(schedule.steps[r.first + i * r.period].with, 0);
  }
}

}  // namespace
}  // namespace systole
