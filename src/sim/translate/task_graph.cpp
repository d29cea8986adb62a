#include "sim/translate/task_graph.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <queue>
#include <thread>

namespace systole {

const char* to_string(WorkClass c) {
  static constexpr const char* kNames[] = {"matrix, integers", "matrix, floats", "depthwise", "packing operands", "vector", "vector, interpreted", "matrix, interpreted", "copies"};
  return kNames[static_cast<size_t>(c)];
}

namespace {

constexpr double kWorthSharingNs = 20'000;
using Clock = std::chrono::steady_clock;

/// The lines of a kernel that will run soon: thousands of them do not stay in the caches from one run to the next.
void prefetch(const Kernel* kernel) {
  for (int line = 0; line < 5; ++line) __builtin_prefetch(reinterpret_cast<const char*>(kernel) + 64 * line);
}

void run_timed(const Kernel& kernel, int64_t begin, int64_t end, WorkProfile* profile) {
  if (!profile) return kernel.run(begin, end);
  const auto start = Clock::now();
  kernel.run(begin, end);
  const auto c = static_cast<size_t>(kernel.work_class());
  profile->seconds[c] += std::chrono::duration<double>(Clock::now() - start).count(), ++profile->tasks[c];
}

}  // namespace

uint32_t TaskGraph::add(std::unique_ptr<Kernel> kernel, std::vector<uint32_t> after) {
  const auto id = static_cast<uint32_t>(tasks_.size());
  std::sort(after.begin(), after.end());
  after.erase(std::unique(after.begin(), after.end()), after.end());
  for (uint32_t a : after) tasks_[a].followers.push_back(id);
  Task task;
  task.before = static_cast<uint32_t>(after.size());
  task.pieces = kernel->cost_ns() >= kWorthSharingNs ? kernel->pieces() : 1;
  task.kernel = std::move(kernel);
  tasks_.push_back(std::move(task));
  return id;
}

/// State of one run on several threads. The oldest ready task goes first, which keeps the program's locality.
class TaskGraph::Run {
 public:
  explicit Run(std::vector<Task>& tasks) : tasks_(tasks), state_(tasks.size()), left_(tasks.size()) {
    for (size_t i = 0; i < tasks.size(); ++i) {
      state_[i].waiting = tasks[i].before;
      if (tasks[i].before == 0) ready_.push(static_cast<uint32_t>(i));
    }
    available_ = ready_.size();
  }

  void work(int threads, WorkProfile* profile) {
    uint32_t next = kNone, idle = 0;
    while (left_.load(std::memory_order_acquire) > 0 && !failed_.load(std::memory_order_relaxed)) {
      if (next == kNone && !take(next)) {
        if (++idle % 64 == 0) std::this_thread::yield();
        continue;
      }
      try {
        next = run_task(next, threads, profile);
      } catch (...) {
        failed_ = true;  // the other threads must not wait for this task
        throw;
      }
    }
  }

 private:
  static constexpr uint32_t kNone = ~uint32_t{0};
  struct State {
    std::atomic<uint32_t> waiting{0};
    std::atomic<int64_t> next_piece{0}, done_pieces{0};
    std::atomic<bool> shared{false};
  };

  bool take(uint32_t& task) {
    if (available_.load(std::memory_order_relaxed) == 0) return false;
    const std::lock_guard lock(mutex_);
    if (ready_.empty()) return false;
    task = ready_.top();
    ready_.pop();
    --available_;
    return true;
  }
  void offer(uint32_t task, int64_t times = 1) {
    const std::lock_guard lock(mutex_);
    for (int64_t i = 0; i < times; ++i) ready_.push(task);
    available_ += static_cast<size_t>(times);
  }

  /// Runs a task, or pieces of one that is shared. Returns a follower to go on with.
  uint32_t run_task(uint32_t id, int threads, WorkProfile* profile) {
    const Task& task = tasks_[id];
    if (task.pieces == 1) {
      run_timed(*task.kernel, 0, task.kernel->pieces(), profile);
      return finish(task);
    }
    State& s = state_[id];
    // Other threads are asked for help where they have nothing of their own.
    if (available_.load(std::memory_order_relaxed) == 0 && !s.shared.exchange(true)) offer(id, std::min<int64_t>(threads - 1, task.pieces - 1));
    const int64_t grain = std::max<int64_t>(1, task.pieces / (4 * threads));
    for (;;) {
      const int64_t begin = s.next_piece.fetch_add(grain);
      if (begin >= task.pieces) return kNone;
      const int64_t end = std::min(begin + grain, task.pieces);
      run_timed(*task.kernel, begin, end, profile);
      if (s.done_pieces.fetch_add(end - begin, std::memory_order_acq_rel) + (end - begin) == task.pieces) return finish(task);
    }
  }

  uint32_t finish(const Task& task) {
    uint32_t mine = kNone;
    for (uint32_t f : task.followers) {
      if (state_[f].waiting.fetch_sub(1, std::memory_order_acq_rel) != 1) continue;
      if (mine == kNone) mine = f;
      else offer(f);
    }
    left_.fetch_sub(1, std::memory_order_acq_rel);
    return mine;
  }

  std::vector<Task>& tasks_;
  std::vector<State> state_;
  std::atomic<size_t> left_, available_{0};
  std::atomic<bool> failed_{false};
  
  std::mutex mutex_;
  std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>> ready_;
};

void TaskGraph::run(int threads, WorkProfile* profile) {
  begin_run();
  if (threads <= 1) {
    for (size_t i = 0; i < tasks_.size(); ++i) {
      prefetch(tasks_[std::min(i + 2, tasks_.size() - 1)].kernel.get());
      run_timed(*tasks_[i].kernel, 0, tasks_[i].kernel->pieces(), profile);
    }
    return;
  }
  Run state(tasks_);
  std::vector<WorkProfile> profiles(static_cast<size_t>(threads));
  tbb::parallel_for(0, threads, [&](int i) { state.work(threads, profile ? &profiles[static_cast<size_t>(i)] : nullptr); }, tbb::simple_partitioner());
  for (size_t c = 0; profile && c < profile->seconds.size(); ++c) {
    for (const WorkProfile& p : profiles) profile->seconds[c] += p.seconds[c], profile->tasks[c] += p.tasks[c];
  }
}

}  // namespace systole
