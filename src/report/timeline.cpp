#include "report/timeline.h"

#include <algorithm>
#include <array>

#include "isa/footprint.h"

namespace systole {
namespace {

constexpr size_t kBandwidthSteps = 240;

/// What the distances of one instruction wait for: the last instruction of each engine that must have retired.
class Waits {
 public:
  int64_t latest(const isa::Dispatched& op, const Timing& timing) {
    int64_t best = -1;
    for (size_t f = 0; f < isa::kEngines; ++f) {
      if (op.wait[f] == isa::kNoWait) continue;
      const int64_t position = static_cast<int64_t>(queues_[f].size()) - op.wait[f] - 1;
      if (position < 0) continue;
      const int64_t i = queues_[f][static_cast<size_t>(position)];
      if (best < 0 || timing.events[static_cast<size_t>(i)].retire > timing.events[static_cast<size_t>(best)].retire) best = i;
    }
    return best;
  }
  void dispatched(size_t engine, size_t i) { queues_[engine].push_back(static_cast<int64_t>(i)); }

 private:
  std::array<std::vector<int64_t>, isa::kEngines> queues_;
};

/// Owners of the scratchpad's slices over time.
class Memory {
 public:
  Memory(Timeline& t, int64_t bytes, int64_t offset) : timeline_(t), slice_bytes_(std::max<int64_t>(1, bytes / kMemorySlices)), offset_(offset), open_(kMemorySlices, Residence{0, -1, 0, 0}) {}
  void touch(const isa::Touch& t, int64_t layer, int64_t start, int64_t end) {
    if (t.space != isa::Space::kScratchpad) return;
    const int64_t first = std::clamp<int64_t>(t.lo / slice_bytes_, 0, kMemorySlices - 1), last = std::clamp<int64_t>((t.hi - 1) / slice_bytes_, 0, kMemorySlices - 1);
    for (int64_t s = first; s <= last; ++s) {
      Residence& r = open_[static_cast<size_t>(s)];
      if (t.write && r.layer != layer) {
        close(s);
        r = {s, layer, offset_ + start, offset_ + end};
      }
      if (r.layer >= 0) r.to = std::max(r.to, offset_ + end);
    }
  }
  void close_all() {
    for (int64_t s = 0; s < kMemorySlices; ++s) close(s);
  }

 private:
  void close(int64_t s) {
    Residence& r = open_[static_cast<size_t>(s)];
    if (r.layer >= 0) timeline_.memory.push_back(r);
    r.layer = -1;
  }
  Timeline& timeline_;
  const int64_t slice_bytes_, offset_;
  std::vector<Residence> open_;
};

std::vector<double> bandwidth(const Timing& timing, double clock_hz) {
  std::vector<double> bytes(kBandwidthSteps, 0);
  const double slice = static_cast<double>(timing.cycles) / kBandwidthSteps;
  if (slice <= 0) return {};
  for (const Event& e : timing.events) {
    const double moved = static_cast<double>(e.dram_read_bytes + e.dram_write_bytes), from = static_cast<double>(e.start), to = std::max(from + 1, static_cast<double>(e.retire));
    if (moved == 0) continue;
    for (size_t k = std::min(kBandwidthSteps - 1, static_cast<size_t>(from / slice)); k < kBandwidthSteps && static_cast<double>(k) * slice < to; ++k) {
      const double lo = static_cast<double>(k) * slice;
      bytes[k] += moved * (std::min(to, lo + slice) - std::max(from, lo)) / (to - from);
    }
  }
  for (double& b : bytes) b *= clock_hz / slice;
  return bytes;
}

}  // namespace

void append(Timeline& t, const isa::Program& program, const Machine& machine, const isa::Sequence& sequence, const Timing& timing, const std::vector<double>& power_w, int64_t first_layer) {
  t.clock_hz = static_cast<double>(machine.clock_hz);
  std::vector<int64_t> item_of(sequence.ops.size(), -1);
  Waits waits;
  std::vector<size_t> order;
  for (size_t i = 0; i < sequence.ops.size(); ++i) {
    const isa::Dispatched& op = sequence.ops[i];
    const Event& e = timing.events[i];
    const int64_t held = waits.latest(op, timing);
    waits.dispatched(static_cast<size_t>(op.engine), i);
    if (std::holds_alternative<isa::DescriptorWrite>(op.op)) continue;
    order.push_back(i);
    item_of[i] = static_cast<int64_t>(t.items.size());
    const bool binding = held >= 0 && item_of[static_cast<size_t>(held)] >= 0 && timing.events[static_cast<size_t>(held)].retire == e.start && e.dispatched < e.start;
    t.items.push_back({static_cast<int>(op.engine), first_layer + program.layer_of[op.index], t.cycles + e.dispatched, t.cycles + e.start, t.cycles + e.retire,
                       binding ? item_of[static_cast<size_t>(held)] : -1, e.dram_read_bytes + e.dram_write_bytes});
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return timing.events[a].start < timing.events[b].start; });
  Memory memory(t, machine.memory.scratchpad_bytes, t.cycles);
  for (size_t i : order) {
    const isa::Dispatched& op = sequence.ops[i];
    for (const isa::Touch& touch : isa::footprint(op, machine.mx.columns)) memory.touch(touch, first_layer + program.layer_of[op.index], timing.events[i].start, timing.events[i].retire);
  }
  memory.close_all();
  const auto moved = bandwidth(timing, t.clock_hz);
  t.power_w.insert(t.power_w.end(), power_w.begin(), power_w.end());
  t.dram_bytes_per_s.insert(t.dram_bytes_per_s.end(), moved.begin(), moved.end());
  t.cycles += timing.cycles;
}

}  // namespace systole
