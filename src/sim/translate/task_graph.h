// Runs tasks in the order their dependencies allow, on one thread or several. Results do not depend on the count: tasks
// that touch the same bytes are ordered.
#pragma once
#include <array>
#include <memory>
#include <vector>

#include "sim/translate/kernel.h"
#include "sim/translate/thread_plan.h"

namespace systole {

/// Host time by class of work, summed over threads.
struct WorkProfile {
  std::array<double, static_cast<size_t>(WorkClass::kCount)> seconds{};
  std::array<int64_t, static_cast<size_t>(WorkClass::kCount)> tasks{};
};

class TaskGraph {
 public:
  /// Adds a task that runs after `after`, earlier tasks of this graph (repeats are allowed); tasks of one `operand`, not 0, read the same
  /// constant, which takes operand_ns to come from another core. Returns its number.
  uint32_t add(std::unique_ptr<Kernel> kernel, std::vector<uint32_t> after, uint32_t operand = 0, double operand_ns = 0);
  size_t size() const { return kernels_.size(); }
  /// Plans for so many threads, where that is not done: after the runs that tell how long tasks take, once more.
  void prepare(int threads);
  /// Runs all tasks once with `threads` threads; adds to `profile` if given.
  void run(int threads, WorkProfile* profile = nullptr);

 private:
  class Run;
  void run_item(const ThreadPlan::Item& item, bool measure, WorkProfile* profile);
  void run_in_order(bool measure, WorkProfile* profile);
  void run_plan(int threads, bool measure, WorkProfile* profile);

  std::vector<std::unique_ptr<Kernel>> kernels_;
  std::vector<PlannedTask> tasks_;   ///< costs: estimates, then measured
  std::vector<float> measured_ns_;
  ThreadPlan plan_;                  ///< of the thread count used last
  int64_t runs_ = 0;
};

}  // namespace systole
