#include "base/parallel.h"

#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <sstream>
#include <thread>

namespace systole {
namespace {
std::unique_ptr<tbb::global_control> g_limit;
int g_threads = 0;
}  // namespace

void set_thread_count(int threads) {
  g_threads = threads > 0 ? threads : 0;
  g_limit.reset();
  if (threads > 0) {
    g_limit = std::make_unique<tbb::global_control>(tbb::global_control::max_allowed_parallelism, static_cast<size_t>(threads));
  }
}

int cores_of_quota(const std::string& cpu_max) {
  std::istringstream in(cpu_max);
  int64_t quota = 0, period = 0;
  if (!(in >> quota >> period) || quota <= 0 || period <= 0) return 0;
  return static_cast<int>(std::min<int64_t>(INT32_MAX, (quota - 1) / period + 1));
}

int usable_cores() {
  static const int cores = [] {
    const int there = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    std::string text;
    std::ifstream file("/sys/fs/cgroup/cpu.max");
    std::getline(file, text);
    const int quota = cores_of_quota(text);
    return quota > 0 ? std::min(there, quota) : there;
  }();
  return cores;
}

int thread_count() { return g_threads > 0 ? g_threads : usable_cores(); }

void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (n <= 0) return;
  if (n <= grain || thread_count() == 1) return body(0, n);
  tbb::parallel_for(
      tbb::blocked_range<int64_t>(0, n, static_cast<size_t>(grain)),
      [&](const tbb::blocked_range<int64_t>& r) { body(r.begin(), r.end()); }, tbb::simple_partitioner());
}

}  // namespace systole
