// Small graphs for the tests of orders and places.
#pragma once
#include <algorithm>

#include "schedule/steps.h"

namespace systole {

/// A graph of bf16 values under construction.
struct Made {
  Graph g;
  ValueId value(Shape s) { return g.add_value("v" + std::to_string(g.values.size()), DType::kBF16, std::move(s)); }
  ValueId input(Shape s) {
    g.inputs.push_back(value(std::move(s)));
    return g.inputs.back();
  }
  ValueId node(Op op, std::vector<ValueId> in, ValueId out) {
    g.nodes.push_back({"n" + std::to_string(g.nodes.size()), std::move(op), std::move(in), {out}});
    return out;
  }
  static Access plain(size_t rank) {
    Access a;
    for (size_t d = 0; d < rank; ++d) a.index.push_back({0, {{static_cast<int>(d), 1}}});
    return a;
  }
  ValueId map(std::vector<ValueId> in) {
    const Shape s = g.value(in[0]).shape;
    Map m;
    m.extents = s;
    Operation add{in.size() == 1 ? isa::Micro::kMove : isa::Micro::kAdd, {}};
    for (size_t k = 0; k < in.size(); ++k) m.accesses.push_back(plain(s.size())), add.operands.push_back(Operand::input(static_cast<int>(k)));
    m.pre = {add};
    const ValueId out = value(s);
    return node(std::move(m), std::move(in), out);
  }
  ValueId copy(ValueId v) {
    const Shape s = g.value(v).shape;
    const auto strides = row_major_strides(s);
    const ValueId out = value(s);
    return node(Move{{{0, s, 0, 0, strides, strides}}, 0}, {v}, out);
  }
  /// The last two dimensions of [1, 1, m, n] in the other order.
  ValueId turned(ValueId v) {
    const int64_t rows = g.value(v).shape[3], columns = g.value(v).shape[2];
    const ValueId out = value({1, 1, rows, columns});
    return node(Move{{{0, {rows, columns}, 0, 0, {1, rows}, {columns, 1}}}, 0}, {v}, out);
  }
  /// [1, 1, m, k] times [k, n], and added to a sum if there is one.
  ValueId product(ValueId a, ValueId b, ValueId sum = kNoValue) {
    Contract c;
    c.format = MacFormat::kBF16;
    const ValueId sums = g.add_value("s" + std::to_string(g.values.size()), DType::kF32, {1, 1, g.value(a).shape[2], g.value(b).shape[5]});
    node(c, {a, b}, sums);
    return sum == kNoValue ? map({sums}) : map({sums, sum});
  }
};

/// Steps whose first output this is.
inline auto steps_of(const Made& m, const Schedule& schedule, ValueId v) {
  return std::count_if(schedule.steps.begin(), schedule.steps.end(), [&](const Step& s) { return m.g.nodes[static_cast<size_t>(s.node)].outputs[0] == v; });
}

/// The first of them.
inline Step step_of(const Made& m, const Schedule& schedule, ValueId v) {
  return *std::find_if(schedule.steps.begin(), schedule.steps.end(), [&](const Step& s) { return m.g.nodes[static_cast<size_t>(s.node)].outputs[0] == v; });
}

}  // namespace systole
