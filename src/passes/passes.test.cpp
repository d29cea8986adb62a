// Each pass on the smallest graph that needs it: it does its work, and the values stay.
#include "passes/passes.h"

#include "passes/test_graphs.h"

namespace systole {
namespace {

Move rows(int64_t first, int64_t count, int64_t width) { return {{{0, {count, width}, first * width, 0, {width, 1}, {width, 1}}}, 0}; }

/// Sums lie in the accumulators until a map drains them: a graph that hands them on in another way is a pass's mistake.
TEST(Passes, MapsAloneReadAccumulators) {
  for (const int reader : {0, 1, 2}) {
    FloatGraph m;
    Contract c;
    c.format = MacFormat::kF32;
    const ValueId sums = m.node(c, {m.input({1, 2, 2, 4}), m.input({1, 1, 1, 1, 4, 4})}, {1, 2, 2, 4});
    const ValueId out = reader == 0 ? m.map(isa::Micro::kRelu, {sums}) : reader == 1 ? m.node(View{}, {sums}, {16}) : sums;
    m.g.outputs = {out};
    if (reader == 0) EXPECT_NO_THROW(verify(m.g, "test"));
    else EXPECT_THROW(verify(m.g, "test"), std::logic_error) << reader;
  }
}

TEST(Passes, DuplicatesBecomeOne) {
  FloatGraph m;
  const ValueId x = m.input({4, 8});
  m.g.outputs = {m.map(isa::Micro::kMul, {m.map(isa::Micro::kAbs, {x}), m.map(isa::Micro::kAbs, {x})})};
  keep(m, merge_duplicates);
  EXPECT_EQ(m.count(kMap), 2);
}

TEST(Passes, ZerosOfTwoSignsAreNotDuplicates) {
  FloatGraph m;
  const ValueId x = m.input({4, 8});
  m.g.outputs = {m.map(isa::Micro::kSub, {m.map(isa::Micro::kMul, {x}, {0.0f}), m.map(isa::Micro::kMul, {x}, {-0.0f})})};
  keep(m, merge_duplicates);
  EXPECT_EQ(m.count(kMap), 3);
}

TEST(Passes, RunsOfBytesAreViews) {
  FloatGraph m;
  const ValueId x = m.map(isa::Micro::kAbs, {m.input({8, 4})});
  m.g.outputs = {m.map(isa::Micro::kAbs, {m.node(rows(2, 3, 4), {x}, {3, 4})})};
  keep(m, slices_as_views);
  EXPECT_EQ(m.count(kMove), 0);
  EXPECT_EQ(m.count(kView), 1);
}

TEST(Passes, OutputsHaveBytesOfTheirOwn) {
  for (const bool through_view : {false, true}) {
    FloatGraph m;
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
    FloatGraph m;
    const ValueId a = m.node(columns(), {m.input({4, 8})}, {4, 6}), b = m.node(columns(), {m.input({4, 8})}, {4, 6});
    m.g.outputs = {m.node(beside(axis), {a, b}, axis ? Shape{4, 12} : Shape{8, 6})};
    keep(m, join_moves);
    EXPECT_EQ(m.count(kMove), 1) << axis;
  }
}

TEST(Passes, CopiesJoinThroughReshapesWhereTheyAreRuns) {
  for (const int64_t axis : {0, 1}) {
    FloatGraph m;
    std::vector<ValueId> parts;
    for (int i = 0; i < 2; ++i) parts.push_back(m.node(View{}, {m.node(Move{{{0, {2, 2, 6}, 1, 0, {16, 8, 1}, {12, 6, 1}}}, 0}, {m.input({4, 8})}, {2, 2, 6})}, {4, 6}));
    m.g.outputs = {m.node(beside(axis), parts, axis ? Shape{4, 12} : Shape{8, 6})};
    keep(m, join_moves);
    EXPECT_EQ(m.count(kMove), axis ? 3 : 1) << axis;
  }
}

TEST(Passes, CopiesWithFillJoinWhereFillsAgree) {
  for (const uint64_t bits : {uint64_t{0}, uint64_t{0x3F800000}}) {
    FloatGraph m;
    auto padded = [&](uint64_t fill) { return m.node(Move{{{-1, {4, 6}, 0, 0, {0, 0}, {6, 1}}, {0, {4, 5}, 0, 1, {5, 1}, {6, 1}}}, fill}, {m.input({4, 5})}, {4, 6}); };
    const ValueId a = padded(0), b = padded(bits);
    m.g.outputs = {m.node(beside(1), {a, b}, {4, 12})};
    keep(m, join_moves);
    EXPECT_EQ(m.count(kMove), bits ? 2 : 1);
  }
}

TEST(Passes, CopiesThatOthersReadStay) {
  for (const int who : {0, 1, 2}) {  // an output, another reader, nobody
    FloatGraph m;
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
    FloatGraph m;
    const ValueId wide = m.node(Move{{{0, {4, 8}, 0, 0, {1, 0}, {8, 1}}}, 0}, {m.input({4, 1})}, {4, 8});
    m.g.outputs = {m.map(isa::Micro::kAbs, {wide})};
    if (copied) m.g.outputs.push_back(m.node(rows(1, 2, 8), {wide}, {2, 8}));
    keep(m, repeats_as_maps);
    EXPECT_EQ(m.count(kMove), copied ? 2 : 0);
  }
}

TEST(Passes, LoopsMergeAcrossReshapes) {
  FloatGraph m;
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
  FloatGraph m;
  const ValueId x = m.map(isa::Micro::kMul, {m.input({6, 4})}, {3.0f});
  const ValueId y = m.node(View{}, {x}, {2, 3, 4});
  m.g.outputs = {m.map(isa::Micro::kAbs, {y})};
  keep(m, fuse_maps);
  EXPECT_EQ(m.count(kMap), 1) << "through a reshape";
  FloatGraph two;
  const ValueId scaled = two.map(isa::Micro::kMul, {two.input({6, 4})}, {3.0f});
  two.g.outputs = {two.map(isa::Micro::kAbs, {scaled}), two.map(isa::Micro::kFloor, {scaled})};
  keep(two, fuse_maps);
  EXPECT_EQ(two.count(kMap), 2) << "into two readers";
}

TEST(Passes, EightBitFloatsRoundBetweenMaps) {
  FloatGraph m;
  const ValueId x = m.input({6, 4}), small = m.map(isa::Micro::kMul, {x}, {3.0f});
  m.g.value(small).type = DType::kF8E4M3;
  const ValueId out = m.map(isa::Micro::kMul, {small}, {0.5f});
  m.g.outputs = {out};
  keep(m, fuse_maps);
  EXPECT_EQ(m.count(kMap), 2);
}

/// A value rounded to bf16.
ValueId rounded(FloatGraph& m, ValueId v) {
  const ValueId r = m.map(isa::Micro::kMove, {v});
  m.g.value(r).type = DType::kBF16;
  return r;
}
int maps_to(const FloatGraph& m, DType type) {
  return static_cast<int>(std::count_if(m.g.nodes.begin(), m.g.nodes.end(), [&](const Node& n) { return n.op.index() == kMap && m.g.value(n.outputs[0]).type == type; }));
}

TEST(Passes, WhatIsRoundedAfterCopiesIsRoundedBefore) {
  FloatGraph m;
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
    FloatGraph m;
    const ValueId in = m.input({4, 8}), x = input ? in : m.map(isa::Micro::kAbs, {in});
    m.g.outputs = {rounded(m, input ? m.node(Move{{{0, {8, 4}, 0, 0, {1, 8}, {4, 1}}}, 0}, {x}, {8, 4}) : m.node(rows(1, 1, 8), {x}, {1, 8}))};
    keep(m, narrow_early);
    for (const Node& n : m.g.nodes) {
      if (n.op.index() == kMove) EXPECT_EQ(m.g.value(n.inputs[0]).type, DType::kF32) << input;
    }
  }
}

TEST(Passes, TruthValuesStayInRegisters) {
  FloatGraph m;
  const ValueId x = m.input({4, 8}), y = m.input({4, 8}), less = m.map(isa::Micro::kLess, {x, y});
  m.g.value(less).type = DType::kBool;
  std::get<Map>(m.g.nodes.back().op).out_lo = 0, std::get<Map>(m.g.nodes.back().op).out_hi = 1;
  m.g.outputs = {m.map(isa::Micro::kMul, {less, x})};
  keep(m, fuse_maps);
  EXPECT_EQ(m.count(kMap), 1);
}

/// [n, n] inside zeros, then turned.
void pad_and_turn(FloatGraph& m, int64_t n) {
  const ValueId padded = m.node(Move{{{-1, {n + 1, n}, 0, 0, {0, 0}, {n, 1}}, {0, {n, n}, 0, n, {n, 1}, {n, 1}}}, 0}, {m.map(isa::Micro::kAbs, {m.input({n, n})})}, {n + 1, n});
  m.g.outputs = {m.node(Move{{{0, {n, n + 1}, 0, 0, {1, n}, {n + 1, 1}}}, 0}, {padded}, {n, n + 1})};
}
TEST(Passes, CopiesThatTurnWholeSquaresJoin) {
  for (const int64_t n : {4, 16}) {
    FloatGraph m;
    pad_and_turn(m, n);
    keep(m, join_moves);
    EXPECT_EQ(m.count(kMove), n < 7 ? 2 : 1) << n;
  }
}

}  // namespace
}  // namespace systole
