// Who does what on several threads, settled before the run: each thread has a list of tasks, and waits as the NPU's engines do, by
// distance - until another thread has finished so many of its own.
#pragma once
#include <cstdint>
#include <vector>

namespace systole {

/// What a plan knows of a task. Tasks are numbered in an order in which one thread could run them.
struct PlannedTask {
  double cost_ns = 0;
  int64_t pieces = 1;           ///< what threads may share
  std::vector<uint32_t> after;  ///< earlier tasks that it waits for
  uint32_t operand = 0;         ///< the constant that it reads, which other tasks may read too; 0: none
  double operand_ns = 0;        ///< to fetch that from another thread's caches
};

struct ThreadPlan {
  struct Wait {
    uint32_t thread, count;  ///< until `thread` has finished `count` items
  };
  struct Item {
    uint32_t task;
    int64_t begin, end;                ///< pieces of it
    uint32_t first_wait = 0, waits = 0;  ///< in `waits` of its thread
    bool awaited = false;              ///< another thread waits until this one is finished
  };
  struct List {
    std::vector<Item> items;
    std::vector<Wait> waits;
  };
  std::vector<List> threads;
};

/// A list for each of `threads` threads. Greedy, in the expected times: next is the task that can start first, on the thread where it can;
/// of several the oldest, which keeps the program's locality. Where too few tasks are ready for all threads, one of many pieces that takes
/// 20 us or longer is shared. What crosses from thread to thread arrives 0.4 us late.
ThreadPlan plan_threads(const std::vector<PlannedTask>& tasks, int threads);

}  // namespace systole
