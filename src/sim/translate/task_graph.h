// Runs tasks in the order their dependencies allow, on one thread or several. Results do not depend on the count: tasks
// that touch the same bytes are ordered.
#pragma once
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "sim/translate/kernel.h"
#include "sim/translate/thread_plan.h"

namespace systole {

class TaskGraph;

/// Host time of the tasks of some graphs, summed over threads and runs. The graphs must outlive it.
struct WorkProfile {
  struct Tasks {
    std::vector<double> seconds;  ///< by task
    int64_t runs = 0;
  };
  std::map<const TaskGraph*, Tasks> graphs;
};
/// The same by class, and by class and shape of work.
struct WorkSums {
  struct Work {
    double seconds = 0, operations = 0;
    int64_t tasks = 0;
    void add(const Work& w) { seconds += w.seconds, operations += w.operations, tasks += w.tasks; }
  };
  std::map<WorkClass, Work> classes;
  std::map<std::pair<WorkClass, std::string>, Work> shapes;
};
WorkSums sums_of(const WorkProfile& profile);

class TaskGraph {
 public:
  /// Adds a task that runs after `after`, earlier tasks of this graph (repeats are allowed). `operand`: the constant that it reads, if any, which
  /// stays where it is; tasks of the same one go to the same thread if they can. Returns its number.
  uint32_t add(std::unique_ptr<Kernel> kernel, std::vector<uint32_t> after, std::span<const uint8_t> operand = {});
  size_t size() const { return kernels_.size(); }
  /// Plans for so many threads, where that is not done: after the runs that tell how long tasks take, once more.
  void prepare(int threads);
  /// Runs all tasks once with `threads` threads; adds to `profile` if given.
  void run(int threads, WorkProfile* profile = nullptr);

 private:
  class Run;
  using Seconds = std::vector<double>;  ///< by task; empty where nobody asks
  void run_item(const ThreadPlan::Item& item, bool measure, Seconds& seconds);
  void run_in_order(bool measure, Seconds& seconds);
  void run_plan(int threads, bool measure, Seconds& seconds);
  template <class TaskAt>
  void name_upcoming(size_t at, size_t count, uint32_t& named, TaskAt task_at) const;
  friend WorkSums sums_of(const WorkProfile& profile);

  std::vector<std::unique_ptr<Kernel>> kernels_;
  std::vector<PlannedTask> tasks_;   ///< costs: estimates, then measured
  std::vector<std::span<const uint8_t>> operands_{{}};  ///< by number; 0: none
  std::map<const uint8_t*, uint32_t> operand_numbers_;
  std::vector<float> measured_ns_;
  ThreadPlan plan_;                  ///< of the thread count used last
  int64_t runs_ = 0;
};

}  // namespace systole
