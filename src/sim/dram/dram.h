// External memory in core cycles: one channel with banks, open rows, bus occupancy, read/write turn-around and refresh.
// A burst is accepted in the order of calls; the class keeps what the next one has to wait for. Integers only, no
// allocation, so that the same class can sit in an RTL harness.
#pragma once
#include <bit>
#include <cstdint>
#include <vector>

#include "machine/machine.h"

namespace systole {

/// Division of numbers from 0 on by a constant that usually is a power of two: an address needs several, and a large model has millions.
class Divisor {
 public:
  explicit Divisor(int64_t by) : by_(by), shift_(std::has_single_bit(static_cast<uint64_t>(by)) ? std::countr_zero(static_cast<uint64_t>(by)) : -1) {}
  int64_t of(int64_t v) const { return shift_ >= 0 ? v >> shift_ : v / by_; }
  int64_t rest(int64_t v) const { return shift_ >= 0 ? v & (by_ - 1) : v % by_; }

 private:
  int64_t by_;
  int shift_;
};

class Dram {
 public:
  explicit Dram(const DramTiming& timing);

  /// Serves the bytes [address, address + bytes) as bursts, not before `cycle`. Returns the cycle after the last beat.
  int64_t access(int64_t cycle, uint64_t address, int64_t bytes, bool write);

  /// What one copy reads or writes, run by run.
  struct Stream {
    int64_t cycle;  ///< nothing of it begins before
    bool write;
    int64_t done;   ///< the cycle after its last beat so far
    int64_t last_burst = -1;
  };
  /// `count` runs of `bytes` bytes, `stride` apart from `address` on: their bursts in order, but for one that the burst before it was already.
  void access(Stream& stream, uint64_t address, int64_t bytes, int64_t stride, int64_t count);

  /// Bytes moved over the bus, whole bursts.
  int64_t bytes_read() const { return bytes_read_; }
  int64_t bytes_written() const { return bytes_written_; }
  int64_t row_misses() const { return bus_.row_misses; }

 private:
  class Transfer;
  // Inside, time counts in ticks: a cycle has bytes_per_cycle of them, so that a burst keeps the bus for as many as it has bytes, whether that
  // is a whole number of cycles or not.
  struct Bank {
    int64_t row = -1;       ///< open row
    int64_t ready = 0;      ///< first tick of a new command
  };
  struct Bus {
    int64_t free = 0, next_refresh = 0;  ///< ticks; INT64_MAX: never
    bool last_write = false;
    int64_t row_misses = 0;
  };
  int64_t ticks(int64_t cycles) const { return cycles * t_.bytes_per_cycle; }
  Bus refreshed(Bus bus, int64_t tick);
  DramTiming t_;
  Divisor by_burst_, by_row_, by_banks_, by_tick_;
  std::vector<Bank> banks_;
  Bus bus_;
  int64_t bytes_read_ = 0, bytes_written_ = 0;
};

}  // namespace systole
