// Long accesses against the definition: one burst after another.
#include "sim/dram/dram.h"

#include <gtest/gtest.h>

#include <random>

namespace systole {
namespace {

DramTiming random_timing(std::mt19937_64& rng) {
  DramTiming t = load_machine(std::vector{"edge", "nano", "server"}[rng() % 3]).dram;
  if (rng() % 3 == 0) t.refresh_interval_cycles = 0;
  if (rng() % 4 == 0) t.banks = 1 + static_cast<int64_t>(rng() % 12);
  if (rng() % 4 == 0) t.row_bytes = t.burst_bytes * (1 + static_cast<int64_t>(rng() % 9));
  if (rng() % 4 == 0) t.bytes_per_cycle = 1 + static_cast<int64_t>(rng() % 70);
  if (rng() % 4 == 0) t.refresh_interval_cycles = 300 + static_cast<int64_t>(rng() % 300);
  return t;
}

/// test(rng, timing, fast, slow), with two memories of that timing.
template <class F>
void on_random_memories(uint64_t seed, F&& test) {
  std::mt19937_64 rng(seed);
  for (int machine = 0; machine < 200; ++machine) {
    SCOPED_TRACE("machine " + std::to_string(machine));
    const DramTiming t = random_timing(rng);
    Dram fast(t), slow(t);
    test(rng, t, fast, slow);
  }
}

TEST(Dram, LongAccessesAreTheirBurstsOneByOne) {
  on_random_memories(21, [](std::mt19937_64& rng, const DramTiming& t, Dram& fast, Dram& slow) {
    for (int64_t access = 0, cycle = 0; access < 60; ++access) {
      const uint64_t address = rng() % (1 << 20) / (rng() % 2 ? 1 : static_cast<uint64_t>(t.row_bytes)) * (rng() % 2 ? 1 : static_cast<uint64_t>(t.row_bytes)) % (1 << 22);
      const int64_t bytes = 1 + static_cast<int64_t>(rng() % (rng() % 3 ? 60000 : 200)), size = t.burst_bytes;
      const bool write = rng() % 4 == 0;
      int64_t done = cycle;
      for (int64_t at = static_cast<int64_t>(address) / size * size; at < static_cast<int64_t>(address) + bytes; at += size) done = slow.access(cycle, static_cast<uint64_t>(at), size, write);
      ASSERT_EQ(fast.access(cycle, address, bytes, write), done) << "access " << access;
      ASSERT_EQ(fast.row_misses(), slow.row_misses()) << "access " << access;
      ASSERT_EQ(fast.bytes_read(), slow.bytes_read());
      ASSERT_EQ(fast.bytes_written(), slow.bytes_written());
      if (rng() % 2) cycle = done - static_cast<int64_t>(rng() % 100) + static_cast<int64_t>(rng() % 4 ? 0 : rng() % 2000);
      cycle = std::max<int64_t>(0, cycle);
    }
  });
}

TEST(Dram, StreamsAreTheirBurstsOneByOne) {
  on_random_memories(22, [](std::mt19937_64& rng, const DramTiming& t, Dram& fast, Dram& slow) {
    const int64_t size = t.burst_bytes;
    auto any = [&](int64_t n) { return static_cast<int64_t>(rng() % static_cast<uint64_t>(n)); };
    for (int64_t copy = 0, cycle = 0; copy < 10; ++copy) {
      const bool write = rng() % 2;
      Dram::Stream stream{cycle, write, cycle};
      int64_t done = cycle, last_burst = -1;
      for (int64_t row = 0; row < 6; ++row) {
        const int64_t bytes = 1 + any(rng() % 3 ? 64 : 1000), count = 1 + any(rng() % 3 ? 40 : 400);
        // Near each other, anywhere, or by bursts, parts of rows and rows: what memory images are laid out in.
        const int64_t unit = rng() % 2 ? size : t.row_bytes / (int64_t{1} << any(3));
        const int64_t stride = rng() % 3 == 0 ? bytes + any(9) : rng() % 2 ? any(10000) : unit * (1 + any(6));
        const int64_t address = rng() % 2 ? any(1 << 20) : any(64) * size + any(2) * any(size);
        fast.access(stream, static_cast<uint64_t>(address), bytes, stride, count);
        for (int64_t i = 0, at = address; i < count; ++i, at += stride) {
          for (int64_t b = at / size; b <= (at + bytes - 1) / size; ++b) {
            if (b != last_burst) done = slow.access(cycle, static_cast<uint64_t>(b * size), size, write);
            last_burst = b;
          }
        }
        ASSERT_EQ(stream.done, done) << "copy " << copy << ", row " << row << ": " << count << " runs of " << bytes << ", " << stride << " apart, from " << address;
      }
      ASSERT_EQ(fast.row_misses(), slow.row_misses());
      ASSERT_EQ(fast.bytes_read() + fast.bytes_written(), slow.bytes_read() + slow.bytes_written());
      cycle = std::max<int64_t>(0, done - static_cast<int64_t>(rng() % 100));
    }
  });
}

}  // namespace
}  // namespace systole
