// Runs tasks in the order their dependencies allow, on one thread or several. Results do not depend on the count: tasks
// that touch the same bytes are ordered.
#pragma once
#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "sim/translate/kernel.h"

namespace systole {

/// Host time by class of work, summed over threads.
struct WorkProfile {
  std::array<double, static_cast<size_t>(WorkClass::kCount)> seconds{};
  std::array<int64_t, static_cast<size_t>(WorkClass::kCount)> tasks{};
};

class TaskGraph {
 public:
  /// Adds a task that runs after `after`, earlier tasks of this graph (repeats are allowed). Returns its number.
  uint32_t add(std::unique_ptr<Kernel> kernel, std::vector<uint32_t> after);
  size_t size() const { return tasks_.size(); }
  /// Runs all tasks once with up to `threads` threads; adds to `profile` if given.
  void run(int threads, WorkProfile* profile = nullptr);

 private:
  struct Task {
    std::unique_ptr<Kernel> kernel;
    std::vector<uint32_t> followers;
    uint32_t before = 0;     ///< dependencies
    int64_t pieces = 1;      ///< what threads may share; 1 where sharing does not pay
  };
  class Run;
  std::vector<Task> tasks_;
};

}  // namespace systole
