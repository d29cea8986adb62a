// Chunks of weight gradients that follow data gradients block by block: the values stay, and what they read is at hand.
#include <random>

#include "passes/passes.h"
#include "passes/test_graphs.h"

namespace systole {
namespace {

constexpr int64_t kImages = 8, kHeight = 8, kWidth = 8, kPixels = kImages * kHeight * kWidth;

/// What may keep chunks from following, or change what they read.
struct Case {
  int64_t chunks = 16;          ///< of each weight gradient
  int64_t uneven = 0;           ///< pixels by which the first chunk is longer and the second shorter
  bool needed_whole = false;    ///< what the first product makes is read by others too
  bool run_waits = false;       ///< the second product's weights are made of the first weight gradient
  bool reader_between = false;  ///< the first weight gradient is read before the second product, by a node that reads a whole tensor too
  bool third = false;           ///< a second product of what the first makes, behind chunks that read it
  bool swapped = false;         ///< chunks pair one tensor's pixels with those of another chunk
  bool one_move = false;        ///< a chunk's left operand is moved from two tensors at once,
  bool apart = false;           ///< of different pixels
  bool another_run = false;     ///< before the second weight gradient
};

struct Backward {
  FloatGraph m;
  Case c;
  ValueId y = kNoValue;

  ValueId product(ValueId v, ValueId weights, std::vector<ValueId> with) {
    Contract contract;
    contract.format = MacFormat::kF32;
    Shape s = m.g.value(v).shape;
    s[3] = m.g.value(weights).shape[5];
    with.insert(with.begin(), m.node(contract, {v, weights}, s));
    return m.map(with.size() > 1 ? isa::Micro::kAdd : isa::Micro::kMove, with);
  }
  ValueId weights(int64_t in, int64_t out) { return m.input({1, 1, 1, 1, in, out}); }
  int64_t begin(int64_t chunk) const { return chunk * kPixels / c.chunks + (chunk == 1 ? c.uneven : 0); }

  ValueId left_operand(ValueId turned, int64_t first, int64_t count) {
    const int64_t rows = m.g.value(turned).shape[3];
    if (!c.one_move) return m.node(Move{{{0, {rows, count}, 0, 0, {1, rows}, {count, 1}}}, 0}, {m.node(View{first * rows * 4}, {turned}, {count, rows})}, {1, 1, rows, count});
    const int64_t other = c.apart ? kPixels - first - count : first;
    return m.node(Move{{{0, {rows, count}, first * rows, 0, {1, rows}, {count, 1}}, {1, {4, count}, other * 4, rows * count, {1, 4}, {count, 1}}}, 0}, {turned, y}, {1, 1, rows + 4, count});
  }
  /// The sum over pixels of products of both, chunk by chunk.
  ValueId weight_gradient(ValueId turned, ValueId straight) {
    const int64_t columns = m.g.value(straight).shape[3];
    ValueId sum = kNoValue;
    for (int64_t i = 0; i < c.chunks; ++i) {
      const int64_t first = begin(i), count = begin(i + 1) - first, other = c.swapped ? first == 0 ? kPixels - count : 0 : first;
      const ValueId a = left_operand(turned, first, count), b = m.node(View{other * columns * 4}, {straight}, {1, 1, 1, 1, count, columns});
      Contract contract;
      contract.format = MacFormat::kF32;
      const ValueId made = m.node(contract, {a, b}, {1, 1, m.g.value(a).shape[2], columns});
      sum = sum == kNoValue ? m.map(isa::Micro::kMove, {made}) : m.map(isa::Micro::kAdd, {sum, made});
    }
    return sum;
  }
  /// value + a pixel of a whole tensor, in every row.
  ValueId add_pixel(ValueId value, ValueId whole) {
    Map map;
    map.extents = m.g.value(value).shape;
    map.accesses = {plain(4), {{{0, {}}, {0, {}}, {0, {}}, {0, {{3, 1}}}}, false}};
    map.pre = {{isa::Micro::kAdd, {Operand::input(0), Operand::input(1)}}};
    return m.node(std::move(map), {value, whole}, m.g.value(value).shape);
  }

  explicit Backward(const Case& options) : c(options) {
    const Shape few = {kImages, kHeight, kWidth, 4}, many = {kImages, kHeight, kWidth, 8};
    const ValueId gradient = m.input(few), x = m.input(many), rest = m.input(many);
    y = m.input(few);
    const ValueId whole = m.map(isa::Micro::kAdd, {product(gradient, weights(4, 8), {x}), rest});
    const ValueId first = weight_gradient(gradient, x);
    ValueId next = weights(8, 4);
    const ValueId between = c.reader_between ? add_pixel(first, x) : kNoValue;
    if (c.run_waits) next = m.map(isa::Micro::kAdd, {next, m.node(Move{{{0, {8, 4}, 0, 0, {1, 8}, {4, 1}}}, 0}, {first}, {1, 1, 1, 1, 8, 4})});
    m.g.outputs.push_back(product(whole, next, {y}));
    if (c.another_run) m.g.outputs.push_back(product(product(m.input(few), weights(4, 8), {}), weights(8, 4), {}));
    const ValueId second = weight_gradient(y, whole);
    if (c.third) m.g.outputs.push_back(product(whole, weights(8, 4), {y}));
    if (c.needed_whole) {
      const auto strides = row_major_strides(many);
      m.g.outputs.push_back(m.node(Move{{{0, many, 0, 0, strides, strides}}, 0}, {m.map(isa::Micro::kNeg, {whole})}, many));
    }
    if (between != kNoValue) m.g.outputs.push_back(m.map(isa::Micro::kAdd, {between, first}));
    m.g.outputs.push_back(first), m.g.outputs.push_back(second);
  }
};

void in_blocks(Graph& g) {
  Machine machine = load_machine("nano");
  machine.memory.scratchpad_bytes = 16 << 10;
  tile_layers(g, machine, {.block_bytes = 4096, .step_cycles = 1, .copies = true, .followed_block_bytes = 8192});
}

/// Chunks that read values of whole tensors, not of blocks.
int reads_of_wholes(const Graph& g) {
  int count = 0;
  for (const Node& n : g.nodes) {
    if (!std::holds_alternative<View>(n.op)) continue;
    const Shape& from = g.value(n.inputs[0]).shape;
    count += from.size() == 4 && from[0] == kImages && element_count(from) > element_count(g.value(n.outputs[0]).shape) && g.value(n.outputs[0]).shape.size() != 4;
  }
  return count;
}

TEST(Followers, ChunksOfOneBlockFollowIt) {
  for (const bool third : {false, true}) {
    Backward b({.third = third});
    keep(b.m, in_blocks);
    EXPECT_EQ(reads_of_wholes(b.m.g), 0);
    int products = 0, pairs = 0;  // a chunk's product stands behind its block's, not behind those of all blocks
    for (const Node& n : b.m.g.nodes) {
      if (!std::holds_alternative<Contract>(n.op)) continue;
      const bool pixels = b.m.g.value(n.outputs[0]).shape[3] == 4 ? b.m.g.value(n.inputs[1]).shape[4] == 8 : b.m.g.value(n.inputs[1]).shape[4] == 4;
      products += pixels, pairs += !pixels && products < 2 * 16;
    }
    EXPECT_GT(pairs, 16) << "of 32";
  }
}

TEST(Followers, ChunksOfTwoBlocksDoNot) {
  Backward b({.uneven = 3});
  keep(b.m, in_blocks);
  EXPECT_GT(reads_of_wholes(b.m.g), 0);
}

TEST(Followers, NothingIsMovedBeforeWhatItWaitsFor) {
  std::mt19937 rng(5);
  const auto chance = [&] { return rng() % 3 == 0; };
  for (int i = 0; i < 120; ++i) {
    const int64_t counts[] = {2, 4, 8, 16, 32};
    const Case c{counts[rng() % 5], chance() ? static_cast<int64_t>(rng() % 7) : 0, chance(), chance(), chance(), chance(), chance(), chance(), chance(), chance()};
    SCOPED_TRACE("case " + std::to_string(i));
    Backward b(c);
    keep(b.m, in_blocks);
  }
}

}  // namespace
}  // namespace systole
