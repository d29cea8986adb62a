#include "sim/timing/timing.h"

#include <algorithm>

#include "base/error.h"
#include "isa/geometry.h"
#include "machine/instruction_cost.h"
#include "sim/dram/dram.h"

namespace systole {

using isa::Engine;

const char* to_string(Stall stall) {
  constexpr const char* kNames[] = {"dependency", "bank", "dram", "fetch", "done"};
  return kNames[static_cast<int>(stall)];
}

namespace {

constexpr int64_t kNever = INT64_MAX;

class Simulator {
 public:
  Simulator(const isa::Sequence& sequence, const Machine& machine) : seq_(sequence), m_(machine), dram_(machine.dram) {
    result_.events.resize(seq_.ops.size());
    std::array<size_t, isa::kEngines> of_engine{};
    for (const auto& op : seq_.ops) ++of_engine[static_cast<size_t>(op.engine)];
    for (size_t e = 0; e < isa::kEngines; ++e) queue_[e].reserve(of_engine[e]);
    for (size_t i = 0; i < seq_.ops.size(); ++i) queue_[static_cast<size_t>(seq_.ops[i].engine)].push_back(static_cast<uint32_t>(i));
    resolve_targets();
  }

  /// What its cycles went to is for those who look at it.
  enum class Account { kCyclesAlone, kInFull };
  /// Up to the end, or to the first event after `limit`.
  Timing run(Account detail, int64_t limit = kNever) {
    int64_t now = 0;
    while (retired_total_ < seq_.ops.size() && now <= limit) {
      retire(now);
      // A dispatch or start may enable another in the same cycle.
      for (bool moved = true; moved;) {
        moved = dispatch(now);
        for (size_t e = 0; e < isa::kEngines; ++e) moved |= start(e, now);
      }
      const int64_t next = next_event(now);
      if (retired_total_ == seq_.ops.size()) break;
      SYSTOLE_CHECK(next != kNever, "no event at cycle " + std::to_string(now) + ": the program waits for itself");
      if (detail == Account::kInFull) account(now, next);
      now = next;
    }
    result_.cycles = now;
    result_.dram_read_bytes = dram_.bytes_read(), result_.dram_write_bytes = dram_.bytes_written(), result_.dram_row_misses = dram_.row_misses();
    return std::move(result_);
  }

 private:
  /// For each instruction and engine: how many instructions of that engine must have retired before it may start.
  void resolve_targets() {
    targets_.resize(seq_.ops.size());
    std::array<int64_t, isa::kEngines> dispatched{};
    for (size_t i = 0; i < seq_.ops.size(); ++i) {
      const size_t own = static_cast<size_t>(seq_.ops[i].engine);
      for (size_t f = 0; f < isa::kEngines; ++f) targets_[i][f] = seq_.ops[i].wait[f] == isa::kNoWait ? 0 : std::max<int64_t>(0, dispatched[f] - seq_.ops[i].wait[f]);
      ++dispatched[own];
    }
  }

  void retire(int64_t now) {
    for (size_t e = 0; e < isa::kEngines; ++e) {
      while (retired_[e] < started_[e] && result_.events[queue_[e][retired_[e]]].retire <= now) {
        locks_ &= ~seq_.ops[queue_[e][retired_[e]]].locks;
        ++retired_[e], ++retired_total_;
      }
    }
  }

  /// CT: one instruction per cycle at most, and not before its words are fetched.
  bool dispatch(int64_t now) {
    if (next_ == seq_.ops.size()) return false;
    const size_t e = static_cast<size_t>(seq_.ops[next_].engine);
    if (!fetch_known_) {
      const int64_t cycles = std::max<int64_t>(1, ceil_div(int64_t{seq_.words_before[next_]} * isa::kWordBytes, m_.control.fetch_bytes_per_cycle));
      // Fetch runs ahead of dispatch through a small buffer.
      fetched_at_ = std::max(fetched_at_, last_dispatch_ - kPrefetchCycles) + cycles;
      fetch_known_ = true;
    }
    if (now < fetched_at_ || now <= last_dispatch_ || dispatched_[e] - started_[e] >= m_.control.fifo_depth || !window_open()) return false;
    result_.events[next_].dispatched = now;
    ++dispatched_[e], ++next_;
    last_dispatch_ = now;
    fetch_known_ = false;
    return true;
  }

  bool window_open() const {
    for (size_t f = 0; f < isa::kEngines; ++f) {
      if (started_[f] < dispatched_[f] && queue_[f][started_[f]] + static_cast<uint32_t>(m_.control.window) < next_) return false;
    }
    return true;
  }

  bool is_dma(size_t e) const { return e < 2; }

  /// Why the head of this engine's queue cannot start now; kDone when it can.
  Stall blocked(size_t e, int64_t now) const {
    if (started_[e] == dispatched_[e]) return next_ == seq_.ops.size() && started_[e] == std::ssize(queue_[e]) ? Stall::kDone : Stall::kFetch;
    const uint32_t i = queue_[e][started_[e]];
    for (size_t f = 0; f < isa::kEngines; ++f) {
      if (static_cast<int64_t>(retired_[f]) < targets_[i][f]) return Stall::kDependency;
    }
    if (locks_ & seq_.ops[i].locks) return Stall::kBank;
    if (now < port_free_[e]) return Stall::kDram;
    return Stall::kDone;
  }

  bool start(size_t e, int64_t now) {
    if (started_[e] == dispatched_[e]) return false;
    if (is_dma(e) ? now < port_free_[e] : retired_[e] < started_[e]) return false;
    if (blocked(e, now) != Stall::kDone) return false;
    const uint32_t i = queue_[e][started_[e]];
    const auto& op = seq_.ops[i];
    Event& event = result_.events[i];
    event.start = now;
    locks_ |= op.locks;
    ++started_[e];
    if (std::holds_alternative<isa::DescriptorWrite>(op.op)) event.retire = now + 1, port_free_[e] = now + 1;
    else if (is_dma(e)) {
      event.dram_read_bytes = -dram_.bytes_read(), event.dram_write_bytes = -dram_.bytes_written(), event.dram_row_misses = -dram_.row_misses();
      const auto* c = std::get_if<isa::CopyOp>(&op.op);
      event.retire = c ? copy(*c, port_cycles(m_, *c), e, now) : dequantize(std::get<isa::DequantizeOp>(op.op), e, now);
      event.dram_read_bytes += dram_.bytes_read(), event.dram_write_bytes += dram_.bytes_written(), event.dram_row_misses += dram_.row_misses();
    }
    else if (const auto* x = std::get_if<isa::MatrixOp>(&op.op)) event.retire = now + cycles_of(m_, *x), result_.macs += macs_of(*x);
    else event.retire = now + cycles_of(m_, std::get<isa::VectorOp>(op.op));
    if (is_dma(e)) event.retire = last_retire_[e] = std::max(event.retire, last_retire_[e]);  // in order
    busy_until_[e] = std::max(busy_until_[e], event.retire);
    return true;
  }

  /// Addresses go out at the port's rate; data comes back when DRAM has it. Returns the retire cycle.
  int64_t copy(const isa::CopyOp& c, int64_t port, size_t e, int64_t now) {
    const bool from_dram = c.src == isa::Space::kDram, to_dram = c.dst == isa::Space::kDram;
    const int64_t begin = now + m_.dma.start_cycles;
    int64_t done = begin + port;
    int64_t issued = done;
    if (from_dram) done = std::max(done, walk(c, begin, false, issued));
    if (to_dram) done = std::max(done, walk(c, from_dram ? done : begin, true, issued));
    // The next copy's addresses follow this one's, limited by the buffer's credit.
    port_free_[e] = std::max(begin + port, issued - m_.dma.buffer_bytes / m_.dram.bytes_per_cycle);
    return done;
  }

  /// A copy of the records whose port carries the floats.
  int64_t dequantize(const isa::DequantizeOp& d, size_t e, int64_t now) {
    isa::CopyDesc bytes;
    bytes.extents.back() = static_cast<uint32_t>(d.source_bytes()), bytes.src_strides.back() = bytes.dst_strides.back() = 1;
    return copy({&bytes, isa::Space::kDram, isa::Space::kScratchpad, d.src_address, d.dst_address}, port_cycles(m_, d), e, now);
  }

  /// All bursts of one side of a copy; returns when the last one is done (seen through the interconnect).
  int64_t walk(const isa::CopyOp& c, int64_t cycle, bool write, int64_t& issued) {
    const uint64_t base = write ? c.dst_address : c.src_address;
    Dram::Stream stream{cycle + m_.dram.port_cycles, write, cycle};
    walk_of(m_, c, write).for_each_row([&](int64_t offset, int64_t run, int64_t stride, int64_t count) { dram_.access(stream, base + static_cast<uint64_t>(offset), run, stride, count); });
    issued = stream.done;
    return stream.done + m_.dram.port_cycles;
  }

  int64_t next_event(int64_t now) const {
    int64_t next = kNever;
    auto consider = [&](int64_t t) {
      if (t > now) next = std::min(next, t);
    };
    for (size_t e = 0; e < isa::kEngines; ++e) {
      if (retired_[e] < started_[e]) consider(result_.events[queue_[e][retired_[e]]].retire);
      if (is_dma(e)) consider(port_free_[e]);
    }
    if (next_ < seq_.ops.size()) {
      if (fetch_known_) consider(fetched_at_);
      consider(last_dispatch_ + 1);
    }
    return next;
  }

  /// Charges the cycles [now, next) of each engine to work or to one reason.
  void account(int64_t now, int64_t next) {
    for (size_t e = 0; e < isa::kEngines; ++e) {
      EngineTime& t = result_.engines[e];
      const int64_t busy = std::clamp<int64_t>(busy_until_[e] - now, 0, next - now);
      t.busy += busy;
      const size_t reason = static_cast<size_t>(blocked(e, now));
      t.stalled[reason] += next - now - busy;
      if (started_[e] < dispatched_[e]) result_.events[queue_[e][started_[e]]].stalled[reason] += next - now - busy;
    }
  }

  static constexpr int64_t kPrefetchCycles = 16;

  const isa::Sequence& seq_;
  const Machine& m_;
  Dram dram_;
  Timing result_;
  std::array<std::vector<uint32_t>, isa::kEngines> queue_;
  std::vector<std::array<int64_t, isa::kEngines>> targets_;
  std::array<int64_t, isa::kEngines> dispatched_{};
  std::array<int64_t, isa::kEngines> started_{}, retired_{};
  std::array<int64_t, isa::kEngines> port_free_{}, busy_until_{}, last_retire_{};
  size_t next_ = 0, retired_total_ = 0;
  int64_t last_dispatch_ = -1, fetched_at_ = 0;
  bool fetch_known_ = false;
  uint32_t locks_ = 0;
};

}  // namespace

Timing simulate(const isa::Sequence& sequence, const Machine& machine) { return Simulator(sequence, machine).run(Simulator::Account::kInFull); }

int64_t cost_of(const isa::Program& program, const Machine& machine, const std::vector<isa::StandIn>& stand_ins, int64_t limit) {
  const isa::Sequence sequence = isa::sequence(program);
  Timing t = Simulator(sequence, machine).run(Simulator::Account::kCyclesAlone, limit);
  int64_t cycles = t.cycles, bytes = t.dram_read_bytes + t.dram_write_bytes;
  for (const isa::StandIn& s : stand_ins) {
    if (t.cycles > limit) break;  // and its last events unknown
    int64_t begin = 0, end = 0, moved = 0;
    for (size_t i = 0; i < t.events.size(); ++i) {
      const uint32_t layer = program.layer_of[sequence.ops[i].index];
      if (layer < s.from) begin = std::max(begin, t.events[i].retire);
      if (layer < s.to) end = std::max(end, t.events[i].retire);
      if (layer >= s.from && layer < s.to) moved += t.events[i].dram_read_bytes + t.events[i].dram_write_bytes;
    }
    cycles += (std::max(begin, end) - begin) * s.left_out / s.blocks, bytes += moved * s.left_out / s.blocks;
  }
  return cycles + bytes / machine.dram.bytes_per_cycle / 2;
}

std::function<int64_t(const isa::Program&, const std::vector<isa::StandIn>&, int64_t)> judge_on(const Machine& machine) {
  return [&machine](const isa::Program& p, const std::vector<isa::StandIn>& stand_ins, int64_t limit) { return cost_of(p, machine, stand_ins, limit); };
}

}  // namespace systole
