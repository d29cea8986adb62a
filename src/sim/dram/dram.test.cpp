// Long accesses against the definition: one burst after another.
#include "sim/dram/dram.h"

#include <gtest/gtest.h>

#include <random>

namespace systole {
namespace {

TEST(Dram, LongAccessesAreTheirBurstsOneByOne) {
  std::mt19937_64 rng(21);
  for (int machine = 0; machine < 200; ++machine) {
    DramTiming t = load_machine(std::vector{"edge", "nano", "server"}[rng() % 3]).dram;
    if (rng() % 3 == 0) t.refresh_interval_cycles = 0;
    if (rng() % 4 == 0) t.banks = 1 + static_cast<int64_t>(rng() % 12);
    if (rng() % 4 == 0) t.row_bytes = t.burst_bytes * (1 + static_cast<int64_t>(rng() % 9));
    if (rng() % 4 == 0) t.bytes_per_cycle = 1 + static_cast<int64_t>(rng() % 70);
    if (rng() % 4 == 0) t.refresh_interval_cycles = 300 + static_cast<int64_t>(rng() % 300);
    Dram fast(t), slow(t);
    for (int64_t access = 0, cycle = 0; access < 60; ++access) {
      const uint64_t address = rng() % (1 << 20) / (rng() % 2 ? 1 : static_cast<uint64_t>(t.row_bytes)) * (rng() % 2 ? 1 : static_cast<uint64_t>(t.row_bytes)) % (1 << 22);
      const int64_t bytes = 1 + static_cast<int64_t>(rng() % (rng() % 3 ? 60000 : 200)), size = t.burst_bytes;
      const bool write = rng() % 4 == 0;
      int64_t done = cycle;
      for (int64_t at = static_cast<int64_t>(address) / size * size; at < static_cast<int64_t>(address) + bytes; at += size) done = slow.access(cycle, static_cast<uint64_t>(at), size, write);
      ASSERT_EQ(fast.access(cycle, address, bytes, write), done) << "machine " << machine << ", access " << access;
      ASSERT_EQ(fast.row_misses(), slow.row_misses()) << "machine " << machine << ", access " << access;
      ASSERT_EQ(fast.bytes_read(), slow.bytes_read());
      ASSERT_EQ(fast.bytes_written(), slow.bytes_written());
      if (rng() % 2) cycle = done - static_cast<int64_t>(rng() % 100) + static_cast<int64_t>(rng() % 4 ? 0 : rng() % 2000);
      cycle = std::max<int64_t>(0, cycle);
    }
  }
}

}  // namespace
}  // namespace systole
