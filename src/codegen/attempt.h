// One way to compile: a graph in some order of work, placed, tiled, emitted and linked with some preferences, and judged.
#pragma once
#include <memory>
#include <optional>

#include "base/error.h"
#include "codegen/compile.h"
#include "codegen/emitter.h"
#include "schedule/repetitions.h"

namespace systole {

/// A graph and its order of work; an emitter refers to both.
struct Source {
  Graph graph;
  Schedule::Order order;
  Schedule schedule;
  std::vector<LeftOut> left_out;  ///< by excerpts
  Source(Graph g, const Machine& machine, Schedule::Order o = Schedule::Order::kAsGiven) : graph(std::move(g)), order(o), schedule(graph, o, &machine), left_out(left_out_of(repetitions_of(graph, schedule.steps))) {}
};

struct Candidate {
  std::shared_ptr<const Source> source;
  std::unique_ptr<Placement> placement;  ///< the emitter refers to it
  std::unique_ptr<Emitter> emitter;
  std::vector<isa::Layer> layers;
  int64_t cost = 0;
};

/// All of a program, or an excerpt that leaves most blocks of repetitions out, of which the cost tells as much.
enum class Extent { kInFull, kExcerpt };

/// One candidate, judged; or why it does not fit the machine.
struct Attempt {
  Candidate candidate;
  std::optional<isa::Program> program;
  std::optional<Failure> failure;
};

/// What all attempts of a search share.
struct Task {
  const Machine& machine;
  const std::string& precision;
  const GenerateOptions& options;
  Extent extent = Extent::kInFull;
};

/// A cost beyond `limit` may be any number beyond it. Fails as the passes do; a failure of kind kResource, that it does not fit, is part of the
/// result.
Attempt attempt(const std::shared_ptr<const Source>& source, const Preferences& preferences, const Task& task, int64_t limit);

}  // namespace systole
