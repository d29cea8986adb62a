// Vector clocks: known[p][f] is how many instructions of engine f have certainly retired when p starts. It grows from
// p's own waits, from its predecessor in its queue (which started before), and from what each retired one knew.
#include "sim/check/race_checker.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "isa/footprint.h"

namespace systole {
namespace {

using Clock = std::array<int64_t, isa::kEngines>;

void join(Clock& a, const Clock& b) {
  for (size_t f = 0; f < a.size(); ++f) a[f] = std::max(a[f], b[f]);
}

bool conflict(const isa::Touch& a, const isa::Touch& b) { return (a.write || b.write) && a.space == b.space && a.lo < b.hi && b.lo < a.hi; }

class Checker {
 public:
  Checker(const isa::Program& program, const Machine& machine) : program_(program), machine_(machine) {}

  CheckReport run() {
    const std::string where = "program '" + program_.model + "'";
    const auto sequence = isa::sequence(program_);
    const isa::MemorySizes sizes{static_cast<int64_t>(program_.dram_bytes), machine_.memory.scratchpad_bytes, machine_.memory.accumulator_bytes, machine_.memory.groups};
    for (const auto& op : sequence.ops) {
      touches_.push_back(isa::footprint(op, machine_.mx.columns));
      isa::check_footprint(op, touches_.back(), sizes, where);
      visit(op, static_cast<uint32_t>(touches_.size() - 1));
    }
    report_.instructions = sequence.ops.size();
    return std::move(report_);
  }

 private:
  void visit(const isa::Dispatched& op, uint32_t p) {
    const size_t own = static_cast<size_t>(op.engine);
    Clock known{};
    // The one before me in my queue started before me.
    if (!queue_[own].empty()) known = start_[queue_[own].back()];
    // MX and VX start an instruction only when the one before it has retired; LD and ST overlap.
    if (own >= 2) known[own] = static_cast<int64_t>(queue_[own].size());
    for (size_t f = 0; f < isa::kEngines; ++f) {
      if (op.wait[f] != isa::kNoWait) known[f] = std::max(known[f], static_cast<int64_t>(queue_[f].size()) - op.wait[f]);
    }
    // What those knew when they started holds now too; one round per engine reaches the fixed point, since clocks of
    // earlier instructions are closed already.
    for (size_t f = 0; f < isa::kEngines; ++f) {
      if (known[f] > 0) join(known, start_[queue_[f][static_cast<size_t>(known[f] - 1)]]);
    }
    for (size_t f = 0; f < isa::kEngines; ++f) {
      for (size_t k = static_cast<size_t>(std::max<int64_t>(0, known[f])); k < queue_[f].size(); ++k) compare(queue_[f][k], p, op.index);
    }
    start_.push_back(known);
    index_.push_back(op.index);
    queue_[own].push_back(p);
  }

  void compare(uint32_t q, uint32_t p, uint32_t index) {
    ++report_.pairs_checked;
    for (const auto& a : touches_[q]) {
      for (const auto& b : touches_[p]) {
        if (conflict(a, b) && report_.races.size() < 100) report_.races.push_back({index_[q], index, a.space, std::max(a.lo, b.lo), std::min(a.hi, b.hi)});
      }
    }
  }

  const isa::Program& program_;
  const Machine& machine_;
  CheckReport report_;
  std::vector<std::vector<isa::Touch>> touches_;
  std::vector<Clock> start_;
  std::vector<uint32_t> index_;
  std::array<std::vector<uint32_t>, isa::kEngines> queue_;
};

}  // namespace

std::string Race::text() const {
  constexpr const char* kSpaces[] = {"DRAM", "scratchpad", "accumulator", "fill"};
  return "instructions " + std::to_string(first) + " and " + std::to_string(second) + " both touch " + kSpaces[static_cast<int>(space)] + " bytes " + std::to_string(lo) + " to " + std::to_string(hi) +
         " and are not ordered";
}

CheckReport check_races(const isa::Program& program, const Machine& machine) { return Checker(program, machine).run(); }

}  // namespace systole
