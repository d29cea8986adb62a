#include "sim/translate/task_graph.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <thread>

#include "base/parallel.h"
#include "sim/translate/host.h"
#include "sim/translate/upcoming.h"

namespace systole {

const char* to_string(WorkClass c) {
  static constexpr const char* kNames[] = {"matrix, integers", "matrix, floats", "depthwise", "packing operands", "vector", "vector, interpreted", "matrix, interpreted", "copies"};
  return kNames[static_cast<size_t>(c)];
}

namespace {

using Clock = std::chrono::steady_clock;
constexpr float kUnknown = std::numeric_limits<float>::infinity();

/// The lines of a kernel that will run soon: thousands of them do not stay in the caches from one run to the next.
void prefetch(const Kernel* kernel) {
  for (int line = 0; line < 5; ++line) __builtin_prefetch(reinterpret_cast<const char*>(kernel) + 64 * line);
}

/// While tasks run; afterwards nothing is upcoming.
struct Announced {
  Announced() = default;
  Announced(const Announced&) = delete;
  Announced& operator=(const Announced&) = delete;
  ~Announced() { t_upcoming = {}; }
};

constexpr double kFetchBytesPerNs = 32;  ///< from another core's caches

}  // namespace

uint32_t TaskGraph::add(std::unique_ptr<Kernel> kernel, std::vector<uint32_t> after, std::span<const uint8_t> operand) {
  uint32_t number = 0;
  if (!operand.empty()) number = operand_numbers_.emplace(operand.data(), static_cast<uint32_t>(operands_.size())).first->second;
  if (number == operands_.size()) operands_.push_back(operand);
  const auto id = static_cast<uint32_t>(kernels_.size());
  std::sort(after.begin(), after.end());
  after.erase(std::unique(after.begin(), after.end()), after.end());
  tasks_.push_back({kernel->cost_ns(), kernel->pieces(), std::move(after), number, static_cast<double>(operand.size()) / kFetchBytesPerNs});
  kernels_.push_back(std::move(kernel));
  return id;
}

/// Before the task at `at` of a list runs: if it multiplies a constant, the next other one of the list is announced, once.
template <class TaskAt>
void TaskGraph::name_upcoming(size_t at, size_t count, uint32_t& named, TaskAt task_at) const {
  constexpr size_t kFar = 12;  // tasks
  const uint32_t now = tasks_[task_at(at)].operand;
  for (size_t i = at + 1; now != 0 && i < std::min(at + kFar, count); ++i) {
    const uint32_t next = tasks_[task_at(i)].operand;
    if (next == 0) continue;
    if (next == now || next == named) return;
    named = next;
    const auto first = reinterpret_cast<uintptr_t>(operands_[next].data());
    t_upcoming = {first, first + operands_[next].size()};
    return;
  }
}

/// One run of a plan. A thread takes a list and keeps it to its end. A list that no thread has come for - the host's may be busy
/// elsewhere - is taken over by one that waits for it.
class TaskGraph::Run {
 public:
  Run(TaskGraph& graph, const ThreadPlan& plan, bool measure)
      : graph_(graph), plan_(plan), lists_(plan.threads.size()), measure_(measure), turns_to_yield_(lists_.size() > static_cast<size_t>(usable_cores()) ? 64 : 8192) {}

  void work(size_t list, Seconds& seconds) {
    const Announced none_left;
    std::vector<size_t> mine;
    if (take(list)) mine.push_back(list);
    try {
      for (int turns = 0; !mine.empty() && !failed_.load(std::memory_order_relaxed);) {
        bool moved = false;
        for (size_t l : mine) moved |= advance(l, seconds);
        std::erase_if(mine, [&](size_t l) { return lists_[l].at == plan_.threads[l].items.size(); });
        turns = moved ? 0 : turns + 1;
        if (turns > kPatience) take_over(mine);
        if (!moved) rest(turns);
      }
    } catch (...) {
      failed_ = true;  // the other threads must not wait for this one
      throw;
    }
  }

 private:
  struct alignas(128) List {
    std::atomic<uint32_t> done{0};  ///< items, as far as others wait for them
    std::atomic<bool> taken{false};
    size_t at = 0;                  ///< the owner's next item
    uint32_t named = 0;             ///< the constant that was announced last
  };
  static constexpr int kPatience = 50'000;  ///< turns of a waiting loop before a list that nobody came for is taken: a few milliseconds

  bool take(size_t list) { return !lists_[list].taken.exchange(true); }
  /// Lists that one's own wait for and nobody has.
  void take_over(std::vector<size_t>& mine) {
    for (size_t i = 0; i < mine.size(); ++i) {
      if (lists_[mine[i]].at == plan_.threads[mine[i]].items.size()) continue;
      if (const ThreadPlan::Wait* w = unmet(mine[i]); w && !lists_[w->thread].taken.load(std::memory_order_relaxed) && take(w->thread)) mine.push_back(w->thread);
    }
  }
  /// What a list's next item still waits for.
  const ThreadPlan::Wait* unmet(size_t list) const {
    const ThreadPlan::List& plan = plan_.threads[list];
    const ThreadPlan::Item& item = plan.items[lists_[list].at];
    for (uint32_t w = item.first_wait; w < item.first_wait + item.waits; ++w) {
      if (lists_[plan.waits[w].thread].done.load(std::memory_order_acquire) < plan.waits[w].count) return &plan.waits[w];
    }
    return nullptr;
  }
  /// Runs a list's items up to one that has to wait. Whether there was one to run.
  bool advance(size_t list, Seconds& seconds) {
    const std::vector<ThreadPlan::Item>& items = plan_.threads[list].items;
    List& state = lists_[list];
    const size_t first = state.at;
    while (state.at < items.size() && !unmet(list)) {
      const ThreadPlan::Item& item = items[state.at];
      prefetch(graph_.kernels_[items[std::min(state.at + 2, items.size() - 1)].task].get());
      graph_.name_upcoming(state.at, items.size(), state.named, [&](size_t i) { return items[i].task; });
      graph_.run_item(item, measure_, seconds);
      ++state.at;
      if (item.awaited) state.done.store(static_cast<uint32_t>(state.at), std::memory_order_release);
    }
    return state.at > first;
  }
  /// To yield is costly: where a hypervisor keeps the page tables, every address afterwards has to be looked up again.
  void rest(int turns) const {
    if (turns % turns_to_yield_ == turns_to_yield_ - 1) return std::this_thread::yield();
#ifdef SYSTOLE_X86
    __builtin_ia32_pause();
#endif
  }

  TaskGraph& graph_;
  const ThreadPlan& plan_;
  std::vector<List> lists_;
  const bool measure_;
  const int turns_to_yield_;
  std::atomic<bool> failed_{false};
};

void TaskGraph::run_item(const ThreadPlan::Item& item, bool measure, Seconds& seconds) {
  const Kernel& kernel = *kernels_[item.task];
  if (seconds.empty() && !measure) return kernel.run(item.begin, item.end);
  const auto start = Clock::now();
  kernel.run(item.begin, item.end);
  const double took = std::chrono::duration<double>(Clock::now() - start).count();
  if (measure && item.end > item.begin) {
    const double share = static_cast<double>(item.end - item.begin) / static_cast<double>(tasks_[item.task].pieces);
    float& known = measured_ns_[item.task];
    known = std::min(known, static_cast<float>(took * 1e9 / share));
  }
  if (!seconds.empty()) seconds[item.task] += took;
}

void TaskGraph::prepare(int threads) {
  if (threads > 1 && plan_.threads.size() != static_cast<size_t>(threads)) plan_ = plan_threads(tasks_, threads);
}

void TaskGraph::run(int threads, WorkProfile* profile) {
  prepare(threads);
  begin_run();
  // The first run finds cold caches; the next two tell how long tasks take here.
  const bool measure = runs_ == 1 || runs_ == 2;
  if (measure) measured_ns_.resize(tasks_.size(), kUnknown);
  Seconds none;
  Seconds& seconds = profile ? profile->graphs[this].seconds : none;
  if (profile) seconds.resize(tasks_.size()), ++profile->graphs[this].runs;
  if (threads <= 1) run_in_order(measure, seconds);
  else run_plan(threads, measure, seconds);
  for (size_t i = 0; measure && i < tasks_.size(); ++i) {
    if (measured_ns_[i] < kUnknown) tasks_[i].cost_ns = measured_ns_[i];
  }
  if (measure) plan_ = {};
  ++runs_;
}

void TaskGraph::run_in_order(bool measure, Seconds& seconds) {
  const Announced none_left;
  uint32_t named = 0;
  for (size_t i = 0; i < tasks_.size(); ++i) {
    prefetch(kernels_[std::min(i + 2, tasks_.size() - 1)].get());
    name_upcoming(i, tasks_.size(), named, [](size_t k) { return k; });
    run_item({static_cast<uint32_t>(i), 0, tasks_[i].pieces}, measure, seconds);
  }
}

void TaskGraph::run_plan(int threads, bool measure, Seconds& seconds) {
  const auto count = static_cast<size_t>(threads);
  Run run(*this, plan_, measure);
  std::vector<Seconds> of_threads(count, Seconds(seconds.size()));  // a task's pieces may run on several
  tbb::parallel_for(size_t{0}, count, [&](size_t i) { run.work(i, of_threads[i]); }, tbb::simple_partitioner());
  for (const Seconds& list : of_threads) {
    for (size_t i = 0; i < list.size(); ++i) seconds[i] += list[i];
  }
}

WorkSums sums_of(const WorkProfile& profile) {
  WorkSums sums;
  for (const auto& [graph, tasks] : profile.graphs) {
    for (size_t i = 0; i < tasks.seconds.size(); ++i) {
      const Kernel& kernel = *graph->kernels_[i];
      WorkShape shape = kernel.shape();
      const WorkSums::Work work{tasks.seconds[i], shape.operations * static_cast<double>(tasks.runs), tasks.runs};
      sums.classes[kernel.work_class()].add(work);
      sums.shapes[{kernel.work_class(), std::move(shape.text)}].add(work);
    }
  }
  return sums;
}

}  // namespace systole
