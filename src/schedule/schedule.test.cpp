// Orders of work, and where tensors lie over it.
#include <gtest/gtest.h>

#include "schedule/place.h"
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

TEST(Orders, CopiesStandBeforeProductsThatLeaveDramTheTime) {
  const Machine machine = load_machine("server");
  Made m;
  const ValueId a = m.map({m.input({1, 1, 256, 512})}), b = m.map({m.input({1, 1, 1, 1, 512, 64})});
  const ValueId large = m.map({m.input({64, 1024})}), late = m.map({large});  // late: made when the products are about to begin
  std::vector<ValueId> products;
  for (int i = 0; i < 6; ++i) products.push_back(m.product(a, b));
  const ValueId independent = m.copy(late), dependent = m.copy(products.back());
  m.g.outputs = products;
  m.g.outputs.insert(m.g.outputs.end(), {independent, dependent});
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

}  // namespace
}  // namespace systole
