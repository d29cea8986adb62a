// The log of a training run: a line per step, which a run that was killed goes on with.
#pragma once
#include <fstream>
#include <optional>
#include <string>

namespace systole {

struct LogLine {
  int64_t step, epoch;
  double loss, batch_accuracy, rate, simulated_s, energy_j;  ///< times and joules of the NPU so far
  std::optional<double> validation_accuracy = {};            ///< percent, at an epoch's end
};

class TrainingLog {
 public:
  /// CSV, or an object a line where the path ends in .json or .jsonl; an empty path: no log. Lines of steps before `from` stay. Fails (kIo).
  TrainingLog(const std::string& path, int64_t from);
  void add(const LogLine& line);

 private:
  bool json_;
  std::ofstream file_;
};

}  // namespace systole
