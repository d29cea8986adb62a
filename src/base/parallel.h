// The one place that starts threads. Results never depend on the count: work items write disjoint outputs.
#pragma once
#include <cstdint>
#include <functional>

namespace systole {

/// Limits `parallel_for` in this process; 0 means all cores of the host.
void set_thread_count(int threads);
int thread_count();

/// Calls body(begin, end) over disjoint chunks of [0, n), each at least `grain` long, on the host's threads.
void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

}  // namespace systole
