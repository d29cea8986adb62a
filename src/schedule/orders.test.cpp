// Orders of work, and what repeats in them.
#include <gtest/gtest.h>

#include <set>

#include "schedule/repetitions.h"
#include "schedule/test_graphs.h"
#include "schedule/weave.h"

namespace systole {
namespace {

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

TEST(Orders, CopiesThatPassByRunBesideProductsAlone) {
  const Machine machine = load_machine("server");
  Made m;
  const ValueId a = m.map({m.input({1, 1, 2048, 1024})}), b = m.map({m.input({1, 1, 1, 1, 1024, 1024})});
  const ValueId kept = m.map({m.input({2048, 1024})}), chunk = m.map({m.input({512, 1024})}), summed = m.map({m.input({1024, 768})});
  const ValueId output = m.copy(chunk), passes = m.copy(kept), stays = m.copy(chunk), sums = sums_over_rows(m, summed);
  const ValueId first = m.product(a, b), second = m.product(a, b);
  m.g.outputs = {output, first, second, m.map({passes}), m.map({stays}), m.map({sums})};
  const Schedule schedule(m.g, Schedule::Order::kPassingCopiesBeside, &machine), all(m.g, Schedule::Order::kCopiesBeside, &machine);
  EXPECT_GE(step_of(m, schedule, output).with, 0);
  EXPECT_GE(step_of(m, schedule, passes).with, 0);
  EXPECT_EQ(step_of(m, schedule, stays).with, -1) << "it has a place in the scratchpad";
  EXPECT_EQ(step_of(m, schedule, sums).with, -1);
  EXPECT_GE(step_of(m, all, stays).with, 0);
  EXPECT_GE(step_of(m, all, sums).with, 0);
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
