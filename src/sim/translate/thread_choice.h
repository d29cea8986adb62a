// How many threads a program's next run takes: all, or one where that is faster.
#pragma once
#include <cstdint>

namespace systole {

/// Programs of short tasks may lose more by handing results from core to core (half a microsecond there and back, on hosts whose cores
/// share no cache) than a second thread wins. Of every 64 runs, after two for the caches and for how long tasks take, one is timed with a
/// single thread and one with all; the others take what was faster. Results do not depend on it.
class ThreadChoice {
 public:
  /// Of the run that begins; `tasks` that it has.
  int threads(int all, int64_t tasks) {
    if (all != all_) *this = ThreadChoice(), all_ = all;
    tasks_ = tasks;
    if (all <= 1 || !short_tasks_) return all;
    const int64_t run = runs_ % kPeriod;
    return run == 2 || (run > 3 && one_s_ < all_s_) ? 1 : all;
  }
  /// The run that was begun took so many seconds.
  void took(double seconds) {
    const int64_t run = runs_++ % kPeriod;
    if (run == 1) short_tasks_ = seconds < kShortTask_s * static_cast<double>(tasks_);
    if (run == 2) one_s_ = seconds;
    if (run == 3) all_s_ = seconds;
  }

 private:
  static constexpr int64_t kPeriod = 64;
  static constexpr double kShortTask_s = 4e-6;  ///< on the average of a run

  int all_ = 0;
  int64_t runs_ = 0, tasks_ = 0;
  bool short_tasks_ = true;
  double all_s_ = 0, one_s_ = 0;
};

}  // namespace systole
