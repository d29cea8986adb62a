// Timing against theory: more of any resource never slows a model by more than 1 %; ResNet-50 in int8 keeps its promise.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <regex>

#include "architectures/architectures.h"
#include "base/parallel.h"
#include "codegen/compile.h"
#include "import/onnx.h"
#include "isa/codec.h"
#include "passes/pipeline.h"
#include "report/report.h"
#include "sim/dram/dram.h"
#include "sim/timing/timing.h"

namespace systole {
namespace {

int64_t cycles(const Graph& graph, const Machine& machine) {
  auto judge = [&](const isa::Program& p, const std::vector<isa::StandIn>&, int64_t) { return simulate(isa::sequence(p.code, "t"), machine).cycles; };
  return judge(generate(graph, machine, "bf16", {.judge = judge}), {}, INT64_MAX);
}

struct Resource {
  const char* name;
  void (*more)(Machine&);
};
constexpr Resource kResources[] = {
    {"depth", [](Machine& m) { m.mx.depth *= 2, m.mx.float_units *= 2; }},
    {"columns", [](Machine& m) { m.mx.columns *= 2, m.mx.b_port_bytes *= 2, m.memory.accumulator_bytes *= 2; }},
    {"B port", [](Machine& m) { m.mx.b_port_bytes *= 2; }},
    {"float units", [](Machine& m) { m.mx.float_units = std::min(m.mx.depth, 2 * m.mx.float_units); }},
    {"lanes", [](Machine& m) { m.vx.lanes *= 2, m.vx.table_ports *= 2; }},
    {"table ports", [](Machine& m) { m.vx.table_ports *= 2; }},
    {"scratchpad", [](Machine& m) { m.memory.scratchpad_bytes *= 2; }},
    {"accumulators", [](Machine& m) { m.memory.accumulator_bytes *= 2; }},
    {"DMA width", [](Machine& m) { m.dma.bytes_per_cycle *= 2; }},
    {"DRAM bandwidth", [](Machine& m) { m.dram.bytes_per_cycle *= 2; }},
    {"DRAM banks", [](Machine& m) { m.dram.banks *= 2; }},
    {"queue depth", [](Machine& m) { m.control.fifo_depth = std::min<int64_t>(30, 2 * m.control.fifo_depth); }},
    {"fetch", [](Machine& m) { m.control.fetch_bytes_per_cycle *= 2; }},
};

TEST(TimingBounds, MoreOfAnythingIsNeverMuchSlower) {
  for (const char* name : {"resnet8", "ds-cnn", "unet", "mobilenetv2"}) {
    const std::string path = std::string(SYSTOLE_BUILD) + "/" + name + "-bounds.onnx";
    find_architecture(name).write(path, 1, std::string(name) == "mobilenetv2" ? 96 : std::string(name) == "unet" ? 64 : 32);
    const FrontResult front = run_front(import_onnx(path, {}), "bf16");
    for (const char* preset : {"edge", "nano"}) {
      const Machine base = load_machine(preset);
      const int64_t before = cycles(front.graph, base);
      for (const Resource& r : kResources) {
        Machine more = base;
        r.more(more);
        const int64_t after = cycles(front.graph, more);
        EXPECT_LE(static_cast<double>(after), 1.01 * static_cast<double>(before)) << name << " on " << preset << " with twice the " << r.name << ": " << before << " -> " << after;
      }
    }
  }
}

TEST(TimingBounds, ResNet50ReachesSeventyPercentOfItsBound) {
  const Machine machine = load_machine("edge");
  auto judge = [&](const isa::Program& p, const std::vector<isa::StandIn>&, int64_t) { return simulate(isa::sequence(p.code, "t"), machine).cycles; };
  for (const char* name : {"resnet50-qdq", "resnet50"}) {
    const std::string path = std::string(SYSTOLE_BUILD) + "/" + name + "-bounds.onnx";
    find_architecture(name).write(path, 1, 224);
    const FrontResult front = run_front(import_onnx(path, {}), "auto");
    const isa::Program program = generate(front.graph, machine, front.precision, {.judge = judge});
    const auto sequence = isa::sequence(program.code, "t");
    const Report r = make_report(program, machine, sequence, simulate(sequence, machine));
    std::printf("  %s in %s on edge: %lld cycles, %.1f %% of the bound\n", name, front.precision.c_str(), static_cast<long long>(r.cycles), 100 * r.efficiency);
    EXPECT_GE(r.efficiency, 0.70) << name;
  }
}

/// A convolution of one stride whose weights come at run time, as in training; what drains it adds a tensor of its shape.
Report convolution(const Machine& machine, const Shape& x, int64_t kernel, int64_t columns) {
  Graph g;
  g.name = "convolution";
  const Shape y = {x[0], x[1], x[2], columns};
  for (const auto& [name, shape] : std::initializer_list<std::pair<const char*, Shape>>{{"x", x}, {"w", {1, 1, kernel, kernel, x[3], columns}}, {"r", y}}) g.inputs.push_back(g.add_value(name, DType::kBF16, shape));
  Contract c;
  c.format = MacFormat::kBF16, c.kernel_h = c.kernel_w = kernel, c.pad_top = c.pad_left = kernel / 2;
  const ValueId sums = g.add_value("sums", DType::kF32, y), out = g.add_value("y", DType::kBF16, y);
  Map add;
  add.extents = y;
  for (int k = 0; k < 2; ++k) add.accesses.push_back({{{0, {{0, 1}}}, {0, {{1, 1}}}, {0, {{2, 1}}}, {0, {{3, 1}}}}, false, 0});
  add.pre = {{isa::Micro::kAdd, {Operand::input(0), Operand::input(1)}}};
  g.nodes = {{"contract", c, {g.inputs[0], g.inputs[1]}, {sums}}, {"drain", add, {sums, g.inputs[2]}, {out}}};
  g.outputs = {out};
  verify(g, "test");
  const isa::Program program = generate(g, machine, "bf16", {.judge = judge_on(machine)});
  const auto sequence = isa::sequence(program.code, "t");
  return make_report(program, machine, sequence, simulate(sequence, machine));
}

TEST(TimingBounds, WeightsOfARunAreLoadedOnceForAllImages) {
  const Report r = convolution(load_machine("server"), {16, 7, 7, 512}, 3, 512);  // 4.7 MB of weights, more than the scratchpad
  EXPECT_LE(r.dram_read_bytes, 3 * (9 * 512 + 16 * 49 * 2) * 512 * 2);
}

TEST(TimingBounds, DrainsReadAndWriteAtOnce) {
  Machine m = load_machine("server");
  for (const int64_t bandwidth : {48, 64, 100}) {
    m.dram.bytes_per_cycle = bandwidth;
    const Report r = convolution(m, {8, 56, 56, 64}, 1, 256);
    EXPECT_LE(static_cast<double>(r.cycles), 1.1 * static_cast<double>(r.dram_read_bytes + r.dram_write_bytes) / static_cast<double>(bandwidth)) << bandwidth << " bytes a cycle";
  }
}

/// The judge that stops early: no cost within the limit changes, none beyond it comes within. So the program does not depend on the order in
/// which threads finish candidates.
TEST(TimingBounds, JudgesThatStopEarlyChooseTheSameProgram) {
  const std::string path = std::string(SYSTOLE_BUILD) + "/timing-judge.onnx";
  find_architecture("resnet8").write(path, 1, 32);
  const FrontResult front = run_front(import_onnx(path, {}), "bf16");
  for (const char* preset : {"nano", "edge"}) {
    const Machine machine = load_machine(preset);
    const auto program = [&](int threads, bool stops) {
      set_thread_count(threads);
      return generate(front.graph, machine, "bf16", {.judge = [&](const isa::Program& p, const std::vector<isa::StandIn>& s, int64_t limit) { return cost_of(p, machine, s, stops ? limit : INT64_MAX); }});
    };
    const isa::Program p = program(1, false);
    const int64_t cost = cost_of(p, machine);
    for (int64_t limit : {int64_t{0}, cost / 4, cost - 1, cost, cost + 1}) {
      if (limit >= cost) EXPECT_EQ(cost_of(p, machine, {}, limit), cost) << limit;
      else EXPECT_GT(cost_of(p, machine, {}, limit), limit);
    }
    for (int threads : {1, 2, 3}) EXPECT_EQ(isa::encode_all(program(threads, true).code), isa::encode_all(p.code)) << preset << ", " << threads << " threads";
    set_thread_count(0);
  }
}

TEST(TimingBounds, DramReachesItsBandwidthAndNoMore) {
  for (const char* preset : {"nano", "edge", "server"}) {
    const Machine m = load_machine(preset);
    // Whatever it is: a burst need not take a whole number of cycles, and several may pass in one.
    for (const int64_t bandwidth : {m.dram.bytes_per_cycle, int64_t{1}, int64_t{3}, int64_t{10}, int64_t{24}, int64_t{37}, int64_t{48}, int64_t{96}, int64_t{150}}) {
      DramTiming timing = m.dram;
      timing.bytes_per_cycle = bandwidth;
      Dram dram(timing);
      const int64_t bytes = 4 << 20, done = dram.access(0, 0, bytes, false);
      EXPECT_GE(done, bytes / bandwidth) << preset << " with " << bandwidth << " bytes a cycle";
      EXPECT_LE(static_cast<double>(done), 1.12 * static_cast<double>(bytes) / static_cast<double>(bandwidth)) << preset << " with " << bandwidth << " bytes a cycle: a stream should reach most of the bandwidth";
    }
    // One burst per row, always another row of the same bank: activation shows.
    Dram scattered(m.dram);
    int64_t end = 0;
    for (int i = 0; i < 100; ++i) end = scattered.access(end, static_cast<uint64_t>(i) * static_cast<uint64_t>(m.dram.row_bytes * m.dram.banks), m.dram.burst_bytes, false);
    EXPECT_GE(end, 100 * (m.dram.activate_cycles + m.dram.cas_cycles)) << preset;
  }
}

TEST(TimingBounds, DistanceGateIsTight) {
  // A vector instruction that waits for a copy starts in the cycle the copy retires: legal at t, not at t - 1.
  const Machine m = load_machine("edge");
  const auto code = std::string(
      "copydesc engine=ld extents=1,1,1,1,4096 src_strides=0,0,0,0,1 dst_strides=0,0,0,0,1\n"
      "vectordesc types=i8,none,none,i8 extents=1,1,1,1,1,4096 strides0=0,0,0,0,0,1 out_strides=0,0,0,0,0,1\n"
      "vectorprogram pre_count=1 ops=mov:0:8:0:0 out_lo=-128 out_hi=127\n"
      "load locks=1\n");
  auto start_of_vector = [&](const char* line) {
    const auto program = isa::assemble(code + line + "end\n", "t");
    return simulate(isa::sequence(program, "t"), m);
  };
  const Timing waits = start_of_vector("vector wait=0,31,31,31 locks=2 imms=131072,0,0,131072\n");
  EXPECT_EQ(waits.events[4].start, waits.events[3].retire);
  const Timing free_run = start_of_vector("vector locks=2 imms=131072,0,0,131072\n");
  EXPECT_LT(free_run.events[4].start, free_run.events[3].retire);
  const Timing locked = start_of_vector("vector locks=1 imms=0,0,0,0\n");
  EXPECT_EQ(locked.events[4].start, locked.events[3].retire);
}

/// What stands for the blocks that an excerpt leaves out tells what all of them cost, and the program that is chosen has them all.
TEST(TimingBounds, ExcerptsOfRepeatedBlocksCostWhatTheWholeCosts) {
  const std::string path = std::string(SYSTOLE_BUILD) + "/timing-repeated.onnx";
  find_architecture("lstm").write(path, 1, 64);
  const FrontResult front = run_front(import_onnx(path, {}), "bf16");
  for (const char* preset : {"nano", "edge", "server"}) {
    const Machine machine = load_machine(preset);
    std::mutex mutex;
    int64_t excerpt = INT64_MAX, whole = INT64_MAX, excerpts = 0, wholes = 0;
    const isa::Program p = generate(front.graph, machine, "bf16", {.judge = [&](const isa::Program& candidate, const std::vector<isa::StandIn>& stand_ins, int64_t limit) {
      const int64_t cost = cost_of(candidate, machine, stand_ins, limit);
      const std::lock_guard lock(mutex);
      auto& least = stand_ins.empty() ? whole : excerpt;
      least = std::min(least, cost), ++(stand_ins.empty() ? wholes : excerpts);
      return cost;
    }});
    EXPECT_GT(excerpts, wholes) << preset;
    EXPECT_EQ(cost_of(p, machine), whole) << preset;
    EXPECT_NEAR(static_cast<double>(excerpt) / static_cast<double>(whole), 1, 0.01) << preset;
    set_thread_count(1);
    EXPECT_EQ(isa::encode_all(generate(front.graph, machine, "bf16", {.judge = judge_on(machine)}).code), isa::encode_all(p.code)) << preset;
    set_thread_count(0);
  }
}

/// From the best of the usual search on, in excerpts and in full: never worse, and the same program for any number of threads.
TEST(TimingBounds, AThoroughSearchIsNeverWorse) {
  for (const char* name : {"lstm", "ds-cnn"}) {
    const std::string path = std::string(SYSTOLE_BUILD) + "/timing-thorough.onnx";
    find_architecture(name).write(path, 1, std::string(name) == "lstm" ? 64 : 0);
    const FrontResult front = run_front(import_onnx(path, {}), "bf16");
    for (const char* preset : {"nano", "server"}) {
      const Machine machine = load_machine(preset);
      const auto program = [&](Effort effort) { return generate(front.graph, machine, "bf16", {.judge = judge_on(machine), .effort = effort}); };
      const isa::Program p = program(Effort::kThorough);
      EXPECT_LE(cost_of(p, machine), cost_of(program(Effort::kUsual), machine)) << name << " on " << preset;
      set_thread_count(1);
      EXPECT_EQ(isa::encode_all(program(Effort::kThorough).code), isa::encode_all(p.code)) << name << " on " << preset;
      set_thread_count(0);
    }
  }
}

/// An excerpt that promises too little is found out: as long as one promises less than the best program costs, the next are compiled in full.
TEST(TimingBounds, ExcerptsThatPromiseTooLittleAreNotBelieved) {
  const std::string path = std::string(SYSTOLE_BUILD) + "/timing-promises.onnx";
  find_architecture("lstm").write(path, 1, 64);
  const FrontResult front = run_front(import_onnx(path, {}), "bf16");
  const Machine machine = load_machine("edge");
  for (const bool honest : {true, false}) {
    std::mutex mutex;
    std::map<int64_t, int> promised;
    std::vector<int64_t> wholes;
    const isa::Program p = generate(front.graph, machine, "bf16", {.judge = [&](const isa::Program& candidate, const std::vector<isa::StandIn>& stand_ins, int64_t) {
      const int64_t cost = cost_of(candidate, machine, stand_ins);
      const std::lock_guard lock(mutex);
      if (stand_ins.empty()) return wholes.push_back(cost), cost;
      const int64_t promise = honest ? 2 * cost : (int64_t{1} << 32) / cost;  // less than any costs, and the worst the least
      ++promised[promise];
      return promise;
    }});
    EXPECT_EQ(cost_of(p, machine), *std::min_element(wholes.begin(), wholes.end()));
    if (honest) EXPECT_EQ(wholes.size(), 2u);
    else EXPECT_EQ(wholes.size(), std::min<size_t>(8, promised.size()));
  }
}

}  // namespace
}  // namespace systole
