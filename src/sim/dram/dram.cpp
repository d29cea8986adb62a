#include "sim/dram/dram.h"

#include <algorithm>

namespace systole {

Dram::Dram(const DramTiming& timing)
    : t_(timing), burst_cycles_(std::max<int64_t>(1, (timing.burst_bytes + timing.bytes_per_cycle - 1) / timing.bytes_per_cycle)), banks_(static_cast<size_t>(timing.banks)), next_refresh_(timing.refresh_interval_cycles) {}

int64_t Dram::burst(int64_t cycle, uint64_t address, bool write) {
  // Rows interleave over banks, so a stream opens the next row while it reads this one.
  const int64_t row_index = static_cast<int64_t>(address) / t_.row_bytes;
  Bank& bank = banks_[static_cast<size_t>(row_index % t_.banks)];
  const int64_t row = row_index / t_.banks;
  // All banks refresh together: nothing starts inside a refresh, and rows are closed after it.
  while (t_.refresh_interval_cycles && std::max(cycle, bus_free_) >= next_refresh_) {
    const int64_t end = next_refresh_ + t_.refresh_cycles;
    bus_free_ = std::max(bus_free_, end);
    for (Bank& b : banks_) b.ready = std::max(b.ready, end), b.row = -1;
    next_refresh_ += t_.refresh_interval_cycles;
  }
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

int64_t Dram::access(int64_t cycle, uint64_t address, int64_t bytes, bool write) {
  const int64_t size = t_.burst_bytes, end = static_cast<int64_t>(address) + bytes;
  int64_t done = cycle;
  for (int64_t at = static_cast<int64_t>(address) / size * size; at < end;) {
    done = burst(cycle, static_cast<uint64_t>(at), write);
    // The bursts that follow in the open row leave the bus no gap until the next refresh is due.
    const int64_t row = at / t_.row_bytes, row_end = std::min(end, (row + 1) * t_.row_bytes);
    at += size;
    int64_t more = std::max<int64_t>(0, (row_end - at + size - 1) / size);
    if (t_.refresh_interval_cycles) more = std::clamp<int64_t>((next_refresh_ - bus_free_ + burst_cycles_ - 1) / burst_cycles_, 0, more);
    if (more == 0) continue;
    bus_free_ += more * burst_cycles_;
    banks_[static_cast<size_t>(row % t_.banks)].ready = bus_free_;
    (write ? bytes_written_ : bytes_read_) += more * size;
    at += more * size;
    done = bus_free_ + t_.cas_cycles;
  }
  return done;
}

}  // namespace systole
