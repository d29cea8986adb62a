// The race checker against removed waits: a distance is taken out of a correct program; where some order that the rest
// of the program allows then changes the result, the checker must say so (at least 99 % of 1,000 harmful removals).
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "codegen/compile.h"
#include "passes/pipeline.h"
#include "random_graph.h"
#include "sim/check/race_checker.h"
#include "sim/functional/executor.h"

namespace systole {
namespace {

/// An order in which instruction `p` of the stream runs as early as queues and waits allow: all it depends on, then it,
/// then everything else in program order.
std::vector<uint32_t> earliest_order(const isa::Sequence& s, uint32_t p) {
  const size_t n = s.ops.size();
  std::vector<uint32_t> position(n);
  std::array<std::vector<uint32_t>, isa::kEngines> queue;
  for (uint32_t i = 0; i <= p; ++i) {
    position[i] = static_cast<uint32_t>(queue[static_cast<size_t>(s.ops[i].engine)].size());
    queue[static_cast<size_t>(s.ops[i].engine)].push_back(i);
  }
  // Dispatched before i, per engine.
  std::vector<std::array<uint32_t, isa::kEngines>> before(n);
  std::array<uint32_t, isa::kEngines> count{};
  for (uint32_t i = 0; i < n; ++i) before[i] = count, ++count[static_cast<size_t>(s.ops[i].engine)];
  std::vector<char> needed(n, 0);
  std::vector<uint32_t> work = {p};
  while (!work.empty()) {
    const uint32_t i = work.back();
    work.pop_back();
    if (needed[i]) continue;
    needed[i] = 1;
    const size_t own = static_cast<size_t>(s.ops[i].engine);
    if (position[i] > 0) work.push_back(queue[own][position[i] - 1]);
    for (size_t f = 0; f < isa::kEngines; ++f) {
      if (s.ops[i].wait[f] == isa::kNoWait || before[i][f] <= s.ops[i].wait[f]) continue;
      work.push_back(queue[f][before[i][f] - s.ops[i].wait[f] - 1]);
    }
  }
  std::vector<uint32_t> order;
  for (uint32_t i = 0; i < n; ++i) {
    if (needed[i]) order.push_back(i);
  }
  for (uint32_t i = 0; i < n; ++i) {
    if (!needed[i]) order.push_back(i);
  }
  return order;
}

isa::Waits* wait_of(isa::Instruction& i) {
  return std::visit([](auto& x) -> isa::Waits* {
    if constexpr (requires { x.wait; }) return &x.wait;
    else return nullptr;
  }, i);
}

TEST(RaceMutations, RemovedDistancesAreCaught) {
  const Machine machines[] = {load_machine("nano"), load_machine("edge")};
  std::mt19937_64 rng(99);
  int trials = 0, harmful = 0, caught = 0, flagged = 0;
  for (uint64_t seed = 1; harmful < 1000 && seed < 4000; ++seed) {
    RandomGraph random(seed);
    const auto inputs = random.inputs();
    const FrontResult front = run_front(random.graph(), "bf16");
    const Machine& machine = machines[seed % 2];
    const isa::Program program = generate(front.graph, machine, front.precision);
    const auto expected = Functional(program, machine).run(inputs);
    std::vector<std::pair<size_t, size_t>> places;
    for (size_t i = 0; i < program.code.size(); ++i) {
      isa::Instruction copy = program.code[i];
      if (const isa::Waits* w = wait_of(copy)) {
        for (size_t f = 0; f < isa::kEngines; ++f) {
          if ((*w)[f] != isa::kNoWait) places.emplace_back(i, f);
        }
      }
    }
    std::shuffle(places.begin(), places.end(), rng);
    if (places.size() > 8) places.resize(8);
    for (const auto& [i, f] : places) {
      isa::Program mutant = program;
      (*wait_of(mutant.code[i]))[f] = isa::kNoWait;
      Functional model(mutant, machine);
      uint32_t at = 0;
      while (model.sequence().ops[at].index != i) ++at;
      const auto got = model.run_in_order(inputs, earliest_order(model.sequence(), at));
      const bool harm = !std::equal(got.begin(), got.end(), expected.begin(), [](const Tensor& a, const Tensor& b) { return a.bytes == b.bytes; });
      const bool seen = !check_races(mutant, machine).races.empty();
      ++trials, harmful += harm, caught += harm && seen, flagged += seen;
    }
  }
  std::printf("  %d removals, %d harmful, %d of them caught, %d flagged in all\n", trials, harmful, caught, flagged);
  EXPECT_GE(harmful, 1000);
  EXPECT_GE(caught * 100, harmful * 99);
}

}  // namespace
}  // namespace systole
