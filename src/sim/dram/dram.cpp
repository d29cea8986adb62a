#include "sim/dram/dram.h"

#include <algorithm>

namespace systole {

Dram::Dram(const DramTiming& timing)
    : t_(timing),
      by_burst_(timing.burst_bytes),
      by_row_(timing.row_bytes),
      by_banks_(timing.banks),
      by_tick_(timing.bytes_per_cycle),
      banks_(static_cast<size_t>(timing.banks)) {
  bus_.next_refresh = timing.refresh_interval_cycles ? ticks(timing.refresh_interval_cycles) : INT64_MAX;
}

/// All banks refresh together: nothing starts inside a refresh, and rows are closed after it.
Dram::Bus Dram::refreshed(Bus bus, int64_t tick) {
  while (std::max(tick, bus.free) >= bus.next_refresh) {
    const int64_t end = bus.next_refresh + ticks(t_.refresh_cycles);
    bus.free = std::max(bus.free, end);
    for (Bank& b : banks_) b.ready = std::max(b.ready, end), b.row = -1;
    bus.next_refresh += ticks(t_.refresh_interval_cycles);
  }
  return bus;
}

/// What a copy's bursts look at and change, out of memory's way: models have millions of them.
class Dram::Transfer {
 public:
  Transfer(Dram& dram, int64_t cycle, bool write)
      : dram_(dram), bus_(dram.bus_), banks_(dram.banks_.data()), by_banks_(dram.by_banks_), by_row_(dram.by_row_), by_burst_(dram.by_burst_), size_(dram.t_.burst_bytes), row_bytes_(dram.t_.row_bytes),
        activate_(dram.ticks(dram.t_.activate_cycles)), precharge_(dram.ticks(dram.t_.precharge_cycles)), turn_(write != dram.bus_.last_write ? dram.ticks(dram.t_.turnaround_cycles) : 0), tick_(dram.ticks(cycle)), cycle_(cycle), write_(write) {}
  /// The cycle after the last beat.
  int64_t finish() {
    if (bursts_ == 0) return cycle_;
    (write_ ? dram_.bytes_written_ : dram_.bytes_read_) += bursts_ * size_;
    bus_.last_write = write_;
    dram_.bus_ = bus_;
    return dram_.by_tick_.of(bus_.free + dram_.t_.bytes_per_cycle - 1) + dram_.t_.cas_cycles;
  }

  /// Bursts first to last.
  [[gnu::always_inline]] inline void serve(int64_t first, int64_t last) {
    const int64_t end = (last + 1) * size_;
    for (int64_t at = first * size_; at < end;) {
      const int64_t row = by_row_.of(at), left = std::min(end, (row + 1) * row_bytes_) - at;
      int64_t bursts = by_burst_.of(left + size_ - 1);
      while (!visit(row, bursts)) {
        if (bursts > 1) bursts = 1;
        else bus_ = dram_.refreshed(bus_, tick_);
      }
      at += bursts * size_;
    }
  }

 private:
  /// Bursts that follow each other in a row; false, and nothing done, where a refresh comes before the last of them.
  [[gnu::always_inline]] inline bool visit(int64_t row_index, int64_t bursts) {
    if (std::max(tick_, bus_.free) >= bus_.next_refresh) return false;
    // Rows interleave over banks, so a stream opens the next row while it reads this one.
    Bank& bank = banks_[static_cast<size_t>(by_banks_.rest(row_index))];
    const int64_t row = by_banks_.of(row_index);
    const bool opens = bank.row != row;
    // Most often the row was opened while the bus was busy: what follows would find the same.
    if (opens && turn_ == 0 && bus_.free - std::max(tick_, bank.ready) >= activate_ + precharge_ && bus_.free + (bursts - 1) * size_ < bus_.next_refresh) {
      bank.row = row, ++bus_.row_misses;
      bank.ready = bus_.free += bursts * size_;
      bursts_ += bursts;
      return true;
    }
    int64_t command = tick_;
    if (opens) {
      // The activate may have been issued as early as the bank was idle: the controller looks ahead in its queue by as much
      // as activation takes.
      const int64_t open = activate_ + (bank.row >= 0 ? precharge_ : 0), idle = std::max(tick_, bank.ready);
      command = std::max(idle + open - std::clamp<int64_t>(bus_.free - idle, 0, open), bank.ready);
    }
    const int64_t start = std::max(command, bus_.free + turn_);
    if (bursts > 1 && start + (bursts - 1) * size_ >= bus_.next_refresh) return false;
    bank.row = row, bus_.row_misses += opens;
    bank.ready = bus_.free = start + bursts * size_;
    turn_ = 0, bursts_ += bursts;
    return true;
  }

  Dram& dram_;
  Bus bus_;
  Bank* const banks_;
  const Divisor by_banks_, by_row_, by_burst_;
  const int64_t size_, row_bytes_;                      ///< bytes; a burst of so many keeps the bus for as many ticks
  const int64_t activate_, precharge_;                  ///< ticks
  int64_t turn_, bursts_ = 0;                           ///< ticks; a count
  const int64_t tick_, cycle_;                          ///< when it may begin
  const bool write_;
};

int64_t Dram::access(int64_t cycle, uint64_t address, int64_t bytes, bool write) {
  Stream stream{cycle, write, cycle};
  access(stream, address, bytes, 0, 1);
  return stream.done;
}

void Dram::access(Stream& s, uint64_t address, int64_t bytes, int64_t stride, int64_t count) {
  if (bytes <= 0 || count <= 0) return;
  int64_t at = static_cast<int64_t>(address);
  if (stride == bytes || (stride > bytes && stride <= t_.burst_bytes)) bytes += (count - 1) * stride, count = 1;  // no burst is left out
  Transfer transfer(*this, s.cycle, s.write);
  for (int64_t i = 0; i < count; ++i, at += stride) {
    const int64_t first = by_burst_.of(at), last = by_burst_.of(at + bytes - 1);
    transfer.serve(first == s.last_burst ? first + 1 : first, last);
    s.last_burst = last;
  }
  s.done = std::max(s.done, transfer.finish());
}

}  // namespace systole
