#include "train/log.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>

#include "base/file.h"

namespace systole {
namespace {

constexpr const char* kHeader = "step,epoch,loss,batch_accuracy,rate,simulated_s,energy_j,validation_accuracy\n";
constexpr const char* kJsonStart = "{\"step\": ";

/// The step of a line that was written whole; -1 for others.
int64_t step_of(const std::string& line, bool json) {
  const std::string start = json ? kJsonStart : "";
  if (!line.starts_with(start) || (json && !line.ends_with("}"))) return -1;
  char* end = nullptr;
  const int64_t step = std::strtoll(line.c_str() + start.size(), &end, 10);
  return *end == ',' ? step : -1;
}

/// JSON has no infinities and no NaN.
std::string number(double v) { return std::isfinite(v) ? fmt::format("{:.9g}", v) : "null"; }

}  // namespace

TrainingLog::TrainingLog(const std::string& path, int64_t from) : json_(path.ends_with(".json") || path.ends_with(".jsonl")) {
  if (path.empty()) return;
  std::string kept = json_ ? "" : kHeader;
  if (from > 0 && file_exists(path)) {
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);) {
      const int64_t step = step_of(line, json_);
      if (!in.eof() && step >= 0 && step < from) kept += line + "\n";
    }
  }
  write_file(path, kept);
  file_.open(path, std::ios::app);
}

void TrainingLog::add(const LogLine& l) {
  if (!file_.is_open()) return;
  const std::string validation = l.validation_accuracy ? fmt::format("{:.6g}", *l.validation_accuracy) : "";
  if (json_) {
    file_ << kJsonStart << fmt::format("{}, \"epoch\": {}, \"loss\": {}, \"batch_accuracy\": {}, \"rate\": {:.9g}, \"simulated_s\": {:.9g}, \"energy_j\": {:.9g}", l.step, l.epoch, number(l.loss), number(l.batch_accuracy), l.rate, l.simulated_s, l.energy_j)
          << (validation.empty() ? "" : ", \"validation_accuracy\": " + validation) << "}\n";
  } else {
    file_ << fmt::format("{},{},{:.9g},{:.9g},{:.9g},{:.9g},{:.9g},{}\n", l.step, l.epoch, l.loss, l.batch_accuracy, l.rate, l.simulated_s, l.energy_j, validation);
  }
  file_.flush();
}

}  // namespace systole
