// Repeated runs on this CPU: median time and, where RAPL can be read, energy.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

namespace systole {

struct CpuMeasurement {
  std::string runtime;               ///< what ran: name and version
  double median_s = 0, spread = 0;   ///< spread: (90th - 10th percentile) / median
  int64_t runs = 0;
  double joules_per_run = 0;         ///< of the packages, by RAPL; 0: not readable
};

/// Calls `run`, which returns its own seconds, three times and then for about `seconds`, at least five times.
CpuMeasurement measure_runs(const std::string& runtime, const std::function<double()>& run, double seconds);

}  // namespace systole
