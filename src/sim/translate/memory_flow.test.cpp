// The last writers and readers of byte ranges, against a table that keeps them byte by byte.
#include "sim/translate/memory_flow.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace systole {
namespace {

constexpr int64_t kBytes = 200;

struct Byte {
  uint32_t writer = MemoryFlow::kNobody;
  std::set<uint32_t> hidden;   ///< may have written it: writes with holes since the last dense one
  std::set<uint32_t> readers;
};

TEST(MemoryFlow, OrdersWhatTouchesTheSameBytes) {
  std::mt19937_64 rng(5);
  auto any = [&](int64_t lo, int64_t hi) { return std::uniform_int_distribution<int64_t>(lo, hi)(rng); };
  for (int round = 0; round < 200; ++round) {
    MemoryFlow flow;
    std::vector<Byte> bytes(kBytes);
    std::vector<std::set<uint32_t>> after;  // transitively, per task
    for (uint32_t task = 0; task < 40; ++task) {
      const int64_t lo = any(0, kBytes - 2), hi = any(lo + 1, std::min(kBytes, lo + 40));
      const bool write = any(0, 2) > 0, dense = any(0, 3) > 0;
      std::set<uint32_t> needed;  // every task that must come before, by the definition
      for (int64_t b = lo; b < hi; ++b) {
        Byte& at = bytes[static_cast<size_t>(b)];
        if (at.writer != MemoryFlow::kNobody) needed.insert(at.writer);
        needed.insert(at.hidden.begin(), at.hidden.end());
        if (write) needed.insert(at.readers.begin(), at.readers.end());
      }
      if (!write) {
        // Writers as the translator asks for them: exact where only dense writes lie under the range.
        bool holes = false, untouched = false;
        std::set<uint32_t> writers;
        for (int64_t b = lo; b < hi; ++b) {
          const Byte& at = bytes[static_cast<size_t>(b)];
          holes |= !at.hidden.empty(), untouched |= at.writer == MemoryFlow::kNobody;
          if (at.writer != MemoryFlow::kNobody) writers.insert(at.writer);
        }
        const auto found = flow.writers(isa::Space::kScratchpad, lo, hi);
        const bool nobody = std::count(found.begin(), found.end(), MemoryFlow::kNobody) > 0;
        EXPECT_EQ(nobody, holes || untouched);
        if (!holes) {
          std::set<uint32_t> got(found.begin(), found.end());
          got.erase(MemoryFlow::kNobody);
          EXPECT_EQ(got, writers);
        }
      }
      std::vector<uint32_t> edges;
      write ? flow.write(isa::Space::kScratchpad, lo, hi, task, dense, edges) : flow.read(isa::Space::kScratchpad, lo, hi, task, edges);
      std::set<uint32_t> reach;
      for (uint32_t e : edges) {
        ASSERT_LT(e, task);
        reach.insert(e);
        reach.insert(after[e].begin(), after[e].end());
      }
      EXPECT_TRUE(std::includes(reach.begin(), reach.end(), needed.begin(), needed.end())) << "round " << round << ", task " << task;
      after.push_back(std::move(reach));
      for (int64_t b = lo; b < hi; ++b) {
        Byte& at = bytes[static_cast<size_t>(b)];
        if (!write) at.readers.insert(task);
        else if (dense) at = {task, {}, {}};
        else at.hidden.insert(task), at.readers.clear();
      }
    }
    EXPECT_FALSE(flow.used(1000));
  }
}

}  // namespace
}  // namespace systole
