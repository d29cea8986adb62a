// Each pass on the smallest graph that needs it: it does its work, and the values stay.
#include "passes/passes.h"

#include <gtest/gtest.h>

#include <map>

#include "ops/reference.h"

namespace systole {
namespace {

Access plain(int64_t rank) {
  Access a;
  for (int l = 0; l < rank; ++l) a.index.push_back({0, {{l, 1}}});
  return a;
}

/// A graph under construction; every value is f32.
struct Made {
  Graph g;
  ValueId input(Shape s) {
    const ValueId v = g.add_value("in" + std::to_string(g.inputs.size()), DType::kF32, std::move(s));
    g.inputs.push_back(v);
    return v;
  }
  ValueId node(Op op, std::vector<ValueId> in, Shape out) {
    const std::string name = "n" + std::to_string(g.nodes.size());
    const ValueId v = g.add_value(name, DType::kF32, std::move(out));
    g.nodes.push_back({name, std::move(op), std::move(in), {v}});
    return v;
  }
  /// One operation over whole values of one shape.
  ValueId map(isa::Micro op, std::vector<ValueId> in, std::vector<float> constants = {}) {
    const Shape s = g.value(in[0]).shape;
    Map m;
    m.extents = s;
    Operation o{op, {}};
    for (size_t k = 0; k < in.size(); ++k) m.accesses.push_back(plain(static_cast<int64_t>(s.size()))), o.operands.push_back(Operand::input(static_cast<int>(k)));
    for (float c : constants) o.operands.push_back(Operand::value(c));
    m.pre = {o};
    return node(std::move(m), std::move(in), s);
  }
  int count(size_t alternative) const {
    return static_cast<int>(std::count_if(g.nodes.begin(), g.nodes.end(), [&](const Node& n) { return n.op.index() == alternative; }));
  }
};
const size_t kMap = Op(Map{}).index(), kMove = Op(Move{}).index(), kView = Op(View{}).index();

std::vector<Tensor> values(const Graph& g) {
  std::vector<Tensor> in;
  for (ValueId v : g.inputs) {
    in.emplace_back(DType::kF32, g.value(v).shape);
    for (int64_t i = 0; i < in.back().count(); ++i) in.back().set(i, 0.25 * static_cast<double>(i % 13) - 1);
  }
  return evaluate(g, in);
}

/// Runs the pass; nothing that comes out may change.
void keep(Made& m, void (*pass)(Graph&)) {
  verify(m.g, "test");
  const auto before = values(m.g);
  pass(m.g);
  verify(m.g, "pass");
  const auto after = values(m.g);
  for (size_t i = 0; i < before.size(); ++i) EXPECT_EQ(before[i].bytes, after[i].bytes) << i;
}

Move rows(int64_t first, int64_t count, int64_t width) { return {{{0, {count, width}, first * width, 0, {width, 1}, {width, 1}}}, 0}; }

TEST(Passes, DuplicatesBecomeOne) {
  Made m;
  const ValueId x = m.input({4, 8});
  m.g.outputs = {m.map(isa::Micro::kMul, {m.map(isa::Micro::kAbs, {x}), m.map(isa::Micro::kAbs, {x})})};
  keep(m, merge_duplicates);
  EXPECT_EQ(m.count(kMap), 2);
}

TEST(Passes, ZerosOfTwoSignsAreNotDuplicates) {
  Made m;
  const ValueId x = m.input({4, 8});
  m.g.outputs = {m.map(isa::Micro::kSub, {m.map(isa::Micro::kMul, {x}, {0.0f}), m.map(isa::Micro::kMul, {x}, {-0.0f})})};
  keep(m, merge_duplicates);
  EXPECT_EQ(m.count(kMap), 3);
}

TEST(Passes, RunsOfBytesAreViews) {
  Made m;
  const ValueId x = m.map(isa::Micro::kAbs, {m.input({8, 4})});
  m.g.outputs = {m.map(isa::Micro::kAbs, {m.node(rows(2, 3, 4), {x}, {3, 4})})};
  keep(m, slices_as_views);
  EXPECT_EQ(m.count(kMove), 0);
  EXPECT_EQ(m.count(kView), 1);
}

TEST(Passes, OutputsHaveBytesOfTheirOwn) {
  for (const bool through_view : {false, true}) {
    Made m;
    const ValueId part = m.node(rows(2, 3, 4), {m.map(isa::Micro::kAbs, {m.input({8, 4})})}, {3, 4});
    m.g.outputs = {through_view ? m.node(View{}, {part}, {12}) : part};
    keep(m, slices_as_views);
    EXPECT_EQ(m.count(kMove), 1) << through_view;
  }
}

/// Parts of two inputs [4, 6], side by side along an axis of [4, 12] or [8, 6].
Move beside(int64_t axis) {
  const std::vector<int64_t> to = {axis ? 12 : 6, 1};
  return {{{0, {4, 6}, 0, 0, {6, 1}, to}, {1, {4, 6}, 0, axis ? 6 : 24, {6, 1}, to}}, 0};
}
/// Columns [1, 7) of [4, 8].
Move columns() { return {{{0, {4, 6}, 1, 0, {8, 1}, {6, 1}}}, 0}; }

TEST(Passes, CopiesOfCopiesAreOne) {
  for (const int64_t axis : {0, 1}) {
    Made m;
    const ValueId a = m.node(columns(), {m.input({4, 8})}, {4, 6}), b = m.node(columns(), {m.input({4, 8})}, {4, 6});
    m.g.outputs = {m.node(beside(axis), {a, b}, axis ? Shape{4, 12} : Shape{8, 6})};
    keep(m, join_moves);
    EXPECT_EQ(m.count(kMove), 1) << axis;
  }
}

TEST(Passes, CopiesJoinThroughReshapesWhereTheyAreRuns) {
  for (const int64_t axis : {0, 1}) {
    Made m;
    std::vector<ValueId> parts;
    for (int i = 0; i < 2; ++i) parts.push_back(m.node(View{}, {m.node(Move{{{0, {2, 2, 6}, 1, 0, {16, 8, 1}, {12, 6, 1}}}, 0}, {m.input({4, 8})}, {2, 2, 6})}, {4, 6}));
    m.g.outputs = {m.node(beside(axis), parts, axis ? Shape{4, 12} : Shape{8, 6})};
    keep(m, join_moves);
    EXPECT_EQ(m.count(kMove), axis ? 3 : 1) << axis;
  }
}

TEST(Passes, CopiesWithFillJoinWhereFillsAgree) {
  for (const uint64_t bits : {uint64_t{0}, uint64_t{0x3F800000}}) {
    Made m;
    auto padded = [&](uint64_t fill) { return m.node(Move{{{-1, {4, 6}, 0, 0, {0, 0}, {6, 1}}, {0, {4, 5}, 0, 1, {5, 1}, {6, 1}}}, fill}, {m.input({4, 5})}, {4, 6}); };
    const ValueId a = padded(0), b = padded(bits);
    m.g.outputs = {m.node(beside(1), {a, b}, {4, 12})};
    keep(m, join_moves);
    EXPECT_EQ(m.count(kMove), bits ? 2 : 1);
  }
}

TEST(Passes, CopiesThatOthersReadStay) {
  for (const int who : {0, 1, 2}) {  // an output, another reader, nobody
    Made m;
    const ValueId a = m.node(columns(), {m.input({4, 8})}, {4, 6}), b = m.input({4, 6});
    m.g.outputs = {m.node(beside(0), {a, b}, {8, 6})};
    if (who == 0) m.g.outputs.push_back(a);
    if (who == 1) m.g.outputs.push_back(m.map(isa::Micro::kAbs, {a}));
    keep(m, join_moves);
    EXPECT_EQ(m.count(kMove), who == 2 ? 1 : 2) << who;
  }
}

TEST(Passes, RepeatsForMapsAloneAreMaps) {
  for (const bool copied : {false, true}) {
    Made m;
    const ValueId wide = m.node(Move{{{0, {4, 8}, 0, 0, {1, 0}, {8, 1}}}, 0}, {m.input({4, 1})}, {4, 8});
    m.g.outputs = {m.map(isa::Micro::kAbs, {wide})};
    if (copied) m.g.outputs.push_back(m.node(rows(1, 2, 8), {wide}, {2, 8}));
    keep(m, repeats_as_maps);
    EXPECT_EQ(m.count(kMove), copied ? 2 : 0);
  }
}

TEST(Passes, LoopsMergeAcrossReshapes) {
  Made m;
  const ValueId x = m.map(isa::Micro::kAbs, {m.input({6, 4})}), other = m.input({2, 3, 4});
  m.g.outputs = {m.map(isa::Micro::kAdd, {m.node(View{}, {x}, {2, 3, 4}), other})};
  keep(m, merge_loops);
  bool merged = false;
  for (const Node& n : m.g.nodes) {
    if (const auto* map = std::get_if<Map>(&n.op)) merged |= n.inputs.size() == 2 && map->extents == Shape({6, 4}) && n.inputs[0] == x;
  }
  EXPECT_TRUE(merged);
}

TEST(Passes, FusingReachesThroughReshapesAndIntoSeveralReaders) {
  Made m;
  const ValueId x = m.map(isa::Micro::kMul, {m.input({6, 4})}, {3.0f});
  const ValueId y = m.node(View{}, {x}, {2, 3, 4});
  m.g.outputs = {m.map(isa::Micro::kAbs, {y})};
  keep(m, fuse_maps);
  EXPECT_EQ(m.count(kMap), 1) << "through a reshape";
  Made two;
  const ValueId scaled = two.map(isa::Micro::kMul, {two.input({6, 4})}, {3.0f});
  two.g.outputs = {two.map(isa::Micro::kAbs, {scaled}), two.map(isa::Micro::kFloor, {scaled})};
  keep(two, fuse_maps);
  EXPECT_EQ(two.count(kMap), 2) << "into two readers";
}

TEST(Passes, EightBitFloatsRoundBetweenMaps) {
  Made m;
  const ValueId x = m.input({6, 4}), small = m.map(isa::Micro::kMul, {x}, {3.0f});
  m.g.value(small).type = DType::kF8E4M3;
  const ValueId out = m.map(isa::Micro::kMul, {small}, {0.5f});
  m.g.outputs = {out};
  keep(m, fuse_maps);
  EXPECT_EQ(m.count(kMap), 2);
}

TEST(Passes, RunsOfMapsGoInBlocks) {
  Made m;
  const ValueId x = m.input({64, 32});
  m.g.outputs = {m.map(isa::Micro::kAbs, {m.map(isa::Micro::kFloor, {m.map(isa::Micro::kMul, {x, x})})})};
  keep(m, [](Graph& g) { EXPECT_TRUE(tile_maps(g, 4096)); });
  EXPECT_GE(m.count(kMap), 3 * 16);
  EXPECT_FALSE(tile_maps(m.g, 1 << 20));
}

/// Two maps that read one large value, and one of what they make: an optimiser's moments and step. The results are outputs in another shape,
/// which suits two blocks, and no more.
TEST(Passes, MapsThatShareAnInputRunTogether) {
  Made m;
  const ValueId g = m.input({64, 37}), first = m.map(isa::Micro::kMul, {g, m.input({64, 37})}), second = m.map(isa::Micro::kAdd, {g, m.input({64, 37})});
  m.g.outputs = {m.map(isa::Micro::kSub, {first, second}), m.node(View{}, {first}, {74, 32}), m.node(View{}, {second}, {74, 32})};
  keep(m, [](Graph& graph) { EXPECT_TRUE(tile_maps(graph, 4096)); });
  EXPECT_EQ(m.count(kMap) % 3, 0);
  EXPECT_GE(m.count(kMap), 3 * 32) << "all three in blocks";
}

/// 3 x 3 convolution of [N, H, W, C] to as many channels, drained by a map of it and of `with`.
ValueId layer(Made& m, ValueId x, isa::Micro drain, ValueId with = kNoValue) {
  const Shape s = m.g.value(x).shape;
  Contract c;
  c.format = MacFormat::kF32, c.kernel_h = c.kernel_w = 3, c.pad_top = c.pad_left = 1;
  const ValueId sums = m.node(c, {x, m.input({1, 1, 3, 3, s[3], s[3]})}, s);
  return with == kNoValue ? m.map(drain, {sums}) : m.map(drain, {sums, with});
}
void in_groups(Graph& g) {
  Machine machine = load_machine("nano");
  machine.memory.scratchpad_bytes = 8 << 10;
  EXPECT_TRUE(tile_layers(g, machine, machine.memory.scratchpad_bytes * 3 / 4, 10));
}

/// What the first layer makes is read twice; zeros are put between pixels; the last map gathers from windows of its own image. Layers whose results
/// others need too stay whole.
void expect_groups(bool first_is_needed) {
  Made m;
  const Shape s = {8, 8, 8, 4};
  const ValueId x = m.input(s), first = layer(m, x, isa::Micro::kRelu), second = layer(m, first, isa::Micro::kAdd, first), third = layer(m, second, isa::Micro::kRelu);
  const ValueId spread = m.node(Move{{{-1, {8, 16, 8, 4}, 0, 0, {0, 0, 0, 0}, {512, 32, 4, 1}}, {0, s, 0, 0, {256, 32, 4, 1}, {512, 64, 4, 1}}}, 0}, {third}, {8, 16, 8, 4});
  Map pool;
  pool.extents = {8, 8, 8, 4, 3}, pool.reduced = 1, pool.reduce = isa::Reduce::kMax, pool.fill = -1;
  pool.accesses = {{{{0, {{0, 1}}}, {-1, {{1, 2}, {4, 1}}}, {0, {{2, 1}}}, {0, {{3, 1}}}}, true}};
  m.g.outputs = {m.node(std::move(pool), {spread}, s)};
  if (first_is_needed) m.g.outputs.push_back(first);
  keep(m, in_groups);
  std::map<int64_t, int> layers;  // by images
  for (const Node& n : m.g.nodes) {
    if (std::holds_alternative<Contract>(n.op)) ++layers[m.g.value(n.outputs[0]).shape[0]];
  }
  EXPECT_EQ(layers[8], first_is_needed ? 1 : 0);
  for (const auto& [images, count] : layers) {
    if (images < 8) EXPECT_EQ(count, (first_is_needed ? 2 : 3) * 8 / images);
  }
}
TEST(Passes, LayersGoInGroupsOfImages) {
  expect_groups(false);
  expect_groups(true);
}

TEST(Passes, ImagesThatNeedOthersStayTogether) {
  for (const bool mixed : {false, true}) {
    Made m;
    const Shape s = {8, 8, 8, 4};
    ValueId v = layer(m, layer(m, m.input(s), isa::Micro::kRelu), isa::Micro::kRelu);
    if (mixed) {  // by the image before
      Map other;
      other.extents = s, other.pre = {{isa::Micro::kMove, {Operand::input(0)}}};
      other.accesses = {plain(4)};
      other.accesses[0].index[0].offset = -1, other.accesses[0].guarded = true;
      v = m.node(std::move(other), {v}, s);
    }
    m.g.outputs = {layer(m, layer(m, v, isa::Micro::kRelu), isa::Micro::kRelu)};
    keep(m, in_groups);
    for (const Node& n : m.g.nodes) {
      const bool is_mixing = mixed && std::holds_alternative<Map>(n.op) && std::get<Map>(n.op).accesses[0].guarded;
      if (is_mixing) EXPECT_EQ(m.g.value(n.inputs[0]).shape, s) << n.name;
    }
  }
}

/// Attention of a batch, forward and one product of backward: heads are columns of rows [images, steps, heads x width].
struct Attention {
  static constexpr int64_t kImages = 8, kSteps = 16, kHeads = 2, kWidth = 4;
  Made m;
  ValueId rows() { return m.map(isa::Micro::kAbs, {m.input({kImages, kSteps, kHeads * kWidth})}); }
  /// Its heads as images, for A or as B in either order.
  ValueId heads(ValueId v, bool turned, bool is_b) {
    const std::vector<int64_t> src = {kSteps * kHeads * kWidth, kWidth, kHeads * kWidth, 1}, dense = {kHeads * kSteps * kWidth, kSteps * kWidth, turned ? 1 : kWidth, turned ? kSteps : 1};
    const Shape to = turned ? Shape{kImages, kHeads, kWidth, kSteps} : Shape{kImages, kHeads, kSteps, kWidth};
    const ValueId moved = m.node(Move{{{0, {kImages, kHeads, kSteps, kWidth}, 0, 0, src, dense}}, 0}, {v}, to);
    return m.node(View{}, {moved}, is_b ? Shape{kImages * kHeads, 1, 1, 1, to[2], to[3]} : Shape{kImages * kHeads, 1, to[2], to[3]});
  }
  ValueId product(ValueId a, ValueId b) {
    Contract c;
    c.format = MacFormat::kF32;
    return m.map(isa::Micro::kMove, {m.node(c, {a, b}, {kImages * kHeads, 1, m.g.value(a).shape[2], m.g.value(b).shape[5]})});
  }
  ValueId back(ValueId v) {
    const std::vector<int64_t> dst = {kSteps * kHeads * kWidth, kWidth, kHeads * kWidth, 1}, dense = {kHeads * kSteps * kWidth, kSteps * kWidth, kWidth, 1};
    return m.node(Move{{{0, {kImages, kHeads, kSteps, kWidth}, 0, 0, dense, dst}}, 0}, {v}, {kImages, kSteps, kHeads * kWidth});
  }
};

TEST(Passes, HeadsOfABatchGoInGroups) {
  for (const bool weights_are_needed : {false, true}) {
    Attention a;
    const ValueId query = a.rows(), key = a.rows(), value = a.rows();
    const ValueId scores = a.product(a.heads(query, false, false), a.heads(key, true, true));
    const ValueId weights = a.m.map(isa::Micro::kMul, {a.m.map(isa::Micro::kFloor, {scores}), scores});
    const ValueId again = a.m.node(View{}, {weights}, {Attention::kImages, Attention::kHeads, Attention::kSteps, Attention::kSteps});  // read from here on by others alone
    const ValueId out = a.back(a.product(weights, a.heads(value, false, true)));
    a.m.g.outputs = {a.m.map(isa::Micro::kNeg, {out})};
    if (weights_are_needed) a.m.g.outputs.push_back(a.m.map(isa::Micro::kNeg, {again}));
    keep(a.m, [](Graph& g) { EXPECT_TRUE(tile_heads(g, 16384)); });
    int whole = 0, groups = 0;
    for (const Node& n : a.m.g.nodes) {
      if (!std::holds_alternative<Contract>(n.op)) continue;
      ++(a.m.g.value(n.outputs[0]).shape[0] == Attention::kImages * Attention::kHeads ? whole : groups);
    }
    EXPECT_EQ(whole, 0);
    EXPECT_GE(groups, 2 * 2);
    EXPECT_FALSE(tile_heads(a.m.g, 1 << 20)) << "what fits stays whole";
  }
}

/// A map of the image before: of the scores themselves, or of what was moved for it alone.
TEST(Passes, HeadsThatReadAcrossImagesStayWhole) {
  for (const bool of_scores : {true, false}) {
    Attention a;
    const ValueId scores = a.product(a.heads(a.rows(), false, false), a.heads(a.rows(), true, true));
    const Shape s = a.m.g.value(scores).shape;
    const auto strides = row_major_strides(s);
    const ValueId moved = a.m.node(Move{{{0, s, 0, 0, strides, strides}}, 0}, {a.m.map(isa::Micro::kAbs, {a.m.input(s)})}, s);
    Map other;
    other.extents = s, other.pre = {{isa::Micro::kMul, {Operand::input(0), Operand::input(1)}}};
    other.accesses = {plain(4), plain(4)};
    other.accesses[1].index[0].offset = -1, other.accesses[1].guarded = true;
    const ValueId mixed = a.m.node(std::move(other), {scores, of_scores ? scores : moved}, s);
    a.m.g.outputs = {a.back(a.product(mixed, a.heads(a.rows(), false, true)))};
    if (of_scores) a.m.g.outputs.push_back(moved);
    keep(a.m, [](Graph& g) { tile_heads(g, 16384); });
    for (const Node& n : a.m.g.nodes) {
      if (!std::holds_alternative<Map>(n.op) || !std::get<Map>(n.op).accesses.back().guarded) continue;
      EXPECT_EQ(a.m.g.value(n.inputs[1]).shape, s) << "read as a whole";
    }
  }
}

/// A value rounded to bf16.
ValueId rounded(Made& m, ValueId v) {
  const ValueId r = m.map(isa::Micro::kMove, {v});
  m.g.value(r).type = DType::kBF16;
  return r;
}
int maps_to(const Made& m, DType type) {
  return static_cast<int>(std::count_if(m.g.nodes.begin(), m.g.nodes.end(), [&](const Node& n) { return n.op.index() == kMap && m.g.value(n.outputs[0]).type == type; }));
}

TEST(Passes, WhatIsRoundedAfterCopiesIsRoundedBefore) {
  Made m;
  const ValueId x = m.map(isa::Micro::kAbs, {m.input({4, 8})});
  const ValueId padded = m.node(Move{{{-1, {4, 10}, 0, 0, {0, 0}, {10, 1}}, {0, {4, 8}, 0, 1, {8, 1}, {10, 1}}}, 0x3F800000}, {x}, {4, 10});
  const ValueId view = m.node(View{}, {m.node(View{}, {x}, {32})}, {2, 16});
  m.g.outputs = {rounded(m, m.node(rows(0, 2, 8), {x}, {2, 8})), rounded(m, m.node(rows(2, 2, 8), {x}, {2, 8})), rounded(m, padded), rounded(m, view)};
  keep(m, narrow_early);
  EXPECT_EQ(maps_to(m, DType::kBF16), 1);
  for (const Node& n : m.g.nodes) {
    if (n.op.index() == kMove) EXPECT_EQ(m.g.value(n.inputs[0]).type, DType::kBF16) << n.name;
  }
}

TEST(Passes, PartsAreNotRoundedAsAWhole) {
  for (const bool input : {false, true}) {  // a copy of an input reads all of it, but once
    Made m;
    const ValueId in = m.input({4, 8}), x = input ? in : m.map(isa::Micro::kAbs, {in});
    m.g.outputs = {rounded(m, input ? m.node(Move{{{0, {8, 4}, 0, 0, {1, 8}, {4, 1}}}, 0}, {x}, {8, 4}) : m.node(rows(1, 1, 8), {x}, {1, 8}))};
    keep(m, narrow_early);
    for (const Node& n : m.g.nodes) {
      if (n.op.index() == kMove) EXPECT_EQ(m.g.value(n.inputs[0]).type, DType::kF32) << input;
    }
  }
}

TEST(Passes, TruthValuesStayInRegisters) {
  Made m;
  const ValueId x = m.input({4, 8}), y = m.input({4, 8}), less = m.map(isa::Micro::kLess, {x, y});
  m.g.value(less).type = DType::kBool;
  std::get<Map>(m.g.nodes.back().op).out_lo = 0, std::get<Map>(m.g.nodes.back().op).out_hi = 1;
  m.g.outputs = {m.map(isa::Micro::kMul, {less, x})};
  keep(m, fuse_maps);
  EXPECT_EQ(m.count(kMap), 1);
}

/// [n, n] inside zeros, then turned.
void pad_and_turn(Made& m, int64_t n) {
  const ValueId padded = m.node(Move{{{-1, {n + 1, n}, 0, 0, {0, 0}, {n, 1}}, {0, {n, n}, 0, n, {n, 1}, {n, 1}}}, 0}, {m.map(isa::Micro::kAbs, {m.input({n, n})})}, {n + 1, n});
  m.g.outputs = {m.node(Move{{{0, {n, n + 1}, 0, 0, {1, n}, {n + 1, 1}}}, 0}, {padded}, {n, n + 1})};
}
TEST(Passes, CopiesThatTurnWholeSquaresJoin) {
  for (const int64_t n : {4, 16}) {
    Made m;
    pad_and_turn(m, n);
    keep(m, join_moves);
    EXPECT_EQ(m.count(kMove), n < 7 ? 2 : 1) << n;
  }
}

TEST(Passes, RunsOfMapsThatAlternateAreBothCut) {
  Made m;
  const Shape s = {64, 64};
  ValueId a = m.input(s), b = m.input(s);
  for (int i = 0; i < 3; ++i) {
    a = m.map(isa::Micro::kAbs, {a});
    b = m.map(isa::Micro::kNeg, {b});
  }
  m.g.outputs = {a, b};
  keep(m, [](Graph& g) { EXPECT_TRUE(tile_maps(g, 16384)); });
  for (const Node& n : m.g.nodes) {
    if (n.op.index() == kMap) EXPECT_LT(element_count(m.g.value(n.outputs[0]).shape), element_count(s)) << n.name;
  }
}

}  // namespace
}  // namespace systole
