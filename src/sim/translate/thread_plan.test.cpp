// Plans of random graphs: all work once, nothing before what it waits for, however the threads are delayed; and what plans are for.
#include "sim/translate/thread_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

namespace systole {
namespace {

/// Executes a plan item by item; each time a thread drawn by chance among those that need not wait. Returns (task, begin, end) in order.
std::vector<std::array<int64_t, 3>> executed(const ThreadPlan& plan, std::mt19937& random) {
  std::vector<uint32_t> done(plan.threads.size(), 0);
  std::vector<std::array<int64_t, 3>> list;
  auto may_go = [&](size_t t) {
    const ThreadPlan::List& l = plan.threads[t];
    if (done[t] == l.items.size()) return false;
    const ThreadPlan::Item& item = l.items[done[t]];
    return std::all_of(l.waits.begin() + item.first_wait, l.waits.begin() + item.first_wait + item.waits, [&](const ThreadPlan::Wait& w) { return done[w.thread] >= w.count; });
  };
  for (;;) {
    std::vector<size_t> can;
    for (size_t t = 0; t < plan.threads.size(); ++t) {
      if (may_go(t)) can.push_back(t);
    }
    if (can.empty()) return list;
    const size_t t = can[random() % can.size()];
    const ThreadPlan::Item& item = plan.threads[t].items[done[t]++];
    list.push_back({item.task, item.begin, item.end});
  }
}

void expect_legal(const std::vector<PlannedTask>& tasks, const ThreadPlan& plan, std::mt19937& random) {
  std::vector<int64_t> left;
  for (const PlannedTask& t : tasks) left.push_back(t.pieces);
  for (const auto& [task, begin, end] : executed(plan, random)) {
    for (uint32_t a : tasks[static_cast<size_t>(task)].after) ASSERT_EQ(left[a], 0) << "task " << task << " ran before " << a;
    left[static_cast<size_t>(task)] -= end - begin;
    ASSERT_GE(left[static_cast<size_t>(task)], 0) << "pieces of task " << task << " twice";
  }
  for (size_t i = 0; i < left.size(); ++i) ASSERT_EQ(left[i], 0) << "task " << i << " of " << left.size();
  // What another thread waits for is told to it.
  for (const auto& list : plan.threads) {
    for (const ThreadPlan::Wait& w : list.waits) EXPECT_TRUE(plan.threads[w.thread].items[w.count - 1].awaited);
  }
}

TEST(ThreadPlan, RandomGraphsInOrder) {
  for (uint32_t seed = 1; seed <= 60; ++seed) {
    std::mt19937 random(seed);
    std::vector<PlannedTask> tasks(1 + random() % 120);
    for (uint32_t i = 0; i < tasks.size(); ++i) {
      tasks[i].cost_ns = static_cast<double>(random() % 4 == 0 ? random() % 100'000 : random() % 3'000);
      tasks[i].pieces = random() % 3 == 0 ? 1 + random() % 40 : 1;
      tasks[i].operand = static_cast<uint32_t>(random() % 6), tasks[i].operand_ns = 2'000;
      std::set<uint32_t> after;
      for (uint32_t k = random() % 4; i > 0 && k > 0; --k) after.insert(static_cast<uint32_t>(random() % i));
      tasks[i].after.assign(after.begin(), after.end());
    }
    for (int threads : {1, 2, 3, 8}) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << ", " << threads << " threads");
      const ThreadPlan plan = plan_threads(tasks, threads);
      ASSERT_EQ(plan.threads.size(), static_cast<size_t>(threads));
      for (int delays = 0; delays < 5; ++delays) expect_legal(tasks, plan, random);
    }
  }
}

TEST(ThreadPlan, OneLongTaskIsShared) {
  const ThreadPlan plan = plan_threads({{.cost_ns = 100'000, .pieces = 10}}, 2);
  ASSERT_EQ(plan.threads[0].items.size(), 1u);
  ASSERT_EQ(plan.threads[1].items.size(), 1u);
  EXPECT_EQ(plan.threads[0].items[0].end - plan.threads[0].items[0].begin, 5);
  EXPECT_EQ(plan_threads({{.cost_ns = 10'000, .pieces = 10}}, 2).threads[1].items.size(), 0u) << "a short one is not";
}

TEST(ThreadPlan, ChainsStayOnTheirThreads) {
  // Two chains of short tasks, interleaved: what crosses would arrive late.
  std::vector<PlannedTask> tasks(40);
  for (uint32_t i = 0; i < tasks.size(); ++i) {
    tasks[i].cost_ns = 300;
    if (i >= 2) tasks[i].after = {i - 2};
  }
  for (const ThreadPlan::List& list : plan_threads(tasks, 2).threads) {
    EXPECT_EQ(list.items.size(), 20u);
    EXPECT_TRUE(list.waits.empty());
  }
}

TEST(ThreadPlan, AChainDoesNotChangeItsThread) {
  // The first thread becomes free just as the chain goes on.
  std::vector<PlannedTask> tasks(20);
  for (uint32_t i = 0; i < tasks.size(); ++i) {
    tasks[i].cost_ns = 300;
    if (i >= 2) tasks[i].after = {i - 1};
  }
  const ThreadPlan plan = plan_threads(tasks, 2);
  EXPECT_EQ(plan.threads[0].items.size(), 1u);
  EXPECT_EQ(plan.threads[1].items.size(), 19u);
}

TEST(ThreadPlan, ConstantsStayWhereTheyWereRead) {
  // Four constants, read step after step in any order, each step after the one before.
  std::mt19937 random(1);
  std::vector<PlannedTask> tasks;
  std::vector<uint32_t> constants = {1, 2, 3, 4};
  for (uint32_t step = 0; step < 10; ++step) {
    std::shuffle(constants.begin(), constants.end(), random);
    for (uint32_t k = 0; k < 4; ++k) {
      PlannedTask t{.cost_ns = 1'000, .operand = constants[k], .operand_ns = 2'000};
      for (uint32_t a = 0; step > 0 && a < 4; ++a) t.after.push_back(4 * (step - 1) + a);
      tasks.push_back(t);
    }
  }
  const ThreadPlan plan = plan_threads(tasks, 2);
  std::map<uint32_t, std::set<size_t>> threads_of;
  for (size_t t = 0; t < 2; ++t) {
    for (const ThreadPlan::Item& item : plan.threads[t].items) threads_of[tasks[item.task].operand].insert(t);
  }
  for (const auto& [operand, threads] : threads_of) EXPECT_EQ(threads.size(), 1u) << "constant " << operand;
}

}  // namespace
}  // namespace systole
