// What happened when, for pictures: the work of each engine, what each item waited for, what the scratchpad held, power and
// bandwidth over time.
#pragma once
#include <string>
#include <vector>

#include "isa/program.h"
#include "sim/timing/timing.h"
#include "systole/systole.h"

namespace systole {

/// One instruction on its engine. Descriptor writes are left out.
struct TimelineItem {
  int engine = 0;                 ///< isa::Engine
  int64_t layer = 0;              ///< of Report::layers
  int64_t dispatched = 0, start = 0, end = 0;  ///< cycles
  int64_t waited_for = -1;        ///< item whose end let this one start, where a distance held it until then
  int64_t dram_bytes = 0;
};

/// Bytes of the scratchpad that hold data of one layer: from the write to the last read before the next write.
struct Residence {
  int64_t slice = 0, layer = 0, from = 0, to = 0;  ///< slice of kMemorySlices equal parts; cycles
};
inline constexpr int64_t kMemorySlices = 128;

struct Timeline {
  int64_t cycles = 0;
  double clock_hz = 0;
  std::vector<TimelineItem> items;
  std::vector<Residence> memory;
  std::vector<double> power_w, dram_bytes_per_s;  ///< over equal slices
};

/// Adds a program after what the timeline holds; `first_layer` is the number of its first layer.
void append(Timeline& timeline, const isa::Program& program, const Machine& machine, const isa::Sequence& sequence, const Timing& timing, const std::vector<double>& power_w, int64_t first_layer);

/// Chrome's trace event format, which Perfetto reads: a track per engine, arrows for waits, counters for power and bandwidth.
std::string trace_json(const Report& report, const Timeline& timeline);

/// One page without references to the network. `comparison` may be empty.
std::string html_page(const Report& report, const Timeline& timeline, const Machine& machine, const Comparison& comparison);

/// A line per layer, with units in the heads.
std::string to_csv(const Report& report);

}  // namespace systole
