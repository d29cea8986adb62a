// Where the host's time goes in a run: kernels by class, host operators, the rest.
#include <algorithm>
#include <chrono>
#include <numeric>

#include "base/parallel.h"
#include "runtime/compiled.h"

namespace systole {
namespace {

constexpr int kRunsToSettle = 4;  ///< until threads know how long tasks take

double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

Result<HostProfile> profile_host(const Compiled& model, const std::vector<Tensor>& inputs, int runs) {
  return catch_failures([&] {
    HostProfile profile;
    profile.threads = std::min(thread_count(), usable_cores());
    auto once = [&] { run(model, inputs).value(); };
    for (int i = 0; i < kRunsToSettle; ++i) once();
    WorkProfile work;
    double host_s = 0;
    int64_t host_runs = 0;
    auto watch = [&](WorkProfile* into) { model->with_plan([&](Plan& plan) { plan.visit_programs([&](LoadedProgram& p) { p.profile = into; }); }); };
    std::vector<double> times;
    watch(&work);
    for (int i = 0; i < std::max(1, runs); ++i) {
      times.push_back(seconds_of(once));
      model->with_plan([&](Plan& plan) { plan.visit_host_nodes([&](HostNodeInfo& n) { host_s += n.seconds, host_runs += n.runs; }); });
    }
    watch(nullptr);
    const auto n = static_cast<double>(times.size());
    profile.run_s = std::accumulate(times.begin(), times.end(), 0.0) / n;  // the mean, like the work's
    for (size_t c = 0; c < work.seconds.size(); ++c) {
      if (work.tasks[c] > 0) profile.work.push_back({to_string(static_cast<WorkClass>(c)), work.seconds[c] / n, work.tasks[c] / static_cast<int64_t>(times.size())});
    }
    if (host_runs > 0) profile.work.push_back({"host operators", host_s / n, host_runs / static_cast<int64_t>(times.size())});
    return profile;
  });
}

}  // namespace systole
