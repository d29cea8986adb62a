// Weights of 2, 4 and 8 bits that share scales, per tensor, per column, per row of a turned matrix, in groups: the product keeps
// the codes in DRAM, and gives the bits of the same product with those weights as floats; translated = interpreted = reference.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "machine/machine.h"
#include "numerics/requantize.h"
#include "passes/pipeline.h"
#include "runtime/plan.h"
#include "sim/functional/executor.h"

namespace systole {
namespace {

struct Case {
  DType type;
  int64_t k, n;
  int64_t group;   ///< along K; 0: one scale per column; -1: one for all
  bool gemm_turned, zeros, half_scales;
};

struct Model {
  Graph codes, floats;  ///< the same product
  Tensor x;
};

Model model_of(const Case& c, std::mt19937_64& rng) {
  const IntegerKind kind = integer_kind(c.type);
  const Shape shape = c.gemm_turned ? Shape{c.n, c.k} : Shape{c.k, c.n};
  const size_t k_axis = c.gemm_turned ? 1 : 0;
  Tensor codes(c.type, shape), floats(DType::kF32, shape);
  Shape groups = c.group > 0 ? shape : c.group == 0 ? Shape{c.n} : Shape{};
  if (c.group > 0) groups[k_axis] = c.k / c.group;
  Tensor scales(DType::kF32, groups), zeros(c.type, groups);
  auto draw = [&] { return static_cast<int64_t>(rng() & ((1u << kind.bits) - 1)) - (kind.is_signed ? int64_t{1} << (kind.bits - 1) : 0); };
  for (int64_t i = 0; i < scales.count(); ++i) {
    const double v = 0.01 + static_cast<double>(rng() % 1000) * 1e-5;
    scales.set(i, c.half_scales ? std::round(v * 65536) / 65536 : v);
    if (c.zeros) zeros.set_int(i, draw());
  }
  for (int64_t i = 0; i < codes.count(); ++i) {
    codes.set_int(i, draw());
    const int64_t r = i / shape[1], q = i % shape[1], k = c.gemm_turned ? q : r, n = c.gemm_turned ? r : q;
    const int64_t at = c.group < 0 ? 0 : c.group == 0 ? n : c.gemm_turned ? n * groups[1] + k / c.group : k / c.group * c.n + n;
    floats.set(i, static_cast<double>(dequantize(codes.int_at(i), zeros.int_at(at), static_cast<float>(scales.at(at)))));
  }
  Model m{{}, {}, Tensor(DType::kF32, {5, c.k})};
  for (int64_t i = 0; i < m.x.count(); ++i) m.x.set(i, static_cast<double>(static_cast<int64_t>(rng() % 2001) - 1000) * 1e-3);
  for (Graph* g : {&m.codes, &m.floats}) {
    const ValueId x = g->add_value("x", DType::kF32, m.x.shape), y = g->add_value("y", DType::kF32, {5, c.n});
    g->inputs = {x}, g->outputs = {y};
    auto constant = [&](const Tensor& t) { return g->add_constant("c" + std::to_string(g->values.size()), std::make_shared<Tensor>(t)); };
    ValueId w;
    if (g == &m.floats) {
      w = constant(floats);
    } else {
      w = g->add_value("w", DType::kF32, shape);
      std::vector<ValueId> in = {constant(codes), constant(scales)};
      if (c.zeros) in.push_back(constant(zeros));
      const int64_t axis = c.group == 0 ? static_cast<int64_t>(1 - k_axis) : static_cast<int64_t>(k_axis);
      g->nodes.push_back({"dq", OnnxOp{"", "DequantizeLinear", 21, {{"axis", axis}, {"block_size", std::max<int64_t>(0, c.group)}}}, in, {w}});
    }
    g->nodes.push_back({"product", OnnxOp{"", c.gemm_turned ? "Gemm" : "MatMul", 21, c.gemm_turned ? std::map<std::string, Attribute>{{"transB", int64_t{1}}} : std::map<std::string, Attribute>{}}, {x, w}, {y}});
  }
  return m;
}

struct Outcome {
  Tensor y;
  int64_t dequantised = 0;  ///< instructions of the program
};

Outcome run_on(const Graph& g, const Tensor& x, const char* machine, const char* precision, bool reference) {
  const FrontResult front = run_onnx_passes(g, precision);
  Plan plan(front.graph, std::make_shared<const PlanContext>(PlanContext{load_machine(machine), front.policy, front.precision, {}, {}, reference}));
  Outcome o{*plan.run({HostValue(x)})[0].tensor};
  if (!reference) {
    for (const auto& i : plan.whole()->program.code) o.dequantised += std::holds_alternative<isa::Dequantize>(i);
  }
  return o;
}

TEST(FewBits, CodesGiveTheBitsOfTheirFloats) {
  std::mt19937_64 rng(20261122);
  int programs = 0;
  for (const DType type : {DType::kI4, DType::kU4, DType::kU2, DType::kI8, DType::kU8}) {
    for (const int64_t group : {32, 16, 0, -1}) {
      for (const bool turned : {false, true}) {
        for (const int64_t n : {1, 7, 70}) {
          const Case c{type, 96, n, group, turned, group != 0 || type == DType::kU4, n == 7};
          const Model m = model_of(c, rng);
          for (const char* precision : {"bf16", "fp16", "fp32"}) {
            const char* machine = n == 1 ? "server" : n == 7 ? "nano" : "edge";
            const std::string what = std::string(to_string(type)) + ", groups of " + std::to_string(group) + ", " + std::to_string(n) + " columns, " + precision + (turned ? ", turned" : "");
            const Outcome o = run_on(m.codes, m.x, machine, precision, false);
            EXPECT_GT(o.dequantised, 0) << what;
            EXPECT_EQ(o.y.bytes, run_on(m.codes, m.x, machine, precision, true).y.bytes) << what << ": reference";
            EXPECT_EQ(o.y.bytes, run_on(m.floats, m.x, machine, precision, false).y.bytes) << what << ": floats";
            limit_host_isa(HostIsa::kScalar);
            EXPECT_EQ(o.y.bytes, run_on(m.codes, m.x, machine, precision, false).y.bytes) << what << ": interpreted";
            limit_host_isa(HostIsa::kAmx);
            ++programs;
          }
        }
      }
    }
  }
  std::printf("  %d programs\n", programs);
}

TEST(FewBits, DramHoldsAndDeliversTheCodes) {
  std::mt19937_64 rng(7);
  const Model m = model_of({DType::kI4, 512, 512, 32, false, false, true}, rng);
  auto program = [&](const Graph& g) {
    const FrontResult front = run_onnx_passes(g, "bf16");
    return Plan(front.graph, std::make_shared<const PlanContext>(PlanContext{load_machine("edge"), front.policy, front.precision})).whole()->program.weights_bytes;
  };
  EXPECT_EQ(program(m.floats), 512 * 512 * 2);
  EXPECT_EQ(program(m.codes), 512 * 512 / 2 + 16 * 512 * 2 + 16 * 512 / 2 + 4 * 512);  // codes, scales, zero points, bias
}

}  // namespace
}  // namespace systole
