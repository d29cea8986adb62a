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
    const WorkSums sums = sums_of(work);
    auto per_run = [&](WorkClass c, const std::string& shape, const WorkSums::Work& w) {
      return HostWork{to_string(c), w.seconds / n, w.tasks / static_cast<int64_t>(times.size()), shape, w.operations / n};
    };
    for (const auto& [c, w] : sums.classes) profile.work.push_back(per_run(c, "", w));
    if (host_runs > 0) profile.work.push_back({"host operators", host_s / n, host_runs / static_cast<int64_t>(times.size()), "", 0});
    for (const auto& [of, w] : sums.shapes) profile.shapes.push_back(per_run(of.first, of.second, w));
    std::stable_sort(profile.shapes.begin(), profile.shapes.end(), [](const HostWork& a, const HostWork& b) { return a.seconds > b.seconds; });
    return profile;
  });
}

}  // namespace systole
