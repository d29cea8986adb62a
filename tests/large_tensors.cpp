// Tensors beyond the scratchpad: runs of maps go through it in blocks, beside contractions that leave DRAM idle. The same bits as the
// reference evaluator, which knows neither, no races, and less time than one after the other.
#include <gtest/gtest.h>

#include <random>

#include "architectures/architectures.h"
#include "codegen/attempt.h"
#include "codegen/constants.h"
#include "import/onnx.h"
#include "import/writer.h"
#include "ops/reference.h"
#include "passes/passes.h"
#include "passes/pipeline.h"
#include "runtime/plan.h"
#include "schedule/steps.h"
#include "sim/check/race_checker.h"
#include "sim/timing/timing.h"

namespace systole {
namespace {

constexpr const char* kMachine = "nano";

/// Parts that do not depend on each other: a product of x, a normalised softmax of v, a sum of a and b.
struct Parts {
  bool product, normal, sum;
};

std::string write(Parts parts) {
  const std::string file = std::string(SYSTOLE_BUILD) + "/large-" + (parts.product ? "product" : "") + (parts.normal ? "normal" : "") + (parts.sum ? "sum" : "") + ".onnx";
  ModelWriter w("large", "", 17);
  std::mt19937_64 rng(5);
  auto random = [&](const char* name, Shape shape) {
    Tensor t(DType::kF32, std::move(shape));
    for (int64_t i = 0; i < t.count(); ++i) t.set(i, static_cast<double>(static_cast<int64_t>(rng() % 2001) - 1000) * 1e-3);
    return w.constant(name, t);
  };
  if (parts.product) {
    w.input("x", DType::kF32, {1024, 256});
    w.node("Relu", {w.node("MatMul", {"x", random("weights", {256, 256})})}, {}, "y");
    w.output("y", DType::kF32, {1024, 256});
  }
  const std::vector<ModelWriter::Dim> shape = {8, 64, 512};
  if (parts.sum) {
    w.input("a", DType::kF32, shape);
    w.input("b", DType::kF32, shape);
    w.node("Add", {"a", "b"}, {}, "c");
    w.output("c", DType::kF32, shape);
  }
  if (parts.normal) {
    w.input("v", DType::kF32, shape);
    const std::string axes = w.constant("axes", Tensor::from_ints({2}, {1})), all = w.constant("shape", Tensor::from_ints({8, 64, 512}, {3}));
    const std::string rows = w.node("Reshape", {"v", w.constant("rows", Tensor::from_ints({512, 512}, {2}))});
    const std::string biased = w.node("Reshape", {w.node("Add", {rows, random("bias", {512})}), all});
    // A layer normalisation in its parts, as training has it: d is read twice, and multiplied with itself.
    const std::string d = w.node("Sub", {biased, w.node("ReduceMean", {biased}, {{"axes", std::vector<int64_t>{2}}})});
    const std::string spread = w.node("Sqrt", {w.node("ReduceMean", {w.node("Mul", {d, d})}, {{"axes", std::vector<int64_t>{2}}})});
    const std::string normal = w.node("Mul", {w.node("Div", {d, w.node("Expand", {spread, all})}), random("scale", {512})});
    w.node("Add", {w.node("Softmax", {normal}), w.node("Sigmoid", {d})}, {}, "z");
    w.node("ReduceSum", {"z", axes}, {{"keepdims", int64_t{0}}}, "sums");
    w.output("z", DType::kF32, shape);
    w.output("sums", DType::kF32, {8, 64});
  }
  w.save(file);
  return file;
}

std::unique_ptr<Plan> plan_of(const FrontResult& front, bool reference) {
  const Judge judge = [](const isa::Program& p, const std::vector<isa::StandIn>&, int64_t) { return simulate(isa::sequence(p.code, "test"), load_machine(kMachine)).cycles; };
  return std::make_unique<Plan>(front.graph, std::make_shared<const PlanContext>(PlanContext{load_machine(kMachine), front.policy, front.precision, judge, {}, reference}));
}

std::vector<HostValue> inputs_of(const Plan& plan) {
  std::mt19937_64 rng(11);
  std::vector<HostValue> in;
  for (const auto& b : plan.inputs()) {
    Tensor t(b.type, b.shape);
    for (int64_t i = 0; i < t.count(); ++i) t.set(i, static_cast<double>(static_cast<int64_t>(rng() % 4001) - 2000) * 1e-3);
    in.emplace_back(std::move(t));
  }
  return in;
}

/// Runs it against the reference evaluator; the cycles.
int64_t checked_cycles(Parts parts, const char* precision) {
  const FrontResult front = run_onnx_passes(import_onnx(write(parts), {}), precision);
  const auto plan = plan_of(front, false), reference = plan_of(front, true);
  const auto in = inputs_of(*plan);
  const auto got = plan->run(in), expected = reference->run(in);
  for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i].tensor->bytes, expected[i].tensor->bytes) << precision << " output " << i;
  const isa::Program& p = plan->whole()->program;
  EXPECT_TRUE(check_races(p, load_machine(kMachine)).races.empty()) << precision;
  return simulate(isa::sequence(p.code, "test"), load_machine(kMachine)).cycles;
}

TEST(LargeTensors, SameBits) {
  for (const char* precision : {"bf16", "fp32"}) checked_cycles({true, true, true}, precision);
}

/// Cycles of the program that does not take the product in groups of rows, which nothing is woven into.
int64_t cycles_whole(Parts parts) {
  const FrontResult front = run_front(import_onnx(write(parts), {}), "bf16");
  const Machine machine = load_machine(kMachine);
  const Judge judge = [&](const isa::Program& p, const std::vector<isa::StandIn>&, int64_t) { return simulate(isa::sequence(p.code, "test"), machine).cycles; };
  return judge(generate(front.graph, machine, "bf16", {.judge = judge, .effort = Effort::kQuick}), {}, INT64_MAX);
}

TEST(LargeTensors, BesideAProductASumCostsLess) {
  const Parts kProduct{true, false, false}, kSum{false, false, true}, kBoth{true, false, true};
  const int64_t product = cycles_whole(kProduct), sum = cycles_whole(kSum), both = cycles_whole(kBoth);
  std::printf("  product %ld, sum %ld, both %ld cycles\n", product, sum, both);
  EXPECT_LT(both - product, sum / 2);
  // More forms and layouts never cost more.
  EXPECT_LE(checked_cycles(kProduct, "bf16"), product);
  EXPECT_LE(checked_cycles(kSum, "bf16"), sum);
  EXPECT_LE(checked_cycles(kBoth, "bf16"), both);
}

TEST(LargeTensors, PassesKeepEachElement) {
  const Machine machine = load_machine(kMachine);
  for (const char* precision : {"bf16", "fp32"}) {
    FrontResult front = run_onnx_passes(import_onnx(write({true, true, true}), {}), precision);
    const Graph plain = legalise(front.graph, front.policy);
    Graph fused = plain;
    fuse_maps(fused);
    verify(fused, "fuse_maps");
    std::vector<Tensor> in;
    for (ValueId v : plain.inputs) {
      in.emplace_back(plain.value(v).type, plain.value(v).shape);
      std::mt19937_64 rng(7);
      for (int64_t i = 0; i < in.back().count(); ++i) in.back().set(i, static_cast<double>(static_cast<int64_t>(rng() % 4001) - 2000) * 1e-3);
    }
    const auto before = evaluate(plain, in), after = evaluate(fused, in);
    // Fused maps round to bf16 less often; in fp32 nothing changes.
    for (size_t i = 0; std::string(precision) == "fp32" && i < before.size(); ++i) EXPECT_EQ(before[i].bytes, after[i].bytes) << i;
    Graph blocks = fused;
    ASSERT_TRUE(tile_maps(blocks, machine.memory.scratchpad_bytes));
    verify(blocks, "tile_maps");
    const auto tiled = evaluate(blocks, in);
    for (size_t i = 0; i < after.size(); ++i) EXPECT_EQ(after[i].bytes, tiled[i].bytes) << precision << i;
    EXPECT_FALSE(Schedule(blocks, Schedule::Order::kWoven, &machine).as_given());
    EXPECT_TRUE(Schedule(blocks).as_given());
  }
}

/// Two products side by side in one tensor, of which one has long sums; one that reads its operand turned; products of four heads of two
/// sequences; and a large input turned.
std::string write_turned() {
  const std::string file = std::string(SYSTOLE_BUILD) + "/large-turned.onnx";
  ModelWriter w("turned", "", 17);
  std::mt19937_64 rng(6);
  auto random = [&](const char* name, int64_t rows) {
    Tensor t(DType::kF32, {rows, 256});
    for (int64_t i = 0; i < t.count(); ++i) t.set(i, static_cast<double>(static_cast<int64_t>(rng() % 2001) - 1000) * 1e-3);
    return w.constant(name, t);
  };
  w.input("x", DType::kF32, {512, 2048});
  w.input("b", DType::kF32, {300, 512});
  const auto turned = [&](const std::string& what, const std::string& as = {}) { return w.node("Transpose", {what}, {{"perm", std::vector<int64_t>{1, 0}}}, as); };
  const auto product = [&](const std::string& by, const char* name, int64_t rows, const std::string& as = {}) { return w.node("Relu", {w.node("MatMul", {by, random(name, rows)})}, {}, as); };
  const std::string shared = product("x", "shared", 2048), left = product(shared, "left", 256), right = product("x", "right", 2048);
  const std::string beside = w.node("Concat", {left, right}, {{"axis", int64_t{1}}});
  w.node("Softmax", {w.node("Softmax", {w.node("Softmax", {beside})})}, {}, "y");  // more than what a large ring leaves
  w.output("y", DType::kF32, {512, 512});
  w.node("Tanh", {w.node("MatMul", {shared, random("both", 256)}, {}, "u")}, {}, "v");  // the product and what follows it
  w.output("u", DType::kF32, {512, 256});
  w.output("v", DType::kF32, {512, 256});
  product(turned(shared), "across", 512, "t");
  w.output("t", DType::kF32, {256, 256});
  const auto moved = [&](const std::string& what, const std::vector<int64_t>& perm) { return w.node("Transpose", {what}, {{"perm", perm}}); };
  const auto shaped = [&](const std::string& what, const std::vector<int64_t>& to) { return w.node("Reshape", {what, w.constant(what + ".shape", Tensor::from_ints(to, {static_cast<int64_t>(to.size())}))}); };
  const auto heads = [&](const std::string& what, const std::vector<int64_t>& perm) { return moved(shaped(what, {2, 256, 4, 64}), perm); };
  const std::string query = product("x", "query", 2048), key = product("x", "key", 2048), value = product("x", "value", 2048);
  const std::string scores = w.node("Relu", {w.node("MatMul", {heads(query, {0, 2, 1, 3}), heads(key, {0, 2, 3, 1})})});
  w.node("Tanh", {shaped(moved(w.node("MatMul", {scores, heads(value, {0, 2, 1, 3})}), {0, 2, 1, 3}), {512, 256})}, {}, "a");
  w.output("a", DType::kF32, {512, 256});
  turned("b", "z");
  w.output("z", DType::kF32, {512, 300});
  w.save(file);
  return file;
}

TEST(LargeTensors, EveryOrderAndRingKeepsTheBits) {
  int heads = 0, beside = 0, small = 0, in_place = 0, operands = 0, parts = 0, followers = 0;
  FrontResult front = run_front(import_onnx(write_turned(), {}), "bf16");
  std::vector<Tensor> in;
  for (ValueId v : front.graph.inputs) {
    in.emplace_back(front.graph.value(v).type, front.graph.value(v).shape);
    std::mt19937_64 rng(8);
    for (int64_t i = 0; i < in.back().count(); ++i) in.back().set(i, static_cast<double>(static_cast<int64_t>(rng() % 4001) - 2000) * 1e-3);
  }
  const auto expected = evaluate(front.graph, in);
  const std::string precision = "bf16";
  const GenerateOptions options;
  Graph in_groups = front.graph;
  ASSERT_TRUE(tile_heads(in_groups, 3 << 19));
  verify(in_groups, "tile_heads");
  for (const char* name : {"nano", "edge", "server"}) {
    const Machine machine = load_machine(name);
    using Order = Schedule::Order;
    for (const Order order : {Order::kAsGiven, Order::kCopiesFirst, Order::kCopiesBeside, Order::kPassingCopiesBeside, Order::kWoven}) {
      const bool whole = order != Order::kAsGiven;  // the heads of the sequences, which are one by one as given
      const auto source = std::make_shared<const Source>(whole ? front.graph : in_groups, machine, order);
      const Graph& graph = source->graph;
      for (const Node& n : graph.nodes) {
        if (!std::holds_alternative<Contract>(n.op)) continue;
        for (ValueId v : n.inputs) operands += !source->schedule.strides[static_cast<size_t>(v)].empty();
      }
      const int64_t rings = machine.memory.groups;
      const std::tuple<int64_t, bool, Turns> kVariants[] = {{0, true, Turns::kSmall}, {0, false, Turns::kNone}, {rings / 8, true, Turns::kLarge}, {rings / 4, true, Turns::kSmall}};
      for (const auto& [groups, own, turns] : kVariants) {
        const Preferences preferences{.ring_groups = rings * 3 / 4, .turns = turns, .products_in_groups = own, .small_ring_groups = groups};
        Attempt a = attempt(source, preferences, {machine, precision, options}, INT64_MAX);
        const std::string where = std::string(name) + ", order " + std::to_string(static_cast<int>(order)) + ", small ring of " + std::to_string(groups) + (own ? "" : ", tiles may share groups");
        ASSERT_TRUE(a.program) << where;
        a.program->constants = constants_of(a.candidate.source->graph, *a.candidate.emitter);
        EXPECT_TRUE(check_races(*a.program, machine).races.empty()) << where;
        const Schedule& schedule = a.candidate.source->schedule;
        for (const Step& s : schedule.steps) beside += s.with >= 0 && order == Order::kCopiesBeside, followers += s.then >= 0;
        for (int64_t base : a.candidate.placement->ring_base) small += base > machine.memory.scratchpad_bytes - preferences.ring_groups * machine.group_bytes();
        for (const Strides& s : schedule.strides) in_place += !s.empty(), heads += s.images > 0;
        for (const auto& i : a.program->code) {
          const auto* m = std::get_if<isa::Matrix>(&i);
          parts += m && m->init == isa::Init::kKeep;
        }
        LoadedProgram loaded(std::move(*a.program), machine);
        const auto out = loaded.run(in);
        for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i].bytes, expected[i].bytes) << where << ", output " << i;
      }
    }
  }
  EXPECT_GT(heads, 0);
  EXPECT_GT(beside, 0);
  EXPECT_GT(small, 0);
  EXPECT_GT(operands, 0);
  EXPECT_GT(in_place, operands);
  EXPECT_GT(parts, 0);
  EXPECT_GT(followers, 0);
}

/// A long product of what lies in the scratchpad by what does not fit it, which comes in parts: the same bits, for any ring.
TEST(LargeTensors, LongProductsTakeStreamedOperandsInParts) {
  const std::string file = std::string(SYSTOLE_BUILD) + "/large-long.onnx";
  ModelWriter w("long", "", 17);
  w.input("x", DType::kF32, {64, 6000});
  w.input("y", DType::kF32, {6000, 256});
  w.node("MatMul", {w.node("Tanh", {"x"}), w.node("Tanh", {"y"})}, {}, "z");
  w.output("z", DType::kF32, {64, 256});
  w.save(file);
  FrontResult front = run_front(import_onnx(file, {}), "bf16");
  std::vector<Tensor> in;
  std::mt19937_64 rng(9);
  for (ValueId v : front.graph.inputs) {
    in.emplace_back(front.graph.value(v).type, front.graph.value(v).shape);
    for (int64_t i = 0; i < in.back().count(); ++i) in.back().set(i, static_cast<double>(static_cast<int64_t>(rng() % 2001) - 1000) * 1e-3);
  }
  const auto expected = evaluate(front.graph, in);
  const Machine machine = load_machine("server");
  const std::string precision = "bf16";
  const GenerateOptions options;
  const auto source = std::make_shared<const Source>(front.graph, machine);
  int64_t in_parts = 0;
  for (const int64_t ring : {machine.memory.groups / 2, machine.memory.groups * 5 / 8, machine.memory.groups * 3 / 4}) {
    Attempt a = attempt(source, {.ring_groups = ring}, {machine, precision, options}, INT64_MAX);
    ASSERT_TRUE(a.program) << ring;
    a.program->constants = constants_of(a.candidate.source->graph, *a.candidate.emitter);
    EXPECT_TRUE(check_races(*a.program, machine).races.empty()) << ring;
    for (const auto& i : a.program->code) {
      const auto* m = std::get_if<isa::Matrix>(&i);
      in_parts += m && m->init == isa::Init::kKeep;
    }
    LoadedProgram loaded(std::move(*a.program), machine);
    EXPECT_EQ(loaded.run(in)[0].bytes, expected[0].bytes) << ring;
  }
  EXPECT_GT(in_parts, 0);
}

/// Networks over a batch on a machine whose scratchpad holds some images: DRAM's traffic, with layers in groups of images and layer by layer.
TEST(LargeTensors, LayersOfABatchStayOnTheChip) {
  const Machine machine = load_machine("server");
  const struct { const char* name; int64_t images; } kBatches[] = {{"resnet50", 32}, {"mobilenetv2", 8}};
  for (const auto& [name, images] : kBatches) {
    const std::string file = std::string(SYSTOLE_BUILD) + "/batch-" + name + ".onnx";
    find_architecture(name).write(file, 1, find_architecture(name).default_size);
    Graph graph = import_onnx(file, {});
    graph.value(graph.inputs[0]).shape[0] = images;
    const FrontResult front = run_front(std::move(graph), "bf16");
    Timing timing[2];
    for (const bool groups : {false, true}) {
      const isa::Program p = generate(front.graph, machine, "bf16", {.judge = judge_on(machine), .effort = groups ? Effort::kUsual : Effort::kQuick});
      timing[groups] = simulate(isa::sequence(p.code, "test"), machine);
      EXPECT_TRUE(check_races(p, machine).races.empty()) << name;
      std::printf("  %s, %ld images on server%s: %.2f ms, %.0f MiB through DRAM\n", name, images, groups ? ", in groups" : "", static_cast<double>(timing[groups].cycles) * 1e-6, static_cast<double>(timing[groups].dram_read_bytes + timing[groups].dram_write_bytes) / (1 << 20));
    }
    EXPECT_LT(timing[1].cycles, timing[0].cycles * 9 / 10) << name;
    EXPECT_LT(timing[1].dram_read_bytes + timing[1].dram_write_bytes, (timing[0].dram_read_bytes + timing[0].dram_write_bytes) * 2 / 3) << name;
  }
}

}  // namespace
}  // namespace systole
