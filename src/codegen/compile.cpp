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

/// The graph as it is, its attention in blocks of three sizes, its runs of maps in blocks, and its heads too, its layers in groups of images (not where
/// memory or the compiler's time counts: tensors that pass by in parts are put together worse), in smaller ones where others need what they make, and
/// its layers of one image in stripes of rows (not where the compiler's time counts): as far as they differ.
struct Forms {
  Sources sources;
  size_t layers = SIZE_MAX;  ///< the first of those in groups of images
  size_t cascades = SIZE_MAX;  ///< that in stripes of rows
};
Forms forms_of(const Graph& graph, const Machine& machine, const GenerateOptions& options) {
  Forms forms;
  Sources& sources = forms.sources;
  sources = {std::make_shared<const Source>(graph, machine)};
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
  if (Graph heads = graph; tile_heads(heads, scratchpad)) {
    tile_maps(heads, scratchpad);
    verify(heads, "tile_heads, tile_maps");
    sources.push_back(std::make_shared<const Source>(std::move(heads), machine));
  }
  const auto add_layers = [&](const LayerBlocks& blocks) {
    Graph layers = graph;
    if (!tile_layers(layers, machine, blocks)) return;
    verify(layers, "tile_layers");
    auto source = std::make_shared<const Source>(std::move(layers), machine);
    if (forms.layers != SIZE_MAX && source->schedule.steps == sources.back()->schedule.steps) return;  // the same groups
    forms.layers = std::min(forms.layers, sources.size());
    sources.push_back(std::move(source));
  };
  if (options.effort == Effort::kQuick) return forms;
  if (!options.least_memory) add_layers({.block_bytes = scratchpad * 7 / 8});
  add_layers({.block_bytes = scratchpad / 4, .copies = true, .followed_block_bytes = scratchpad * 7 / 16});
  if (Graph rows = graph; tile_cascades(rows, machine, scratchpad / 2)) {
    verify(rows, "tile_cascades");
    forms.cascades = sources.size();
    sources.push_back(std::make_shared<const Source>(std::move(rows), machine));
  }
  return forms;
}

/// The same work in other orders, as far as they differ.
Sources orders_of(const Source& form, const Machine& machine) {
  using Order = Schedule::Order;
  Sources sources;
  for (const auto order : {Order::kCopiesFirst, Order::kCopiesBeside, Order::kPassingCopiesBeside, Order::kWoven}) {
    auto other = std::make_shared<const Source>(form.graph, machine, order);
    const auto same = [&](const auto& known) { return known->schedule.steps == other->schedule.steps; };
    if (!other->schedule.as_given() && std::none_of(sources.begin(), sources.end(), same)) sources.push_back(std::move(other));
  }
  return sources;
}

/// Packed tightly with many small blocks, or spread over lock groups with fewer larger blocks, for several sizes of the ring. Where memory
/// counts, tensors take no turns: what is left of the scratchpad stays in one piece.
std::vector<Preferences> layouts_of(const Machine& machine, const GenerateOptions& options) {
  const int64_t groups = machine.memory.groups, group = machine.group_bytes();
  std::vector<int64_t> rings = {groups / 4, groups * 3 / 8, groups / 2, groups * 5 / 8, groups * 3 / 4, groups};
  const bool quick = options.effort == Effort::kQuick;
  if (quick) rings = {groups * 3 / 8, groups / 2, groups};
  std::vector<Preferences> layouts;
  for (int64_t ring : rings) {
    if (!quick) layouts.push_back({ring, 4, group / 8, group / 4, false, false});
    layouts.push_back({ring, 48, 256, 1024, true, true});
  }
  for (Preferences& p : layouts) p.turns = options.least_memory ? Turns::kNone : Turns::kSmall;
  return layouts;
}

/// Tries forms of the graph, their orders and layouts, and keeps the cheapest attempt, the first of equals; the last failure where none fits.
/// Where there are several sources two layouts probe which of them is best, first of the forms and then of its orders; all layouts are tried with
/// that one, and the best of them with small rings, and with the other orders once more. Where a network repeats its blocks, all of this looks at
/// excerpts, and the two best of them are tried in full. A thorough search goes on from the best attempt of each form.
class Search {
 public:
  Search(const Graph& graph, const Machine& machine, const std::string& precision, const GenerateOptions& options)
      : given_(forms_of(graph, machine, options)), sources_(given_.sources), layouts_(layouts_of(machine, options)), probes_{layouts_.size() / 6, layouts_.size() * 7 / 12}, forms_(sources_.size()), given_layouts_(layouts_.size()), task_{machine, precision, options} {
    for (size_t s = 0; s < forms_; ++s) form_of_.push_back(s);
  }

  Attempt& run() {
    if (!repeats() || !search(Extent::kExcerpt) || !in_full()) search(Extent::kInFull);
    return best_;
  }

 private:
  struct Number {
    size_t source = 0, layout = 0;
    auto operator<=>(const Number&) const = default;
  };

  /// Whether excerpts leave out a good part of the work.
  bool repeats() const {
    size_t steps = 0;
    for (const LeftOut& l : sources_[0]->left_out) steps += l.to - l.from;
    return task_.options.judge && 3 * steps > sources_[0]->schedule.steps.size();
  }

  /// Whether any attempt fits.
  bool search(Extent extent) {
    task_.extent = extent, costs_.clear(), best_ = {}, number_ = {};
    sources_.resize(forms_), form_of_.resize(forms_), layouts_.resize(given_layouts_);
    if (forms_ > 1) probe(0);
    form_ = number_.source;
    std::vector<size_t> ordered = {form_};
    // Layers in groups overlap more by themselves; the others may gain more from their orders.
    if (form_ >= given_.layers) ordered.push_back(best_source_before(given_.layers));
    for (size_t form : ordered) add_orders(form);
    if (sources_.size() > 1) probe(forms_ > 1 ? forms_ : 0);
    try_layouts(number_.source);
    // What passes in stripes needs less room than probes tell; other forms may gain more from theirs.
    if (form_ == given_.cascades) try_layouts(best_source_but(form_));
    if (!best_.program) return false;
    if (task_.options.effort != Effort::kQuick) try_variants();
    try_small_rings(), try_orders();
    if (task_.options.effort == Effort::kThorough) descend();
    return true;
  }

  /// The best excerpts, now with all their steps: two, and then those that promised less than the best of them keeps. Whether any fits.
  bool in_full() {
    constexpr size_t kAtOnce = 2, kMost = 8;
    const auto promised = by_cost();
    task_.extent = Extent::kInFull, costs_.clear(), best_ = {};
    for (size_t first = 0; first < std::min(kMost, promised.size()); first += kAtOnce) {
      std::vector<Number> attempts;
      for (size_t i = first; i < std::min(first + kAtOnce, promised.size()); ++i) {
        if (!best_.program || promised[i].first < best_.candidate.cost) attempts.push_back(promised[i].second);
      }
      if (attempts.empty()) break;
      try_all(attempts);
    }
    return best_.program.has_value();
  }

  /// Judges stop beyond the best cost before this batch, so that what is known is the same for any number of threads.
  void try_all(const std::vector<Number>& attempts) {
    const int64_t limit = best_.program ? best_.candidate.cost : INT64_MAX;
    parallel_for(static_cast<int64_t>(attempts.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Number number = attempts[static_cast<size_t>(i)];
        Attempt a = attempt(sources_[number.source], layouts_[number.layout], task_, limit);
        const std::lock_guard lock(choosing_);
        if (a.program) costs_[number] = a.candidate.cost;
        const bool better = a.program ? !best_.program || std::pair(a.candidate.cost, number) < std::pair(best_.candidate.cost, number_) : !best_.program && number > number_;
        if (better) best_ = std::move(a), number_ = number;
      }
    });
  }
  /// Attempts of different costs, the best first: of one cost, they are mostly one program.
  std::vector<std::pair<int64_t, Number>> by_cost() const {
    std::map<int64_t, Number> list;
    for (const auto& [number, cost] : costs_) list.try_emplace(cost, number);
    return {list.begin(), list.end()};
  }
  /// Of the sources before this one, of which at least one was tried.
  size_t best_source_before(size_t source) const {
    return best_source([&](size_t other) { return other < source; });
  }
  size_t best_source_but(size_t form) const {
    return best_source([&](size_t other) { return form_of_[other] != form; });
  }
  template <class F>
  size_t best_source(F&& counts) const {
    std::pair<int64_t, Number> best{INT64_MAX, {}};
    for (const auto& [number, cost] : costs_) {
      if (counts(number.source)) best = std::min(best, std::pair(cost, number));
    }
    return best.second.source;
  }
  void add_orders(size_t form) {
    if (std::count(form_of_.begin(), form_of_.end(), form) > 1) return;
    Sources orders = orders_of(*sources_[form], task_.machine);
    form_of_.insert(form_of_.end(), orders.size(), form);
    std::move(orders.begin(), orders.end(), std::back_inserter(sources_));
  }
  void probe(size_t from) {
    std::vector<Number> attempts;
    for (size_t s = from; s < sources_.size(); ++s) {
      for (size_t layout : probes_) attempts.push_back({s, layout});
    }
    try_all(attempts);
  }
  bool probed(size_t layout) const { return sources_.size() > 1 && probes_.count(layout); }

  void try_layouts(size_t source) {
    constexpr size_t kManySteps = 2000;  // of which each attempt takes seconds: those layouts that are like the best
    const bool few = sources_[source]->schedule.steps.size() > kManySteps && sources_.size() > 1 && best_.program;
    std::vector<Number> attempts;
    for (size_t layout = 0; layout < layouts_.size(); ++layout) {
      if (!probed(layout) && (!few || layout % 2 == number_.layout % 2)) attempts.push_back({source, layout});
    }
    try_all(attempts);
  }
  /// The best layouts with tiles that may share lock groups, and then the best with or without turns.
  void try_variants() {
    std::vector<Number> attempts;
    for (const auto& [cost, known] : by_cost()) {
      if (attempts.size() == 2) break;
      Preferences dense = layouts_[known.layout];
      dense.products_in_groups = false;
      layouts_.push_back(dense), attempts.push_back({known.source, layouts_.size() - 1});
    }
    try_all(attempts);
    Preferences other = layouts_[number_.layout];
    other.turns = other.turns == Turns::kNone ? Turns::kSmall : Turns::kNone;
    layouts_.push_back(other);
    try_all({{number_.source, layouts_.size() - 1}});
  }
  /// Where they keep so many more bytes in the scratchpad that these, written and read once, are half a percent of the cost.
  void try_small_rings() {
    std::vector<Number> attempts;
    const Preferences given = layouts_[number_.layout];
    for (const int64_t groups : {task_.machine.memory.groups / 8, task_.machine.memory.groups / 4}) {
      Preferences small = given;
      small.small_ring_groups = groups;
      if (groups == 0 || groups >= given.ring_groups || 2 * (resident_bytes(small) - resident_bytes(given)) / task_.machine.dram.bytes_per_cycle < best_.candidate.cost / 200) continue;
      layouts_.push_back(small), attempts.push_back({number_.source, layouts_.size() - 1});
    }
    try_all(attempts);
  }
  int64_t resident_bytes(const Preferences& preferences) const {
    const Source& source = *sources_[number_.source];
    const Placement p = place(source.graph, source.schedule, task_.machine, preferences);
    int64_t bytes = 0;
    for (size_t v = 0; v < p.of.size(); ++v) bytes += p.of[v].stored && p.of[v].space == isa::Space::kScratchpad ? stored_bytes(source.graph.values[v]) : 0;
    return bytes;
  }
  /// The best layout with the form as it is and its other orders, if probes with other layouts saw a difference.
  void try_orders() {
    std::vector<Number> attempts;
    for (size_t s = 0; s < sources_.size() && !probed(number_.layout); ++s) {
      const auto differs = [&](size_t layout) {
        const auto a = costs_.find({s, layout}), b = costs_.find({number_.source, layout});
        return a != costs_.end() && b != costs_.end() && a->second != b->second;
      };
      if ((s >= forms_ || s == form_) && std::any_of(probes_.begin(), probes_.end(), differs)) attempts.push_back({s, number_.layout});
    }
    try_all(attempts);
  }

  /// The source or one preference at a time, from the best attempt of each promising form on, until none is better.
  void descend() {
    const std::vector<std::pair<int64_t, Number>> starts = best_of_forms();
    for (const auto& [cost, start] : starts) {
      if (cost > starts.front().first + starts.front().first / 4) break;
      Number at = start;
      for (Number from{SIZE_MAX, 0}; from != at;) {
        from = at;
        std::vector<Number> attempts = other_layouts(at);
        for (const Number& n : other_orders(at)) attempts.push_back(n);
        try_new(attempts);
        for (const Number& n : attempts) {
          if (costs_.count(n) && costs_.at(n) < costs_.at(at)) at = n;
        }
      }
    }
  }
  /// The best attempt known of each form, the best first.
  std::vector<std::pair<int64_t, Number>> best_of_forms() const {
    std::map<size_t, std::pair<int64_t, Number>> best;
    for (const auto& [number, cost] : costs_) {
      const auto [at, added] = best.try_emplace(form_of_[number.source], cost, number);
      if (!added) at->second = std::min(at->second, {cost, number});
    }
    std::vector<std::pair<int64_t, Number>> list;
    for (const auto& entry : best) list.push_back(entry.second);
    std::sort(list.begin(), list.end());
    return list;
  }
  size_t layout_number(const Preferences& p) {
    const auto at = std::find(layouts_.begin(), layouts_.end(), p);
    const auto number = static_cast<size_t>(at - layouts_.begin());
    if (at == layouts_.end()) layouts_.push_back(p);
    return number;
  }
  void try_new(const std::vector<Number>& attempts) {
    std::set<Number> unknown(attempts.begin(), attempts.end());
    std::erase_if(unknown, [&](const Number& n) { return costs_.count(n) != 0; });
    try_all({unknown.begin(), unknown.end()});
  }
  /// The other orders of a form with the same layout.
  std::vector<Number> other_orders(const Number& at) {
    const size_t form = form_of_[at.source];
    add_orders(form);
    std::vector<Number> attempts;
    for (size_t s = 0; s < sources_.size(); ++s) {
      if (form_of_[s] == form) attempts.push_back({s, at.layout});
    }
    return attempts;
  }
  /// What differs from a layout in one preference.
  std::vector<Number> other_layouts(const Number& at) {
    const Preferences best = layouts_[at.layout];
    const int64_t groups = task_.machine.memory.groups;
    std::vector<Number> attempts;
    const auto add = [&](const Preferences& p) { attempts.push_back({at.source, layout_number(p)}); };
    for (size_t l = 0; l < given_layouts_; ++l) {
      Preferences p = best;
      p.ring_groups = layouts_[l].ring_groups;
      if (p.small_ring_groups < p.ring_groups) add(p);
      p = layouts_[l];
      p.turns = best.turns, p.products_in_groups = best.products_in_groups, p.small_ring_groups = best.small_ring_groups;
      if (p.ring_groups == best.ring_groups) add(p);
    }
    for (const int64_t small : {int64_t{0}, groups / 8, groups / 4}) {
      Preferences p = best;
      p.small_ring_groups = small;
      if (small < p.ring_groups) add(p);
    }
    Preferences p = best;
    p.products_in_groups = !p.products_in_groups, add(p);
    for (const Turns turns : {Turns::kNone, Turns::kSmall, Turns::kLarge}) {
      p = best, p.turns = turns;
      if (!task_.options.least_memory) add(p);
    }
    return attempts;
  }

  const Forms given_;
  Sources sources_;
  std::vector<size_t> form_of_;  ///< per source: the form whose order it is
  std::vector<Preferences> layouts_;
  const std::set<size_t> probes_;
  const size_t forms_, given_layouts_;
  Task task_;
  size_t form_ = 0;  ///< whose orders are tried
  std::map<Number, int64_t> costs_;  ///< known so far; beyond the best of their time they may be any number beyond it
  Attempt best_;
  Number number_;
  std::mutex choosing_;
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
