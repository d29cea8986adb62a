// Cascades: stripes of rows through layers of all kinds, bit for bit as without them.
#include <random>

#include "passes/cascade.h"
#include "passes/passes.h"
#include "passes/test_graphs.h"

namespace systole {
namespace {

Machine small_machine(int64_t scratchpad_bytes) {
  Machine machine = load_machine("nano");
  machine.memory.scratchpad_bytes = scratchpad_bytes;
  return machine;
}

struct Layers : FloatGraph {
  std::mt19937_64 random;
  explicit Layers(uint64_t seed) : random(seed) {}
  int64_t number(int64_t lo, int64_t hi) { return lo + static_cast<int64_t>(random() % static_cast<uint64_t>(hi - lo + 1)); }
  ValueId weights(const Shape& shape) {
    Tensor t(DType::kF32, shape);
    for (int64_t i = 0; i < t.count(); ++i) t.set(i, static_cast<double>(number(-8, 8)) / 8);
    const ValueId v = g.add_value("w" + std::to_string(g.values.size()), DType::kF32, shape);
    g.values[static_cast<size_t>(v)].constant = std::make_shared<const Tensor>(std::move(t));
    return v;
  }
  Shape shape(ValueId v) const { return g.value(v).shape; }

  /// A convolution and its drain, which may add `with`.
  ValueId convolution(ValueId x, Contract c, int64_t channels, int64_t pad_bottom, ValueId with = kNoValue) {
    const Shape s = shape(x);
    const auto out = [](int64_t in, int64_t pads, int64_t kernel, int64_t stride, int64_t dilation) { return (in + pads - (kernel - 1) * dilation - 1) / stride + 1; };
    const Shape made = {1, out(s[1], c.pad_top + pad_bottom, c.kernel_h, c.stride_h, c.dilation_h), out(s[2], 2 * c.pad_left, c.kernel_w, c.stride_w, c.dilation_w), c.depthwise ? s[3] : channels};
    c.format = MacFormat::kF32;
    const ValueId sums = node(c, {x, weights({1, 1, c.kernel_h, c.kernel_w, c.depthwise ? 1 : s[3], made[3]})}, made);
    return with == kNoValue ? map(isa::Micro::kRelu, {sums}) : map(isa::Micro::kAdd, {sums, with});
  }
  /// Of any kind that leaves rows.
  ValueId random_convolution(ValueId x) {
    Contract c;
    c.kernel_h = number(1, 4), c.kernel_w = number(1, 3), c.stride_h = number(1, 2), c.stride_w = number(1, 2), c.dilation_h = number(1, 2);
    c.pad_top = number(0, (c.kernel_h - 1) * c.dilation_h) + (number(0, 15) == 0 ? 4 : 0), c.pad_left = number(0, c.kernel_w - 1), c.depthwise = number(0, 2) == 0;
    const int64_t bottom = number(0, (c.kernel_h - 1) * c.dilation_h);
    if (shape(x)[1] + c.pad_top + bottom < 6 * c.stride_h + (c.kernel_h - 1) * c.dilation_h || shape(x)[2] < 6) c = {};
    return convolution(x, c, number(2, 6), c.kernel_h == 1 ? 0 : bottom);
  }
  /// The greatest of a window of three rows, the first of which begins at `from`.
  ValueId pool(ValueId x, int64_t stride, int64_t from) {
    Shape s = shape(x);
    s[1] = (s[1] - 1) / stride + 1;
    Map m;
    m.extents = {s[0], s[1], s[2], s[3], 3}, m.reduced = 1, m.reduce = isa::Reduce::kMax, m.fill = -1;
    m.accesses = {{{{0, {{0, 1}}}, {from, {{1, stride}, {4, 1}}}, {0, {{2, 1}}}, {0, {{3, 1}}}}, true}};
    m.pre = {{isa::Micro::kMove, {Operand::input(0)}}};
    return node(std::move(m), {x}, s);
  }
  /// Channels side by side.
  ValueId concat(ValueId a, ValueId b) {
    const Shape s = shape(a), t = shape(b);
    const int64_t all = s[3] + t[3];
    const auto region = [&](int input, int64_t channels, int64_t at) { return CopyRegion{input, {s[1] * s[2], channels}, 0, at, {channels, 1}, {all, 1}}; };
    return node(Move{{region(0, s[3], 0), region(1, t[3], s[3])}, 0}, {a, b}, {1, s[1], s[2], all});
  }
};

/// Tensors of four dimensions that are cut into fewer rows.
int stripes_of(const Graph& g) {
  int count = 0;
  for (const Node& n : g.nodes) count += std::holds_alternative<Contract>(n.op);
  return count;
}

TEST(Cascades, RandomLayersKeepTheirBits) {
  int cut = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    Layers m(seed);
    ValueId v = m.input({1, m.number(12, 30), m.number(6, 10), m.number(2, 5)});
    for (int64_t layer = 0, layers = m.number(2, 6); layer < layers; ++layer) {
      switch (m.number(0, 5)) {
        case 0: v = m.pool(v, m.number(1, 2), m.number(0, 7) == 0 ? -5 : -1); break;
        case 1: {  // a residual
          const int64_t a = m.number(0, 2), b = m.number(0, 2);
          const ValueId middle = m.convolution(v, {.kernel_h = 2 * a + 1, .kernel_w = 1, .pad_top = a}, 5, a);
          v = m.convolution(middle, {.kernel_h = 2 * b + 1, .kernel_w = 1, .pad_top = b}, m.shape(v)[3], b, v);
          break;
        }
        case 2: v = m.concat(m.convolution(v, {.kernel_h = 3, .kernel_w = 1, .pad_top = 1}, 3, 1), v); break;
        default: v = m.random_convolution(v);
      }
    }
    m.g.outputs = {v};
    verify(m.g, "test");
    const auto before = values(m.g);
    const int layers = stripes_of(m.g);
    if (!tile_cascades(m.g, small_machine(m.number(2, 16) << 10), m.number(2, 12) << 10, 1)) continue;
    verify(m.g, "tile_cascades");
    cut += stripes_of(m.g) > layers;
    const auto after = values(m.g);
    ASSERT_EQ(before[0].bytes, after[0].bytes) << "seed " << seed;
  }
  EXPECT_GE(cut, 100) << "graphs of 300";
}

/// An inverted bottleneck, the residual block of small networks: what it expands is never whole, and no row of it is made twice.
TEST(Cascades, BottlenecksExpandAFewRowsAtATime) {
  Layers m(1);
  const ValueId x = m.input({1, 32, 8, 4});
  const ValueId expanded = m.convolution(x, {}, 24, 0), filtered = m.convolution(expanded, {.kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1, .depthwise = true}, 24, 1);
  m.g.outputs = {m.convolution(filtered, {}, 4, 0, x)};
  const auto before = values(m.g);
  EXPECT_TRUE(tile_cascades(m.g, small_machine(16 << 10), 12 << 10, 1));
  verify(m.g, "tile_cascades");
  EXPECT_EQ(before[0].bytes, values(m.g)[0].bytes);
  int64_t expanded_rows = 0;
  for (const Node& n : m.g.nodes) {
    const Shape& s = m.g.value(n.outputs[0]).shape;
    if (s[3] != 24) continue;
    EXPECT_LT(s[1], 16) << n.name;
    const auto* c = std::get_if<Contract>(&n.op);
    expanded_rows += c && !c->depthwise ? s[1] : 0;
  }
  EXPECT_EQ(expanded_rows, 32);
}

/// Others that need what a layer inside makes end the cascade there; one whose weights exceed what it saves does not begin.
TEST(Cascades, WhatOthersNeedStaysWhole) {
  for (const bool needed : {false, true}) {
    Layers m(2);
    const ValueId first = m.convolution(m.input({1, 32, 8, 4}), {.kernel_h = 3, .pad_top = 1}, 8, 1), second = m.convolution(first, {.kernel_h = 3, .pad_top = 1}, 8, 1);
    m.g.outputs = {second};
    if (needed) m.g.outputs.push_back(first);
    EXPECT_EQ(tile_cascades(m.g, small_machine(4 << 10), 3 << 10, 1), !needed);
  }
  Layers m(3);
  m.g.outputs = {m.convolution(m.convolution(m.input({1, 8, 2, 64}), {.kernel_h = 3, .pad_top = 1}, 64, 1), {.kernel_h = 3, .pad_top = 1}, 64, 1)};
  EXPECT_FALSE(tile_cascades(m.g, small_machine(8 << 10), 3 << 10, 1));
}

/// Rows that depend on columns, and rows that are made of parts of several.
TEST(Cascades, OnlyRowsOfRowsPass) {
  for (const bool mixed : {false, true}) {
    Layers m(5);
    const ValueId first = m.convolution(m.input({1, 8, 4, 4}), {}, 4, 0);
    Map map;
    map.extents = {1, 8, 4, 4}, map.pre = {{isa::Micro::kMove, {Operand::input(0)}}}, map.accesses = {plain(4)}, map.accesses[0].guarded = true;
    if (mixed) map.accesses[0].index[1].terms.push_back({2, 1});
    m.node(map, {first}, map.extents);
    const int64_t shift = mixed ? 8 : 0;  // to the columns behind, and the last ones to the row below
    m.node(Move{{{-1, {128}, 0, 0, {0}, {1}}, {0, {8, 16 - (mixed ? 1 : 0)}, 0, shift, {16, 1}, {16, 1}}}, 0}, {first}, map.extents);
    const Uses uses(m.g);
    for (const size_t n : {2, 3}) {
      Cascade c(m.g, uses);
      ASSERT_TRUE(c.add(0) && c.add(1));
      EXPECT_EQ(c.add(n), !mixed) << n;
    }
  }
}

TEST(Cascades, RowsOfPaddingAloneDoNotPass) {
  for (const int64_t pad : {2, 3}) {
    Layers m(6);
    m.convolution(m.convolution(m.input({1, 8, 4, 4}), {}, 4, 0), {.kernel_h = 3, .pad_top = pad}, 4, 0);
    const Uses uses(m.g);
    Cascade c(m.g, uses);
    ASSERT_TRUE(c.add(0) && c.add(1));
    EXPECT_EQ(c.add(2), pad == 2);
  }
}

TEST(Cascades, StripesHoldWhatTheNextOnesNeed) {
  Layers m(4);
  const ValueId first = m.convolution(m.input({1, 8, 2, 4}), {}, 4, 0), second = m.convolution(first, {.kernel_h = 3, .pad_top = 1}, 4, 1);
  m.g.outputs = {second};
  const Uses uses(m.g);
  Cascade c(m.g, uses);
  for (size_t n = 0; n < m.g.nodes.size(); ++n) ASSERT_TRUE(c.add(n));
  const auto stripes = c.stripes(4);
  ASSERT_EQ(stripes.size(), 2u);
  const auto expect = [](const Rows& rows, int64_t lo, int64_t hi) { EXPECT_EQ(std::pair(rows.lo, rows.hi), std::pair(lo, hi)); };
  expect(stripes[0].made.at(first), 0, 5), expect(stripes[0].held.at(first), 0, 5);
  expect(stripes[1].made.at(first), 5, 8), expect(stripes[1].held.at(first), 3, 8);
}

}  // namespace
}  // namespace systole
