// Design-space sweeps: machines by the thousand, evaluated in parallel, kept in a journal as they come.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "runtime/model_file.h"
#include "runtime/program_cache.h"
#include "sweep/communicator.h"
#include "sweep/evaluate.h"
#include "sweep/page.h"
#include "sweep/search.h"
#include "systole/systole.h"

namespace systole {
namespace {

std::string in_quotes(std::string text) {
  for (char& c : text) c = c == '"' ? '\'' : c == '\n' ? ' ' : c;
  return "\"" + text + "\"";
}

/// One evaluated point as it stands in the journal: objectives, then the rest of the CSV line.
struct Row {
  std::optional<Objectives> objectives;
  std::string text;  ///< from the status on
};

double geometric_mean(const std::vector<ModelCost>& models, double ModelCost::*member) {
  double log_sum = 0;
  for (const ModelCost& m : models) log_sum += std::log(m.*member);
  return std::exp(log_sum / static_cast<double>(models.size()));
}

std::string text_of(const PointCost& c, size_t models) {
  if (!c.error.empty()) return in_quotes(c.error) + std::string(3 + (models > 1 ? 3 * models : 1), ',');
  std::string t = fmt::format("ok,{:.9g},{:.9g},{:.9g}", geometric_mean(c.models, &ModelCost::latency_s), geometric_mean(c.models, &ModelCost::energy_j), c.area_mm2);
  if (models == 1) return t + fmt::format(",{}", c.models[0].cycles);
  for (const ModelCost& m : c.models) t += fmt::format(",{},{:.9g},{:.9g}", m.cycles, m.latency_s, m.energy_j);
  return t;
}

/// The row of a line's text. Objectives always come from the text, so that a resumed sweep sees the same numbers.
Row row_of(const std::string& text) {
  Row r{std::nullopt, text};
  double latency = 0, energy = 0, area = 0;
  if (std::sscanf(text.c_str(), "ok,%lf,%lf,%lf", &latency, &energy, &area) == 3) r.objectives = Objectives{latency, energy, area};
  return r;
}

class Journal {
 public:
  Journal(std::string path, std::string head) : path_(std::move(path)), head_(std::move(head)) {}
  /// Complete lines of an earlier run of the same sweep. Fails (kMismatch) on another one's journal.
  std::map<int64_t, std::string> read() const {
    std::map<int64_t, std::string> lines;
    std::ifstream in(path_, std::ios::binary);
    std::string line;
    if (!std::getline(in, line)) return lines;
    if (line != head_) fail(ErrorCode::kMismatch, path_, "the journal of another sweep (space, models, search or program differ)", "that of this one", "delete it, or choose another --out");
    while (std::getline(in, line)) {
      if (in.eof()) break;  // cut in the middle
      const size_t comma = line.find(',');
      if (comma != std::string::npos) lines[std::atoll(line.c_str())] = line.substr(comma + 1);
    }
    return lines;
  }
  /// Starts over with what was complete, so that a cut line is not continued.
  void open(const std::map<int64_t, std::string>& lines) {
    std::string text = head_ + "\n";
    for (const auto& [point, line] : lines) text += fmt::format("{},{}\n", point, line);
    write_file(path_, text);
    out_.open(path_, std::ios::binary | std::ios::app);
    if (!out_) fail(ErrorCode::kIo, path_, "cannot be written");
  }
  void add(const std::string& lines) { out_ << lines << std::flush; }
  void remove() {
    out_.close();
    std::error_code ec;
    std::filesystem::remove(path_, ec);
  }

 private:
  const std::string path_, head_;
  std::ofstream out_;
};

class Sweep {
 public:
  Sweep(const std::vector<std::string>& models, const SweepOptions& o) : options_(o), space_(read_space(o.space)), search_(space_, o.search, o.points, o.seed), communicator_(make_communicator()) {
    std::string identity = compiler_identity() + space_.base_text + o.search + fmt::format(";{};{};{}", search_.points(), o.seed, option_key(o.model, ""));
    for (const Parameter& p : space_.parameters) {
      for (const auto& row : p.values) for (const std::string& v : row) identity += ";" + v;
    }
    for (const std::string& key : space_.keys()) identity += ";" + key;
    for (const std::string& path : models) {
      models_.push_back(read_model(path, o.model));
      identity += fmt::format(";{}={:016x}", models_.back().name, models_.back().content);
    }
    journal_ = std::make_unique<Journal>(o.out + ".journal", fmt::format("# systole sweep {:016x}", content_hash(identity)));
    choices_.resize(static_cast<size_t>(search_.points()));
    rows_.resize(choices_.size()), objectives_.resize(choices_.size());
  }

  SweepReport run() {
    const bool first = communicator_->rank() == 0;
    auto kept = first ? journal_->read() : std::map<int64_t, std::string>();
    if (first) journal_->open(kept);
    std::string shared;
    for (const auto& [point, line] : kept) shared += fmt::format("{},{}\n", point, line);
    take(communicator_->gather(shared)[0]);
    SweepReport report;
    report.resumed = static_cast<int64_t>(known_.size());
    for (int64_t begin = 0; begin < search_.points();) {
      const int64_t end = search_.batch_end(begin);
      evaluate_all(begin, end);
      begin = end;
    }
    finish(report, first);
    return report;
  }

 private:
  /// Lines "point,text" of any rank.
  void take(const std::string& lines) {
    std::istringstream in(lines);
    for (std::string line; std::getline(in, line);) {
      const int64_t point = std::atoll(line.c_str());
      if (point < 0 || point >= search_.points()) continue;
      known_[point] = line.substr(line.find(',') + 1);
    }
  }

  /// The points [begin, end) in shares small enough that a kill loses little; every rank gets all results.
  void evaluate_all(int64_t begin, int64_t end) {
    std::vector<int64_t> todo;
    for (int64_t p = begin; p < end; ++p) {
      choices_[static_cast<size_t>(p)] = search_.choices(p, objectives_);
      if (!known_.count(p)) todo.push_back(p);
    }
    const int64_t share = 4 * std::max(1, thread_count()), step = share * communicator_->size();
    for (int64_t at = 0; at < static_cast<int64_t>(todo.size()); at += step) {
      const int64_t from = std::min<int64_t>(static_cast<int64_t>(todo.size()), at + communicator_->rank() * share), to = std::min<int64_t>(static_cast<int64_t>(todo.size()), from + share);
      std::vector<std::string> lines(static_cast<size_t>(to - from));
      parallel_for(to - from, 1, [&](int64_t a, int64_t b) {
        for (int64_t k = a; k < b; ++k) lines[static_cast<size_t>(k)] = evaluate_point(todo[static_cast<size_t>(from + k)]);
      });
      std::string mine;
      for (const std::string& l : lines) mine += l;
      std::string all;
      for (const std::string& text : communicator_->gather(mine)) all += text;
      if (communicator_->rank() == 0) journal_->add(all);
      take(all);
      if (options_.progress && communicator_->rank() == 0) options_.progress(static_cast<int64_t>(known_.size()), search_.points());
    }
    for (int64_t p = begin; p < end; ++p) {
      rows_[static_cast<size_t>(p)] = row_of(known_.at(p));
      objectives_[static_cast<size_t>(p)] = rows_[static_cast<size_t>(p)].objectives;
    }
  }

  std::string evaluate_point(int64_t p) const {
    PointCost c;
    try {
      c = evaluate(models_, space_.machine(choices_[static_cast<size_t>(p)]));
    } catch (const Failure& f) {
      c.error = f.what();
    }
    return fmt::format("{},{}\n", p, text_of(c, models_.size()));
  }

  std::string head() const {
    std::string h = "point,pareto";
    for (const std::string& key : space_.keys()) h += "," + key;
    h += ",status,latency_s,energy_j,area_mm2";
    if (models_.size() == 1) return h + ",cycles";
    for (const SweepModel& m : models_) h += fmt::format(",{0}_cycles,{0}_latency_s,{0}_energy_j", m.name);
    return h;
  }

  void finish(SweepReport& report, bool first) {
    const auto front = pareto_front(objectives_);
    std::string csv = head() + "\n";
    report.points = search_.points();
    for (size_t p = 0; p < rows_.size(); ++p) {
      csv += fmt::format("{},{}", p, front[p] ? 1 : 0);
      SweepPoint point{static_cast<int64_t>(p), {}, 0, 0, 0};
      for (size_t k = 0; k < space_.parameters.size(); ++k) {
        const auto& values = space_.parameters[k].values[static_cast<size_t>(choices_[p][k])];
        for (size_t v = 0; v < values.size(); ++v) csv += "," + values[v], point.values.emplace_back(space_.parameters[k].keys[v], values[v]);
      }
      csv += "," + rows_[p].text + "\n";
      report.infeasible += !objectives_[p];
      if (!front[p]) continue;
      point.latency_s = (*objectives_[p])[0], point.energy_j = (*objectives_[p])[1], point.area_mm2 = (*objectives_[p])[2];
      report.front.push_back(point);
    }
    std::stable_sort(report.front.begin(), report.front.end(), [](const SweepPoint& a, const SweepPoint& b) { return a.latency_s < b.latency_s; });
    if (!first) return;
    write_file(options_.out, csv);
    if (!options_.html.empty()) write_file(options_.html, sweep_page(space_.base_name, csv));
    journal_->remove();
  }

  const SweepOptions& options_;
  const Space space_;
  Search search_;
  const std::unique_ptr<Communicator> communicator_;
  std::vector<SweepModel> models_;
  std::unique_ptr<Journal> journal_;
  std::map<int64_t, std::string> known_;
  std::vector<std::vector<int>> choices_;
  std::vector<Row> rows_;
  std::vector<std::optional<Objectives>> objectives_;
};

}  // namespace

Result<SweepReport> sweep(const std::vector<std::string>& models, const SweepOptions& options) {
  return catch_failures([&] {
    if (models.empty()) fail(ErrorCode::kBadInput, "models", "none", "one or more ONNX files");
    if (options.out.empty()) fail(ErrorCode::kBadInput, "--out", "missing", "a .csv file");
    return Sweep(models, options).run();
  });
}

}  // namespace systole
