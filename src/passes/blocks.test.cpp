// Passes that cut tensors into blocks: they do where it is worth it, and the values stay.
#include <map>

#include "passes/passes.h"
#include "passes/test_graphs.h"

namespace systole {
namespace {

TEST(Passes, RunsOfMapsGoInBlocks) {
  FloatGraph m;
  const ValueId x = m.input({64, 32});
  m.g.outputs = {m.map(isa::Micro::kAbs, {m.map(isa::Micro::kFloor, {m.map(isa::Micro::kMul, {x, x})})})};
  keep(m, [](Graph& g) { EXPECT_TRUE(tile_maps(g, 4096)); });
  EXPECT_GE(m.count(kMap), 3 * 16);
  EXPECT_FALSE(tile_maps(m.g, 1 << 20));
}

/// A layer normalisation's gradient: maps over rows, and sums over the rows of an image, which leave a block an image. Each takes more than an eighth of the
/// scratchpad.
TEST(Passes, SumsOverAnImagesRowsGoInItsBlock) {
  constexpr int64_t kImages = 4, kRows = 16, kWidth = 8;
  FloatGraph m;
  const Shape s = {kImages, kRows, kWidth};
  const ValueId product = m.map(isa::Micro::kMul, {m.input(s), m.input(s)});
  Map sum;
  sum.extents = {kImages, kWidth, kRows}, sum.reduced = 1, sum.reduce = isa::Reduce::kSum;
  sum.accesses = {{{{0, {{0, 1}}}, {0, {{2, 1}}}, {0, {{1, 1}}}}, false}};
  sum.pre = {{isa::Micro::kMove, {Operand::input(0)}}};
  const ValueId sums = m.node(std::move(sum), {product}, {kImages, kWidth});
  m.g.outputs = {m.map(isa::Micro::kAbs, {m.map(isa::Micro::kFloor, {product})}), sums};
  keep(m, [](Graph& g) { EXPECT_TRUE(tile_maps(g, 6144)); });
  EXPECT_EQ(m.count(kMap), 4 * kImages) << "the sums among them";
}

/// Two maps that read one large value, and one of what they make: an optimiser's moments and step. The results are outputs in another shape,
/// which suits two blocks, and no more.
TEST(Passes, MapsThatShareAnInputRunTogether) {
  FloatGraph m;
  const ValueId g = m.input({64, 37}), first = m.map(isa::Micro::kMul, {g, m.input({64, 37})}), second = m.map(isa::Micro::kAdd, {g, m.input({64, 37})});
  m.g.outputs = {m.map(isa::Micro::kSub, {first, second}), m.node(View{}, {first}, {74, 32}), m.node(View{}, {second}, {74, 32})};
  keep(m, [](Graph& graph) { EXPECT_TRUE(tile_maps(graph, 4096)); });
  EXPECT_EQ(m.count(kMap) % 3, 0);
  EXPECT_GE(m.count(kMap), 3 * 32) << "all three in blocks";
}

/// 3 x 3 convolution of [N, H, W, C] to as many channels, drained by a map of it and of `with`.
ValueId layer(FloatGraph& m, ValueId x, isa::Micro drain, ValueId with = kNoValue) {
  const Shape s = m.g.value(x).shape;
  Contract c;
  c.format = MacFormat::kF32, c.kernel_h = c.kernel_w = 3, c.pad_top = c.pad_left = 1;
  const ValueId sums = m.node(c, {x, m.input({1, 1, 3, 3, s[3], s[3]})}, s);
  return with == kNoValue ? m.map(drain, {sums}) : m.map(drain, {sums, with});
}
void in_groups(Graph& g) {
  Machine machine = load_machine("nano");
  machine.memory.scratchpad_bytes = 8 << 10;
  EXPECT_TRUE(tile_layers(g, machine, {machine.memory.scratchpad_bytes * 3 / 4, 10}));
}

/// What the first layer makes is read twice; zeros are put between pixels; the last map gathers from windows of its own image. Layers whose results
/// others need too stay whole.
void expect_groups(bool first_is_needed) {
  FloatGraph m;
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

/// Products of single pixels whose first result others need too: it goes through the scratchpad once, and is copied out on its way, where that is asked
/// for; what lies between them comes before or after.
TEST(Passes, PixelsHandOnWhatOthersNeed) {
  constexpr int64_t kImages = 8;
  for (const int64_t kernel : {1, 3}) {
    FloatGraph m;
    const Shape s = {kImages, 8, 8, 4};
    Contract c;
    c.format = MacFormat::kF32, c.kernel_h = c.kernel_w = kernel, c.pad_top = c.pad_left = kernel / 2;
    const auto product = [&](ValueId v) { return m.map(isa::Micro::kRelu, {m.node(c, {v, m.input({1, 1, kernel, kernel, 4, 4})}, s)}); };
    const ValueId first = product(m.input(s));
    ValueId between = m.map(isa::Micro::kAbs, {m.input({4})});
    for (int i = 0; i < 40; ++i) between = m.map(isa::Micro::kNeg, {between});
    const ValueId second = product(first);
    Map sum;  // over all images
    sum.extents = {4, kImages}, sum.reduced = 1, sum.reduce = isa::Reduce::kSum;
    sum.accesses = {{{{0, {{1, 1}}}, {0, {}}, {0, {}}, {0, {{0, 1}}}}, false}};
    sum.pre = {{isa::Micro::kMove, {Operand::input(0)}}};
    m.g.outputs = {second, m.node(std::move(sum), {first}, {4}), between};
    Graph whole = m.g;
    Machine machine = load_machine("nano");
    machine.memory.scratchpad_bytes = 8 << 10;
    EXPECT_FALSE(tile_layers(whole, machine, {4096, 10}));
    if (kernel == 3) {
      EXPECT_FALSE(tile_layers(m.g, machine, {4096, 10, true}));
      continue;
    }
    keep(m, [](Graph& g) {
      Machine small = load_machine("nano");
      small.memory.scratchpad_bytes = 8 << 10;
      EXPECT_TRUE(tile_layers(g, small, {4096, 10, true}));
    });
    int products = 0;
    for (const Node& n : m.g.nodes) {
      if (std::holds_alternative<Contract>(n.op)) {
        EXPECT_LT(m.g.value(n.outputs[0]).shape[0], kImages);
        ++products;
      } else if (std::holds_alternative<Move>(n.op)) {
        EXPECT_EQ(products % 2, 1) << "a copy leaves when it is made, before the next product";
      }
    }
    EXPECT_GE(m.count(kMove), 2);
  }
}

TEST(Passes, ImagesThatNeedOthersStayTogether) {
  for (const bool mixed : {false, true}) {
    FloatGraph m;
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
  FloatGraph m;
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

TEST(Passes, RunsOfMapsThatAlternateAreBothCut) {
  FloatGraph m;
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
