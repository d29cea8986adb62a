// The one place that starts threads. Results never depend on the count: work items write disjoint outputs.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

namespace systole {

/// Cores that this process may use: those it may run on, or fewer where its container has a quota of time (cgroup v2), rounded up.
int usable_cores();
/// The number that "max 100000" or "150000 100000" in a cpu.max file stands for, or 0 for no limit and for anything else.
int cores_of_quota(const std::string& cpu_max);

/// Limits `parallel_for` in this process; 0 means all usable cores.
void set_thread_count(int threads);
int thread_count();

/// Calls body(begin, end) over disjoint chunks of [0, n), each at least `grain` long, on the host's threads.
void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

}  // namespace systole
