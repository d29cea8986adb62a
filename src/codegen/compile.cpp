#include "codegen/compile.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <set>

#include "base/parallel.h"
#include "codegen/attempt.h"
#include "codegen/constants.h"
#include "codegen/phase_text.h"
#include "passes/passes.h"

namespace systole {
namespace {

using Sources = std::vector<std::shared_ptr<const Source>>;

/// The graph as it is, its attention in blocks of three sizes, its runs of maps in blocks: as far as they differ.
Sources forms_of(const Graph& graph, const Machine& machine) {
  Sources sources = {std::make_shared<const Source>(graph, machine)};
  const int64_t scratchpad = machine.memory.scratchpad_bytes;
  for (int64_t share : {2, 4, 8}) {
    Graph tiled = graph;
    if (!tile_attention(tiled, scratchpad, scratchpad / share)) break;
    verify(tiled, "tile_attention");
    sources.push_back(std::make_shared<const Source>(std::move(tiled), machine));
  }
  if (Graph blocks = graph; tile_maps(blocks, scratchpad)) {
    verify(blocks, "tile_maps");
    sources.push_back(std::make_shared<const Source>(std::move(blocks), machine));
  }
  return sources;
}

/// The same work in other orders, as far as they differ.
Sources orders_of(const Source& form, const Machine& machine) {
  Sources sources;
  for (const auto order : {Schedule::Order::kCopiesFirst, Schedule::Order::kCopiesBeside, Schedule::Order::kWoven}) {
    if (auto other = std::make_shared<const Source>(form.graph, machine, order); !other->schedule.as_given()) sources.push_back(std::move(other));
  }
  return sources;
}

/// Packed tightly with many small blocks, or spread over lock groups with fewer larger blocks, for several sizes of the ring. Where memory
/// counts, tensors take no turns: what is left of the scratchpad stays in one piece.
std::vector<Preferences> layouts_of(const Machine& machine, const GenerateOptions& options) {
  const int64_t groups = machine.memory.groups, group = machine.group_bytes();
  std::vector<int64_t> rings = {groups / 4, groups * 3 / 8, groups / 2, groups * 5 / 8, groups * 3 / 4, groups};
  if (options.quick) rings = {groups * 3 / 8, groups / 2, groups};
  std::vector<Preferences> layouts;
  for (int64_t ring : rings) {
    if (!options.quick) layouts.push_back({ring, 4, group / 8, group / 4, false, false});
    layouts.push_back({ring, 48, 256, 1024, true, true});
  }
  for (Preferences& p : layouts) p.take_turns = !options.least_memory;
  return layouts;
}

/// Tries forms of the graph, their orders and layouts, and keeps the cheapest attempt, the first of equals; the last failure where none fits.
/// Where there are several sources two layouts probe which of them is best, first of the forms and then of its orders; all layouts are tried with
/// that one, and the best of them with small rings, and with the other orders once more.
class Search {
 public:
  Search(const Graph& graph, const Machine& machine, const std::string& precision, const GenerateOptions& options)
      : sources_(forms_of(graph, machine)), layouts_(layouts_of(machine, options)), probes_{layouts_.size() / 6, layouts_.size() * 7 / 12}, machine_(machine), precision_(precision), options_(options) {}

  Attempt& run() {
    const size_t forms = sources_.size();
    if (forms > 1) probe(0);
    form_ = number_.source;
    Sources orders = orders_of(*sources_[form_], machine_);
    std::move(orders.begin(), orders.end(), std::back_inserter(sources_));
    if (sources_.size() > 1) probe(forms > 1 ? forms : 0);
    try_layouts();
    if (!best_.program) return best_;
    if (!options_.quick) try_variants();
    try_small_rings(), try_orders(forms);
    return best_;
  }

 private:
  struct Number {
    size_t source = 0, layout = 0;
    auto operator<=>(const Number&) const = default;
  };

  void try_all(const std::vector<Number>& attempts) {
    parallel_for(static_cast<int64_t>(attempts.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Number number = attempts[static_cast<size_t>(i)];
        Attempt a = attempt(sources_[number.source], machine_, precision_, layouts_[number.layout], options_, learned_);
        const std::lock_guard lock(choosing_);
        if (a.program) costs_[number] = a.candidate.cost;
        const bool better = a.program ? !best_.program || std::pair(a.candidate.cost, number) < std::pair(best_.candidate.cost, number_) : !best_.program && number > number_;
        if (better) best_ = std::move(a), number_ = number;
        if (better && best_.program) learned_.least_cost = best_.candidate.cost;
      }
    });
  }
  void probe(size_t from) {
    std::vector<Number> attempts;
    for (size_t s = from; s < sources_.size(); ++s) {
      for (size_t layout : probes_) attempts.push_back({s, layout});
    }
    try_all(attempts);
  }
  bool probed(size_t layout) const { return sources_.size() > 1 && probes_.count(layout); }

  void try_layouts() {
    constexpr size_t kManySteps = 2000;  // of which each attempt takes seconds: those layouts that are like the best
    const bool few = sources_[number_.source]->schedule.steps.size() > kManySteps && sources_.size() > 1 && best_.program;
    std::vector<Number> attempts;
    for (size_t layout = 0; layout < layouts_.size(); ++layout) {
      if (!probed(layout) && (!few || layout % 2 == number_.layout % 2)) attempts.push_back({number_.source, layout});
    }
    try_all(attempts);
  }
  /// The best layouts with tiles that may share lock groups, and then the best with or without turns.
  void try_variants() {
    constexpr size_t kBest = 2;
    std::vector<std::pair<int64_t, size_t>> known;
    for (const auto& [number, cost] : costs_) {
      if (number.source == number_.source) known.emplace_back(cost, number.layout);
    }
    std::sort(known.begin(), known.end());
    std::vector<Number> attempts;
    for (size_t i = 0; i < std::min(kBest, known.size()); ++i) {
      Preferences dense = layouts_[known[i].second];
      dense.products_in_groups = false;
      layouts_.push_back(dense), attempts.push_back({number_.source, layouts_.size() - 1});
    }
    try_all(attempts);
    Preferences other = layouts_[number_.layout];
    other.take_turns = !other.take_turns;
    layouts_.push_back(other);
    try_all({{number_.source, layouts_.size() - 1}});
  }
  /// Where they keep so many more bytes in the scratchpad that these, written and read once, are half a percent of the cost.
  void try_small_rings() {
    std::vector<Number> attempts;
    const Preferences given = layouts_[number_.layout];
    for (const int64_t groups : {machine_.memory.groups / 8, machine_.memory.groups / 4}) {
      Preferences small = given;
      small.small_ring_groups = groups;
      if (groups == 0 || groups >= given.ring_groups || 2 * (resident_bytes(small) - resident_bytes(given)) / machine_.dram.bytes_per_cycle < best_.candidate.cost / 200) continue;
      layouts_.push_back(small), attempts.push_back({number_.source, layouts_.size() - 1});
    }
    try_all(attempts);
  }
  int64_t resident_bytes(const Preferences& preferences) const {
    const Source& source = *sources_[number_.source];
    const Placement p = place(source.graph, source.schedule, machine_, preferences);
    int64_t bytes = 0;
    for (size_t v = 0; v < p.of.size(); ++v) bytes += p.of[v].stored && p.of[v].space == isa::Space::kScratchpad ? stored_bytes(source.graph.values[v]) : 0;
    return bytes;
  }
  /// The best layout with the form as it is and its other orders, if probes with other layouts saw a difference.
  void try_orders(size_t first_order) {
    std::vector<Number> attempts;
    for (size_t s = 0; s < sources_.size() && !probed(number_.layout); ++s) {
      const auto differs = [&](size_t layout) {
        const auto a = costs_.find({s, layout}), b = costs_.find({number_.source, layout});
        return a != costs_.end() && b != costs_.end() && a->second != b->second;
      };
      if ((s >= first_order || s == form_) && std::any_of(probes_.begin(), probes_.end(), differs)) attempts.push_back({s, number_.layout});
    }
    try_all(attempts);
  }

  Sources sources_;
  std::vector<Preferences> layouts_;
  const std::set<size_t> probes_;
  const Machine& machine_;
  const std::string& precision_;
  const GenerateOptions& options_;
  size_t form_ = 0;  ///< whose orders are tried
  std::map<Number, int64_t> costs_;  ///< known so far; beyond the best of their time they may be any number beyond it
  Attempt best_;
  Number number_;
  std::mutex choosing_;
  Learned learned_;
};

}  // namespace

isa::Program generate(const Graph& graph, const Machine& machine, const std::string& precision, const GenerateOptions& options) {
  Search search(graph, machine, precision, options);
  Attempt& chosen = search.run();
  if (!chosen.program) throw *chosen.failure;
  const Candidate& best = chosen.candidate;
  if (options.phase_text) *options.phase_text = options.stop_after == "place" ? print_placement(best.source->graph, best.source->schedule, *best.placement) : print_emitted(best.emitter->code, best.emitter->descriptors, best.layers, options.stop_after == "synchronise");
  if (!options.code_only) chosen.program->constants = constants_of(best.source->graph, *best.emitter);
  return std::move(*chosen.program);
}

}  // namespace systole
