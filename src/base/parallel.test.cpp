#include "base/parallel.h"

#include <gtest/gtest.h>

#include <atomic>

namespace systole {
namespace {

TEST(Parallel, QuotasOfContainers) {
  EXPECT_EQ(cores_of_quota("max 100000"), 0);
  EXPECT_EQ(cores_of_quota("200000 100000"), 2);
  EXPECT_EQ(cores_of_quota("150000 100000\n"), 2);
  EXPECT_EQ(cores_of_quota("1000 100000"), 1);
  for (const char* other : {"", "200000", "-1 100000", "200000 0", "nothing"}) EXPECT_EQ(cores_of_quota(other), 0) << other;
  EXPECT_GE(usable_cores(), 1);
}

TEST(Parallel, EveryPartOnce) {
  std::vector<std::atomic<int>> seen(1000);
  parallel_for(1000, 7, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
  });
  for (const auto& s : seen) EXPECT_EQ(s, 1);
}

}  // namespace
}  // namespace systole
