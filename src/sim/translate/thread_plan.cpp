#include "sim/translate/thread_plan.h"

#include <algorithm>
#include <limits>
#include <set>

namespace systole {
namespace {

constexpr double kHandOver_ns = 400;
constexpr double kWorthSharing_ns = 20'000;
constexpr int kWindow = 32;  ///< so many of the oldest ready tasks are looked at
constexpr uint32_t kNowhere = ~uint32_t{0};

class Planner {
 public:
  Planner(const std::vector<PlannedTask>& tasks, int threads)
      : tasks_(tasks), threads_(static_cast<uint32_t>(threads)), free_ns_(threads_, 0), seen_(threads_, std::vector<uint32_t>(threads_, 0)), blockers_(tasks.size()), followers_(tasks.size()), places_(tasks.size()), arrival_ns_(tasks.size()) {
    plan_.threads.resize(threads_);
    for (uint32_t i = 0; i < tasks.size(); ++i) {
      blockers_[i] = static_cast<uint32_t>(tasks[i].after.size());
      for (uint32_t a : tasks[i].after) followers_[a].push_back(i);
      if (blockers_[i] == 0) make_ready(i);
    }
  }

  ThreadPlan plan() {
    while (!ready_.empty()) {
      const auto [task, thread] = next();
      ready_.erase(task);
      const PlannedTask& t = tasks_[task];
      if (t.pieces > 1 && t.cost_ns >= kWorthSharing_ns && ready_.size() + 1 < threads_) share(task);
      else place(task, thread, 0, t.pieces);
      arrival_ns_[task] = {};
      for (uint32_t f : followers_[task]) {
        if (--blockers_[f] == 0) make_ready(f);
      }
    }
    return std::move(plan_);
  }

 private:
  /// An item of a thread, and when it is expected to be finished.
  struct Place {
    uint32_t thread, item;
    double end_ns;
  };

  void make_ready(uint32_t task) {
    ready_.insert(task);
    auto& arrival = arrival_ns_[task];
    arrival.assign(threads_, 0);
    for (uint32_t a : tasks_[task].after) {
      for (const Place& p : places_[a]) {
        for (uint32_t t = 0; t < threads_; ++t) arrival[t] = std::max(arrival[t], p.end_ns + (p.thread == t ? 0 : kHandOver_ns));
      }
    }
  }
  /// When the thread can start the task, with everything that it reads.
  double start_ns(uint32_t task, uint32_t thread) const {
    const PlannedTask& t = tasks_[task];
    const bool elsewhere = t.operand < home_.size() && home_[t.operand] != kNowhere && home_[t.operand] != thread;
    return std::max(free_ns_[thread], arrival_ns_[task][thread]) + (elsewhere ? t.operand_ns : 0);
  }
  std::pair<uint32_t, uint32_t> next() const {
    std::pair<uint32_t, uint32_t> best{*ready_.begin(), 0};
    const double first_free = *std::min_element(free_ns_.begin(), free_ns_.end());
    double earliest = std::numeric_limits<double>::infinity();
    int looked_at = 0;
    for (auto it = ready_.begin(); it != ready_.end() && looked_at < kWindow && earliest > first_free; ++it, ++looked_at) {
      for (uint32_t t = 0; t < threads_; ++t) {
        const double start = start_ns(*it, t);
        if (start < earliest) earliest = start, best = {*it, t};
      }
    }
    return best;
  }

  /// Pieces [begin, end) of the task are the thread's next item.
  void place(uint32_t task, uint32_t thread, int64_t begin, int64_t end) {
    const PlannedTask& t = tasks_[task];
    ThreadPlan::List& list = plan_.threads[thread];
    const double done = start_ns(task, thread) + t.cost_ns * static_cast<double>(end - begin) / static_cast<double>(std::max<int64_t>(1, t.pieces));
    ThreadPlan::Item item{task, begin, end, static_cast<uint32_t>(list.waits.size())};
    wait_for(task, thread);
    item.waits = static_cast<uint32_t>(list.waits.size()) - item.first_wait;
    places_[task].push_back({thread, static_cast<uint32_t>(list.items.size()), done});
    list.items.push_back(item);
    free_ns_[thread] = done;
    if (t.operand == 0) return;
    if (home_.size() <= t.operand) home_.resize(t.operand + 1, kNowhere);
    home_[t.operand] = thread;
  }
  /// Waits of the thread's next item, but for those that an earlier one of its items had.
  void wait_for(uint32_t task, uint32_t thread) {
    std::vector<uint32_t>& seen = seen_[thread];
    std::vector<uint32_t> need = seen;
    for (uint32_t a : tasks_[task].after) {
      for (const Place& p : places_[a]) need[p.thread] = std::max(need[p.thread], p.item + 1);
    }
    for (uint32_t u = 0; u < threads_; ++u) {
      if (u == thread || need[u] == seen[u]) continue;
      plan_.threads[thread].waits.push_back({u, need[u]});
      plan_.threads[u].items[need[u] - 1].awaited = true;
      seen[u] = need[u];
    }
  }

  /// As many pieces for each thread as let all end together.
  void share(uint32_t task) {
    const PlannedTask& t = tasks_[task];
    std::vector<std::pair<double, uint32_t>> starts;
    for (uint32_t k = 0; k < threads_; ++k) starts.emplace_back(start_ns(task, k), k);
    std::sort(starts.begin(), starts.end());
    // Work fills the time from the first starts on, up to a level.
    double level = 0, sum = t.cost_ns;
    int64_t sharers = 0;
    for (; sharers < std::min<int64_t>(threads_, t.pieces); ++sharers) {
      const double start = starts[static_cast<size_t>(sharers)].first;
      if (sharers > 0 && start >= level) break;
      sum += start, level = sum / static_cast<double>(sharers + 1);
    }
    int64_t at = 0;
    for (int64_t i = 0; i < sharers && at < t.pieces; ++i) {
      const auto [start, thread] = starts[static_cast<size_t>(i)];
      const auto part = static_cast<int64_t>((level - start) / t.cost_ns * static_cast<double>(t.pieces) + 0.5);
      const int64_t end = i + 1 == sharers ? t.pieces : std::clamp<int64_t>(at + part, at + 1, t.pieces);
      place(task, thread, at, end);
      at = end;
    }
  }

  const std::vector<PlannedTask>& tasks_;
  const uint32_t threads_;
  std::vector<double> free_ns_;                  ///< by thread
  std::vector<std::vector<uint32_t>> seen_;      ///< by thread: items of each other that it has waited for
  std::vector<uint32_t> blockers_;               ///< by task: those before it that have no place yet
  std::vector<std::vector<uint32_t>> followers_;
  std::vector<std::vector<Place>> places_;
  std::vector<std::vector<double>> arrival_ns_;  ///< by ready task and thread: when all that it waits for has come
  std::vector<uint32_t> home_;                   ///< by operand: the thread that read it last
  std::set<uint32_t> ready_;
  ThreadPlan plan_;
};

}  // namespace

ThreadPlan plan_threads(const std::vector<PlannedTask>& tasks, int threads) { return Planner(tasks, threads).plan(); }

}  // namespace systole
