// 1,000 random graphs: reference evaluator = functional model = translation bit for bit on every preset and a very small
// machine, with one and two threads, on every host instruction set; every program is free of races.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "base/error.h"
#include "base/parallel.h"
#include "codegen/compile.h"
#include "graph/text.h"
#include "ops/reference.h"
#include "passes/passes.h"
#include "passes/pipeline.h"
#include "random_graph.h"
#include "sim/check/race_checker.h"
#include "sim/translate/host.h"
#include "sim/translate/matrix_tiles.h"
#include "sim/translate/translated.h"

namespace systole {
namespace {

/// nano with so little memory that everything is cut into tiles.
Machine tiny() {
  std::string yaml = load_machine("nano").text;
  auto replace = [&](const std::string& from, const std::string& to) { yaml.replace(yaml.find(from), from.size(), to); };
  replace("name: nano", "name: tiny");
  replace("scratchpad_bytes: 256Ki", "scratchpad_bytes: 32Ki");
  replace("accumulator_bytes: 16Ki", "accumulator_bytes: 1Ki");
  return parse_machine(yaml, "tiny");
}

/// The kernels for tile registers, emulated where the host has none; twice, as threads keep operands from instruction to instruction.
void on_tiles(const isa::Program& program, const Machine& machine, const std::vector<Tensor>& first, const std::vector<Tensor>& second) {
  emulate_tiles(true);
  EXPECT_EQ(has_tile_kernels(), has_kernels());
  Translated tiled(program, machine);
  for (const auto* inputs : {&first, &second}) {
    const auto got = tiled.run(*inputs), expected = Functional(program, machine).run(*inputs);
    for (size_t k = 0; k < got.size(); ++k) EXPECT_EQ(got[k].bytes, expected[k].bytes) << "on " << machine.name << ", on tiles";
  }
  emulate_tiles(false);
}

TEST(RandomGraphs, ReferenceEqualsFunctionalModel) {
  const std::vector<Machine> machines = {load_machine("edge"), load_machine("nano"), load_machine("server"), tiny()};
  const char* const kPrecisions[] = {"bf16", "fp32", "fp16"};
  const HostIsa kIsas[] = {HostIsa::kAvx512, HostIsa::kAvx2, HostIsa::kScalar};
  Machine small = load_machine("nano");
  small.memory.scratchpad_bytes = 2048;
  int compiled = 0, too_small = 0, in_blocks = 0, in_groups = 0, in_stripes = 0;
  const uint64_t first = std::getenv("SYSTOLE_SEED") ? std::strtoull(std::getenv("SYSTOLE_SEED"), nullptr, 10) : 1;
  for (uint64_t seed = first; seed < first + 1000; ++seed) {
    RandomGraph random(seed);
    const auto inputs = random.inputs();
    const FrontResult front = run_front(random.graph(), kPrecisions[seed % 3]);
    // Text and back is the same graph.
    if (seed % 20 == 0) {
      const std::string text = print_graph(front.graph, true);
      ASSERT_EQ(print_graph(parse_graph(text, "text"), true), text);
    }
    const auto expected = evaluate(front.graph, inputs);
    if (front.precision == "fp32") {  // where nothing is rounded on its way, joining maps changes no bit; nor do blocks, anywhere
      const auto plain = evaluate(legalise(run_onnx_passes(random.graph(), "fp32").graph, front.policy), inputs);
      for (size_t k = 0; k < plain.size(); ++k) ASSERT_EQ(plain[k].bytes, expected[k].bytes) << "seed " << seed << ": fused";
    }
    if (Graph blocks = front.graph; tile_maps(blocks, 2048)) {
      ++in_blocks;
      verify(blocks, "tile_maps");
      const auto tiled = evaluate(blocks, inputs);
      for (size_t k = 0; k < tiled.size(); ++k) ASSERT_EQ(tiled[k].bytes, expected[k].bytes) << "seed " << seed << ": in blocks";
    }
    if (Graph groups = front.graph; tile_layers(groups, small, {small.memory.scratchpad_bytes, 1, seed % 2 == 1})) {
      ++in_groups;
      verify(groups, "tile_layers");
      const auto tiled = evaluate(groups, inputs);
      for (size_t k = 0; k < tiled.size(); ++k) ASSERT_EQ(tiled[k].bytes, expected[k].bytes) << "seed " << seed << ": in groups of images";
    }
    if (Graph rows = front.graph; tile_cascades(rows, small, small.memory.scratchpad_bytes, 1)) {
      ++in_stripes;
      verify(rows, "tile_cascades");
      const auto tiled = evaluate(rows, inputs);
      for (size_t k = 0; k < tiled.size(); ++k) ASSERT_EQ(tiled[k].bytes, expected[k].bytes) << "seed " << seed << ": in stripes of rows";
    }
    const Machine& machine = machines[seed % machines.size()];
    set_thread_count(static_cast<int>(seed % 2 + 1));
    limit_host_isa(kIsas[seed % 5 % 3]);
    try {
      const isa::Program program = generate(front.graph, machine, front.precision);
      const auto races = check_races(program, machine).races;
      ASSERT_TRUE(races.empty()) << "seed " << seed << ": " << races[0].text();
      const auto got = Functional(program, machine).run(inputs);
      for (size_t k = 0; k < got.size(); ++k) ASSERT_EQ(got[k].bytes, expected[k].bytes) << "seed " << seed << " on " << machine.name << " in " << front.precision << " with " << to_string(host_isa());
      // Limited to other host instruction sets, the translation is the interpreter.
      limit_host_isa(HostIsa::kAmx);
      const auto translated = Translated(program, machine).run(inputs);
      for (size_t k = 0; k < got.size(); ++k) ASSERT_EQ(translated[k].bytes, expected[k].bytes) << "seed " << seed << " on " << machine.name << " in " << front.precision << ", translated";
      on_tiles(program, machine, inputs, random.inputs());
      ++compiled;
    } catch (const Failure& f) {
      ASSERT_EQ(f.error().code, ErrorCode::kResource) << "seed " << seed << ": " << f.what();
      ASSERT_EQ(machine.name, "tiny") << "seed " << seed << ": " << f.what();
      ++too_small;
    }
    limit_host_isa(HostIsa::kAmx);
  }
  set_thread_count(0);
  std::printf("  %d graphs equal bit for bit, %d do not fit the tiny machine; %d have runs of maps that blocks suit, %d layers that groups suit, %d that stripes suit\n", compiled, too_small, in_blocks, in_groups, in_stripes);
  EXPECT_GE(in_blocks, 20);
  EXPECT_GE(in_groups, 20);
  EXPECT_GE(in_stripes, 5);
  EXPECT_GE(compiled, 900);
}

}  // namespace
}  // namespace systole
