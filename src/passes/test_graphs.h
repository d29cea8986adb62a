// Small graphs for the tests of passes.
#pragma once
#include <gtest/gtest.h>

#include "ops/reference.h"

namespace systole {

inline Access plain(int64_t rank) {
  Access a;
  for (int l = 0; l < rank; ++l) a.index.push_back({0, {{l, 1}}});
  return a;
}

/// A graph under construction; every value is f32.
struct FloatGraph {
  Graph g;
  ValueId input(Shape s) {
    const ValueId v = g.add_value("in" + std::to_string(g.inputs.size()), DType::kF32, std::move(s));
    g.inputs.push_back(v);
    return v;
  }
  ValueId node(Op op, std::vector<ValueId> in, Shape out) {
    const std::string name = "n" + std::to_string(g.nodes.size());
    const ValueId v = g.add_value(name, DType::kF32, std::move(out));
    g.nodes.push_back({name, std::move(op), std::move(in), {v}});
    return v;
  }
  /// One operation over whole values of one shape.
  ValueId map(isa::Micro op, std::vector<ValueId> in, std::vector<float> constants = {}) {
    const Shape s = g.value(in[0]).shape;
    Map m;
    m.extents = s;
    Operation o{op, {}};
    for (size_t k = 0; k < in.size(); ++k) m.accesses.push_back(plain(static_cast<int64_t>(s.size()))), o.operands.push_back(Operand::input(static_cast<int>(k)));
    for (float c : constants) o.operands.push_back(Operand::value(c));
    m.pre = {o};
    return node(std::move(m), std::move(in), s);
  }
  int count(size_t alternative) const {
    return static_cast<int>(std::count_if(g.nodes.begin(), g.nodes.end(), [&](const Node& n) { return n.op.index() == alternative; }));
  }
};
inline const size_t kMap = Op(Map{}).index(), kMove = Op(Move{}).index(), kView = Op(View{}).index();

inline std::vector<Tensor> values(const Graph& g) {
  std::vector<Tensor> in;
  for (ValueId v : g.inputs) {
    in.emplace_back(DType::kF32, g.value(v).shape);
    for (int64_t i = 0; i < in.back().count(); ++i) in.back().set(i, 0.25 * static_cast<double>(i % 13) - 1);
  }
  return evaluate(g, in);
}

/// Runs the pass; nothing that comes out may change.
inline void keep(FloatGraph& m, void (*pass)(Graph&)) {
  verify(m.g, "test");
  const auto before = values(m.g);
  pass(m.g);
  verify(m.g, "pass");
  const auto after = values(m.g);
  for (size_t i = 0; i < before.size(); ++i) EXPECT_EQ(before[i].bytes, after[i].bytes) << i;
}

}  // namespace systole
