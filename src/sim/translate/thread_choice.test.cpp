// Which runs take all threads, by times that the test makes up.
#include "sim/translate/thread_choice.h"

#include <gtest/gtest.h>

namespace systole {
namespace {

/// Threads of the next `runs` runs, of 1,000 tasks each, where all threads take all_s and a single one one_s.
std::vector<int> choices(ThreadChoice& choice, int all, int runs, double all_s, double one_s) {
  std::vector<int> list;
  for (int i = 0; i < runs; ++i) {
    list.push_back(choice.threads(all, 1000));
    choice.took(list.back() == 1 ? one_s : all_s);
  }
  return list;
}

TEST(ThreadChoice, TakesWhatWasFaster) {
  ThreadChoice a, b;
  EXPECT_EQ(choices(a, 2, 6, 2e-3, 1e-3), (std::vector<int>{2, 2, 1, 2, 1, 1}));
  EXPECT_EQ(choices(b, 2, 6, 1e-3, 2e-3), (std::vector<int>{2, 2, 1, 2, 2, 2}));
}

TEST(ThreadChoice, LongTasksAlwaysTakeAll) {
  ThreadChoice choice;
  EXPECT_EQ(choices(choice, 4, 5, 5e-3, 1e-3), (std::vector<int>{4, 4, 4, 4, 4}));
}

TEST(ThreadChoice, AsksAgain) {
  ThreadChoice choice;
  choices(choice, 2, 64, 2e-3, 1e-3);
  EXPECT_EQ(choices(choice, 2, 5, 1e-3, 2e-3), (std::vector<int>{2, 2, 1, 2, 2}));
}

TEST(ThreadChoice, StartsAnewWithOtherThreads) {
  ThreadChoice choice;
  choices(choice, 2, 5, 2e-3, 1e-3);
  EXPECT_EQ(choices(choice, 8, 2, 2e-3, 1e-3), (std::vector<int>{8, 8}));
  EXPECT_EQ(choices(choice, 1, 4, 2e-3, 1e-3), (std::vector<int>{1, 1, 1, 1}));
}

}  // namespace
}  // namespace systole
