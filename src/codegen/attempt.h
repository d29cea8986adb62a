// One way to compile: a graph in some order of work, placed, tiled, emitted and linked with some preferences, and judged.
#pragma once
#include <atomic>
#include <memory>
#include <optional>

#include "base/error.h"
#include "codegen/compile.h"
#include "codegen/emitter.h"

namespace systole {

/// A graph and its order of work; an emitter refers to both.
struct Source {
  Graph graph;
  Schedule::Order order;
  Schedule schedule;
  Source(Graph g, const Machine& machine, Schedule::Order o = Schedule::Order::kAsGiven) : graph(std::move(g)), order(o), schedule(graph, o, &machine) {}
};

struct Candidate {
  std::shared_ptr<const Source> source;
  std::unique_ptr<Placement> placement;  ///< the emitter refers to it
  std::unique_ptr<Emitter> emitter;
  std::vector<isa::Layer> layers;
  int64_t cost = 0;
};

/// One candidate, judged; or why it does not fit the machine.
struct Attempt {
  Candidate candidate;
  std::optional<isa::Program> program;
  std::optional<Failure> failure;
};

/// What attempts learn from those before them.
struct Learned {
  std::atomic<int64_t> least_cost{INT64_MAX};
  std::atomic<size_t> instructions{4096};
};

/// Fails as the passes do; a failure of kind kResource, that it does not fit, is part of the result.
Attempt attempt(const std::shared_ptr<const Source>& source, const Machine& machine, const std::string& precision, const Preferences& preferences, const GenerateOptions& options, Learned& learned);

}  // namespace systole
