// What packed operands are given: zeros, apart from each other, on lines of their own, whoever asks.
#include "sim/translate/packed_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <thread>

namespace systole {
namespace {

TEST(PackedMemory, ZerosThatNobodyElseHas) {
  PackedMemory memory;
  std::vector<std::vector<std::pair<uint8_t*, size_t>>> taken(3);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < taken.size(); ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<uint32_t>(t));
      for (int i = 0; i < 200; ++i) {
        const size_t size = random() % 50 == 0 ? 700'000 : random() % 5000;  // some are larger than a first chunk
        uint8_t* at = memory.take(size);
        ASSERT_EQ(reinterpret_cast<uintptr_t>(at) % 64, 0u);
        ASSERT_TRUE(std::all_of(at, at + size, [](uint8_t v) { return v == 0; }));
        std::memset(at, static_cast<int>(t) + 1, size);
        taken[t].emplace_back(at, size);
      }
    });
  }
  for (std::thread& t : threads) t.join();
  for (size_t t = 0; t < taken.size(); ++t) {
    for (auto [at, size] : taken[t]) ASSERT_TRUE(std::all_of(at, at + size, [&](uint8_t v) { return v == t + 1; }));
  }
}

TEST(PackedBytes, TheSameSizeKeepsWhatIsThere) {
  PackedBytes bytes(std::make_shared<PackedMemory>());
  bytes.resize(100);
  bytes.data()[99] = 7;
  const uint8_t* at = bytes.data();
  bytes.resize(100);
  EXPECT_EQ(bytes.data(), at);
  EXPECT_EQ(bytes.data()[99], 7);
  bytes.resize(200);
  EXPECT_EQ(bytes.data()[99], 0);
}

}  // namespace
}  // namespace systole
