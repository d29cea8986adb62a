#include "compare/measure.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <vector>

namespace systole {
namespace {

/// Microjoules that the processor packages have used so far, or 0.
double package_energy_uj() {
  double sum = 0;
  std::error_code ec;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/class/powercap", ec)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("intel-rapl:") || std::count(name.begin(), name.end(), ':') != 1) continue;
    double uj = 0;
    if (std::ifstream(entry.path() / "energy_uj") >> uj) sum += uj;
  }
  return sum;
}

}  // namespace

CpuMeasurement measure_runs(const std::string& runtime, const std::function<double()>& run, double seconds) {
  for (int i = 0; i < 3; ++i) run();
  CpuMeasurement m;
  m.runtime = runtime;
  std::vector<double> times;
  const double energy_before = package_energy_uj();
  for (double total = 0; (total < seconds || times.size() < 5) && times.size() < 100000;) times.push_back(run()), total += times.back();
  const double used = package_energy_uj() - energy_before;
  m.runs = static_cast<int64_t>(times.size());
  m.joules_per_run = used > 0 ? used * 1e-6 / static_cast<double>(m.runs) : 0;
  std::sort(times.begin(), times.end());
  m.median_s = times[times.size() / 2];
  m.spread = (times[times.size() * 9 / 10] - times[times.size() / 10]) / m.median_s;
  return m;
}

}  // namespace systole
