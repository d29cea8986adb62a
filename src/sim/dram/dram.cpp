#include "sim/dram/dram.h"

#include <algorithm>

namespace systole {

Dram::Dram(const DramTiming& timing)
    : t_(timing),
      burst_cycles_(std::max<int64_t>(1, (timing.burst_bytes + timing.bytes_per_cycle - 1) / timing.bytes_per_cycle)),
      by_burst_(timing.burst_bytes),
      by_row_(timing.row_bytes),
      by_banks_(timing.banks),
      by_burst_cycles_(burst_cycles_),
      bursts_per_row_(timing.row_bytes % timing.burst_bytes ? 0 : timing.row_bytes / timing.burst_bytes),
      banks_(static_cast<size_t>(timing.banks)),
      next_refresh_(timing.refresh_interval_cycles) {}

/// All banks refresh together: nothing starts inside a refresh, and rows are closed after it.
void Dram::refresh_until(int64_t cycle) {
  while (std::max(cycle, bus_free_) >= next_refresh_) {
    const int64_t end = next_refresh_ + t_.refresh_cycles;
    bus_free_ = std::max(bus_free_, end);
    for (Bank& b : banks_) b.ready = std::max(b.ready, end), b.row = -1;
    next_refresh_ += t_.refresh_interval_cycles;
  }
}

inline int64_t Dram::burst(int64_t cycle, int64_t row_index, bool write) {
  // Rows interleave over banks, so a stream opens the next row while it reads this one.
  Bank& bank = banks_[static_cast<size_t>(by_banks_.rest(row_index))];
  const int64_t row = by_banks_.of(row_index);
  if (t_.refresh_interval_cycles && std::max(cycle, bus_free_) >= next_refresh_) refresh_until(cycle);
  int64_t command = cycle;
  if (bank.row != row) {
    // The activate may have been issued as early as the bank was idle: the controller looks ahead in its queue by as much
    // as activation takes.
    const int64_t open = t_.activate_cycles + (bank.row >= 0 ? t_.precharge_cycles : 0);
    command = std::max({cycle, bank.ready}) + open;
    const int64_t hidden = std::clamp<int64_t>(bus_free_ - std::max(cycle, bank.ready), 0, open);
    command -= hidden;
    command = std::max(command, bank.ready);
    bank.row = row;
    ++row_misses_;
  }
  const int64_t turn = write != last_write_ ? t_.turnaround_cycles : 0;
  const int64_t start = std::max(command, bus_free_ + turn);
  bus_free_ = start + burst_cycles_;
  bank.ready = bus_free_;
  last_write_ = write;
  (write ? bytes_written_ : bytes_read_) += t_.burst_bytes;
  return bus_free_ + t_.cas_cycles;
}

/// Whole rows of a stream, as many as follow each other without a gap: each was opened in its bank while the bus was busy with those
/// before it, and no refresh comes in between. What `burst` would do for their bursts, in one step a row.
int64_t Dram::stream(int64_t cycle, int64_t row_index, int64_t rows, bool write) {
  if (write != last_write_) return 0;
  const int64_t open = t_.activate_cycles + t_.precharge_cycles, row_cycles = bursts_per_row_ * burst_cycles_;
  int64_t done = 0;
  for (; done < rows; ++done, ++row_index) {
    Bank& bank = banks_[static_cast<size_t>(by_banks_.rest(row_index))];
    const int64_t row = by_banks_.of(row_index);
    if (bank.row == row || bus_free_ - std::max(cycle, bank.ready) < open) break;
    if (t_.refresh_interval_cycles && bus_free_ + row_cycles - burst_cycles_ >= next_refresh_) break;
    bank.row = row;
    bus_free_ += row_cycles;
    bank.ready = bus_free_;
  }
  row_misses_ += done;
  (write ? bytes_written_ : bytes_read_) += done * t_.row_bytes;
  return done;
}

int64_t Dram::access(int64_t cycle, uint64_t address, int64_t bytes, bool write) {
  const int64_t size = t_.burst_bytes, end = static_cast<int64_t>(address) + bytes;
  int64_t done = cycle;
  for (int64_t at = static_cast<int64_t>(address) - by_burst_.rest(static_cast<int64_t>(address)); at < end;) {
    const int64_t row = by_row_.of(at);
    if (bursts_per_row_ && by_row_.rest(at) == 0 && end - at >= t_.row_bytes) {
      if (const int64_t rows = stream(cycle, row, by_row_.of(end - at), write)) {
        at += rows * t_.row_bytes;
        done = bus_free_ + t_.cas_cycles;
        continue;
      }
    }
    done = burst(cycle, row, write);
    // The bursts that follow in the open row leave the bus no gap until the next refresh is due.
    const int64_t row_end = std::min(end, (row + 1) * t_.row_bytes);
    at += size;
    int64_t more = at < row_end ? by_burst_.of(row_end - at + size - 1) : 0;
    if (t_.refresh_interval_cycles) more = std::min(more, next_refresh_ > bus_free_ ? by_burst_cycles_.of(next_refresh_ - bus_free_ + burst_cycles_ - 1) : 0);
    if (more == 0) continue;
    bus_free_ += more * burst_cycles_;
    banks_[static_cast<size_t>(by_banks_.rest(row))].ready = bus_free_;
    (write ? bytes_written_ : bytes_read_) += more * size;
    at += more * size;
    done = bus_free_ + t_.cas_cycles;
  }
  return done;
}

void Dram::access(Stream& s, uint64_t address, int64_t bytes, int64_t stride, int64_t count) {
  int64_t at = static_cast<int64_t>(address);
  for (int64_t i = 0; i < count; ++i, at += stride) {
    const int64_t first = by_burst_.of(at), last = by_burst_.of(at + bytes - 1);
    if (first != s.last_burst || bytes > t_.burst_bytes) s.done = first == last ? burst(s.cycle, by_row_.of(at - by_burst_.rest(at)), s.write) : access(s.cycle, static_cast<uint64_t>(at), bytes, s.write);
    s.last_burst = last;
  }
}

}  // namespace systole
