// Einsum on the NPU against the host's definition of it: equations that models have, and random ones (SYSTOLE_SEED for one of them).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>
#include <variant>

#include "host/host.h"
#include "runtime/plan.h"

namespace systole {
namespace {

struct Case {
  std::string equation;
  std::vector<Shape> shapes;
};

/// How the equation ran.
struct Outcome {
  size_t host_nodes = 0;
  bool matrix = false;  ///< whether the matrix engine had a part in it
};

/// Runs the equation and holds the results against the host's.
Outcome check(const Case& c, unsigned seed = 1) {
  Graph g;
  std::mt19937 rng(seed);
  std::vector<HostValue> inputs;
  for (const Shape& s : c.shapes) {
    Tensor t(DType::kF32, s);
    for (int64_t i = 0; i < t.count(); ++i) t.set(i, static_cast<double>(rng() % 33) / 16 - 1);
    inputs.emplace_back(std::move(t));
    g.inputs.push_back(g.add_value("x" + std::to_string(g.inputs.size()), DType::kF32, s));
  }
  g.values.push_back({"y", DType::kF32, {}, false, nullptr});
  const auto y = static_cast<ValueId>(g.values.size() - 1);
  const Node node{"sum", OnnxOp{"", "Einsum", 12, {{"equation", c.equation}}}, g.inputs, {y}};
  g.nodes.push_back(node), g.outputs.push_back(y);
  const Tensor wanted = *run_host(node, inputs, {}).at(0).tensor;
  Plan plan(g, std::make_shared<const PlanContext>(PlanContext{load_machine("edge"), {DType::kF32, MacFormat::kF32}, "fp32", {}}));
  const Tensor got = *plan.run(inputs)[0].tensor;
  EXPECT_EQ(got.shape, wanted.shape) << c.equation;
  if (got.shape == wanted.shape) {
    for (int64_t i = 0; i < wanted.count(); ++i) {
      if (std::fabs(got.at(i) - wanted.at(i)) <= 1e-4) continue;
      ADD_FAILURE() << c.equation << " at " << i << ": " << got.at(i) << " for " << wanted.at(i);
      break;
    }
  }
  Outcome o;
  plan.visit_host_nodes([&](HostNodeInfo&) { ++o.host_nodes; });
  plan.visit_programs([&](LoadedProgram& p) {
    o.matrix |= std::any_of(p.program.code.begin(), p.program.code.end(), [](const isa::Instruction& i) { return std::holds_alternative<isa::Matrix>(i); });
  });
  return o;
}

TEST(Einsum, ProductsAreThoseOfMatrices) {
  const Case cases[] = {
      {"ij,jk->ik", {{5, 7}, {7, 3}}},
      {"ij,jk->ki", {{5, 7}, {7, 3}}},
      {"ij,kj", {{5, 7}, {3, 7}}},
      {"bij,bjk->bik", {{2, 5, 7}, {2, 7, 3}}},
      {"bqhd,bkhd->bhqk", {{2, 5, 3, 4}, {2, 6, 3, 4}}},
      {"bhqk,bkhd->bqhd", {{2, 3, 5, 6}, {2, 6, 3, 4}}},
      {"B G H I D, B G H J D -> B G H I J", {{2, 3, 2, 5, 4}, {2, 3, 2, 6, 4}}},
      {"abc,cde->abde", {{2, 3, 4}, {4, 5, 6}}},
      {"...ij,...jk->...ik", {{2, 3, 5, 4}, {3, 4, 6}}},
      {"...ij,...jk", {{1, 3, 5, 4}, {2, 1, 4, 6}}},
      {"ij,j->i", {{5, 7}, {7}}},
      {"ij,jk,kl->il", {{5, 7}, {7, 3}, {3, 4}}},
      {"bhwc,hkc->bhwk", {{2, 3, 4, 8}, {3, 4, 8}}},
      {"bi,bij,bj->b", {{2, 5}, {2, 5, 4}, {2, 4}}},
  };
  for (const Case& c : cases) {
    const Outcome o = check(c);
    EXPECT_EQ(o.host_nodes, 0u) << c.equation;
    EXPECT_TRUE(o.matrix) << c.equation;
  }
}

TEST(Einsum, OthersAreMaps) {
  const Case cases[] = {
      {"ij->ji", {{5, 7}}},         {"ij->", {{5, 7}}},          {"ij->j", {{5, 7}}},          {"i,i->", {{7}, {7}}},      {"i,j->ij", {{5}, {7}}},
      {"bi,bi->b", {{3, 7}, {3, 7}}}, {"bij,bi->bij", {{2, 3, 4}, {2, 3}}}, {"...->...", {{2, 3}}}, {"ba", {{5, 7}}},         {"...i->...", {{2, 3, 4}}},
      {"ij,ij->ij", {{1, 7}, {5, 1}}}, {"ij,->ij", {{2, 3}, {}}},
  };
  for (const Case& c : cases) {
    const Outcome o = check(c);
    EXPECT_EQ(o.host_nodes, 0u) << c.equation;
    EXPECT_FALSE(o.matrix) << c.equation;
  }
}

TEST(Einsum, DiagonalsFallToTheHost) {
  for (const Case& c : {Case{"ii->i", {{4, 4}}}, Case{"...ii->...i", {{3, 4, 4}}}, Case{"ii,ij->j", {{4, 4}, {4, 3}}}}) EXPECT_EQ(check(c).host_nodes, 1u) << c.equation;
}

/// Two or three terms of up to four labels out of six, in any order, with extents of 1 that are broadcast, and any of them in the result.
TEST(Einsum, Random) {
  const char* seed = std::getenv("SYSTOLE_SEED");
  for (unsigned s = seed ? static_cast<unsigned>(std::atoi(seed)) : 0, end = seed ? s + 1 : 150; s < end; ++s) {
    std::mt19937 rng(s);
    const std::string all = "abcdef";
    std::map<char, int64_t> extents;
    for (char l : all) extents[l] = 1 + static_cast<int64_t>(rng() % 4);
    Case c;
    std::string used;
    for (size_t k = 0, terms = 2 + rng() % 2; k < terms; ++k) {
      std::string labels = all;
      std::shuffle(labels.begin(), labels.end(), rng);
      labels.resize(rng() % 5);
      Shape shape;
      for (char l : labels) shape.push_back(rng() % 8 ? extents[l] : 1), used += used.find(l) == std::string::npos ? std::string(1, l) : "";
      c.equation += (k ? "," : "") + labels, c.shapes.push_back(shape);
    }
    std::shuffle(used.begin(), used.end(), rng);
    used.resize(used.empty() ? 0 : rng() % (used.size() + 1));
    c.equation += "->" + used;
    const Outcome o = check(c, s);
    EXPECT_EQ(o.host_nodes, 0u) << c.equation;
    if (testing::Test::HasFailure()) FAIL() << "SYSTOLE_SEED=" << s << " " << c.equation;
  }
}

}  // namespace
}  // namespace systole
