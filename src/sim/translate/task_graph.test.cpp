// Task graphs of made-up kernels: each runs once, after what it waits for, on any number of threads, also where the host gives fewer.
#include "sim/translate/task_graph.h"

#include <gtest/gtest.h>
#include <tbb/task_arena.h>

#include <random>
#include <stdexcept>

#include "sim/translate/upcoming.h"

namespace systole {
namespace {

/// Counts its pieces; fails the test where one that it waits for is not complete.
class Counting final : public Kernel {
 public:
  Counting(std::vector<std::atomic<int64_t>>& done, size_t self, std::vector<uint32_t> after, std::vector<int64_t> wanted, int64_t pieces)
      : done_(done), self_(self), after_(std::move(after)), wanted_(std::move(wanted)), pieces_(pieces) {}
  WorkClass work_class() const override { return WorkClass::kVector; }
  WorkShape shape() const override { return {}; }
  int64_t pieces() const override { return pieces_; }
  double cost_ns() const override { return pieces_ > 1 ? 30'000 : 500; }
  void run(int64_t begin, int64_t end) const override {
    for (size_t i = 0; i < after_.size(); ++i) EXPECT_EQ(done_[after_[i]].load(std::memory_order_relaxed), wanted_[i]);
    done_[self_].fetch_add(end - begin, std::memory_order_relaxed);
  }

 private:
  std::vector<std::atomic<int64_t>>& done_;
  const size_t self_;
  const std::vector<uint32_t> after_;
  const std::vector<int64_t> wanted_;
  const int64_t pieces_;
};

class Throwing final : public Kernel {
 public:
  WorkClass work_class() const override { return WorkClass::kVector; }
  WorkShape shape() const override { return {}; }
  void run(int64_t, int64_t) const override { throw std::runtime_error("as told"); }
};

/// Notes what is announced when it runs, and takes none of it.
class Watching final : public Kernel {
 public:
  explicit Watching(std::vector<Upcoming>& seen) : seen_(seen) {}
  WorkClass work_class() const override { return WorkClass::kVector; }
  WorkShape shape() const override { return {}; }
  void run(int64_t, int64_t) const override { seen_.push_back(t_upcoming); }

 private:
  std::vector<Upcoming>& seen_;
};

/// A random graph and what each of its tasks has done.
struct Counted {
  explicit Counted(uint32_t seed, size_t size = 400) : done(size) {
    std::mt19937 random(seed);
    for (uint32_t i = 0; i < size; ++i) {
      pieces.push_back(random() % 8 == 0 ? 20 : 1);
      std::vector<uint32_t> after;
      std::vector<int64_t> wanted;
      for (uint32_t k = random() % 4; i > 0 && k > 0; --k) after.push_back(i - 1 - static_cast<uint32_t>(random()) % std::min<uint32_t>(i, 30)), wanted.push_back(pieces[after.back()]);
      graph.add(std::make_unique<Counting>(done, i, after, wanted, pieces.back()), after);
    }
  }
  void run(int threads) {
    for (auto& d : done) d = 0;
    graph.run(threads);
    for (size_t i = 0; i < done.size(); ++i) ASSERT_EQ(done[i], pieces[i]) << "task " << i << " on " << threads << " threads";
  }
  std::vector<std::atomic<int64_t>> done;
  std::vector<int64_t> pieces;
  TaskGraph graph;
};

TEST(TaskGraph, EveryTaskOnceInOrder) {
  for (uint32_t seed = 1; seed <= 8; ++seed) {
    Counted counted(seed);
    for (int threads : {1, 2, 3, 2, 2, 8, 1, 2}) counted.run(threads);
  }
}

TEST(TaskGraph, ListsThatNobodyComesForAreTaken) {
  Counted counted(1, 60);
  tbb::task_arena alone(1);
  for (int threads : {2, 5}) alone.execute([&] { counted.run(threads); });
}

TEST(TaskGraph, AFailureEndsTheRun) {
  for (int threads : {1, 2, 4}) {
    Counted counted(2, 50);
    counted.graph.add(std::make_unique<Throwing>(), {20, 49});
    EXPECT_THROW(counted.graph.run(threads), std::runtime_error);
  }
}

TEST(TaskGraph, ConstantsAreAnnouncedBeforeTheyAreRead) {
  const std::vector<uint8_t> bytes(300);
  const std::span<const uint8_t> a(bytes.data(), 100), b(bytes.data() + 100, 200), none;
  std::vector<Upcoming> seen;
  TaskGraph graph;
  for (const auto& operand : {a, none, a, b, none, b, a}) graph.add(std::make_unique<Watching>(seen), {}, operand);
  graph.run(1);
  auto at = [](std::span<const uint8_t> s) { return reinterpret_cast<uintptr_t>(s.data()); };
  const uintptr_t expected[] = {0, 0, at(b), at(b), at(b), at(a), at(a)};
  ASSERT_EQ(seen.size(), std::size(expected));
  for (size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i].at, expected[i]) << "task " << i;
  EXPECT_EQ(seen[2].end - seen[2].at, b.size());
  EXPECT_EQ(t_upcoming.at, 0u);
}

TEST(Upcoming, LinesEndWithTheConstant) {
  const std::vector<uint8_t> bytes(300);
  const auto first = reinterpret_cast<uintptr_t>(bytes.data());
  Upcoming u{first, first + bytes.size()};
  for (int i = 0; i < 9; ++i) fetch(u, 2);
  EXPECT_EQ(u.at, first + 3 * 128);
}

}  // namespace
}  // namespace systole
