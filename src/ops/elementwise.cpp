// Elementwise operators: unary functions, binary and variadic arithmetic, activations. One map each; the order of axes
// follows the first input that is computed, so no data is moved.
#include <algorithm>
#include <cmath>

#include "ops/operator.h"
#include "ops/wide_integers.h"

namespace systole {
namespace {

using isa::Micro;

/// The loops of an elementwise result: its logical shape and the axis order it is computed in.
struct Loops {
  Shape shape;
  Perm perm;
};

Loops choose_loops(Lowering& l, const Node& node) {
  Loops loops;
  bool first = true;
  for (ValueId v : node.inputs) {
    if (v == kNoValue) continue;
    loops.shape = first ? l.shape(v) : broadcast_shapes(node, loops.shape, l.shape(v));
    first = false;
  }
  loops.perm = identity_perm(loops.shape.size());
  int64_t largest = -1;
  for (ValueId v : node.inputs) {
    if (v == kNoValue || l.constant(v) || l.shape(v).size() != loops.shape.size()) continue;
    if (element_count(l.shape(v)) > largest) largest = element_count(l.shape(v)), loops.perm = l.best(v).perm;
  }
  return loops;
}

Operand read(Lowering& l, MapBuilder& m, ValueId v, const Loops& loops) {
  const Shape s = l.shape(v);
  if (s.size() == loops.shape.size() && l.constant(v)) return m.input(l.form(v, loops.perm), broadcast_access(s, loops.perm, loops.shape, loops.perm));
  const auto best = l.best(v);
  return m.input(best.id, broadcast_access(s, best.perm, loops.shape, loops.perm));
}

struct Body {
  Lowering& l;
  const Node& node;
  MapBuilder& m;
  std::vector<Operand> in;
  const OnnxOp& op() const { return std::get<OnnxOp>(node.op); }
  Operand operator()(Micro micro, Operand a) { return m.op(micro, {a}); }
  Operand operator()(Micro micro, Operand a, Operand b) { return m.op(micro, {a, b}); }
  Operand operator()(Micro micro, Operand a, Operand b, Operand c) { return m.op(micro, {a, b, c}); }
  static Operand k(float v) { return Operand::value(v); }
};

/// The vector engine computes in fp32 and stores 8-bit results saturated: on integers only operations whose results are
/// among their operands, or comparisons, are exact.
void require_exact(Lowering& l, const Node& node) {
  static const char* const kExact[] = {"Max", "Min", "Relu", "Clip", "Where", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor", "Not"};
  const auto& op = std::get<OnnxOp>(node.op);
  if (op.opset < 7 && op.integer("broadcast", 0) && op.has("axis")) Lowering::unsupported(node, "broadcasting along an axis as before opset 7");
  const bool exact = std::any_of(std::begin(kExact), std::end(kExact), [&](const char* n) { return op.type == n; });
  if ((op.type == "Div" || op.type == "Mod") && !is_float(l.type(node.inputs[0]))) {
    // A division by 0 must be an error, which only the host can raise at run time.
    const TensorPtr divisor = l.constant(node.inputs[1]);
    if (!divisor) Lowering::unsupported(node, "an integer divisor that is computed at run time");
    for (int64_t i = 0, n = divisor->count(); i < n; ++i) {
      if (divisor->int_at(i) == 0) Lowering::malformed(node, "integer division by zero", "a divisor other than 0");
    }
  }
  for (ValueId v : node.inputs) {
    if (v == kNoValue) continue;
    const bool small = is_small_integer(l.type(v)), byte = small && bytes_of(l.type(v)) == 1;
    const bool wraps = (small && (op.type == "Add" || op.type == "Sub")) || (byte && (op.type == "Mul" || op.type == "Div" || op.type == "Mod"));
    if (is_float(l.type(v)) || ((small || l.type(v) == DType::kBool) && exact) || wraps) continue;
    Lowering::unsupported(node, std::string("arithmetic on ") + to_string(l.type(v)) + " values at run time");
  }
}

template <class F>
void lower_with(Lowering& l, const Node& node, F&& body, bool boolean = false) {
  require_exact(l, node);
  const Loops loops = choose_loops(l, node);
  MapBuilder m(l, node.name, permute(loops.shape, loops.perm));
  Body b{l, node, m, {}};
  for (ValueId v : node.inputs) {
    if (v != kNoValue) b.in.push_back(read(l, m, v, loops));
  }
  body(b);
  const ValueId typed = std::get<OnnxOp>(node.op).type == "Where" ? node.inputs[1] : node.inputs[0];
  const DType type = boolean ? DType::kBool : is_float(l.type(typed)) ? l.store_type(node) : l.type(typed);
  l.define(node.outputs[0], loops.shape, loops.perm, m.finish(type));
}

template <Micro micro>
void lower_unary(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) { b(micro, b.in[0]); });
}
/// |a| / |b| of integers of 8 bits without their fraction: the half keeps quotients away from the next integer.
Operand whole_quotient(Body& b) {
  const Operand q = b(Micro::kFloor, b(Micro::kDivide, b(Micro::kAdd, b(Micro::kAbs, b.in[0]), b.k(0.5f)), b(Micro::kAbs, b.in[1])));
  const Operand different = b(Micro::kEqual, b(Micro::kLess, b.in[0], b.k(0)), b(Micro::kLess, b.in[1], b.k(0)));
  return b(Micro::kSelect, different, q, b(Micro::kNeg, q));
}
template <Micro micro>
void lower_binary(Lowering& l, const Node& node) {
  const DType type = l.type(node.inputs[0]);
  lower_with(l, node, [&](Body& b) {
    if (is_float(type)) b(micro, b.in[0], b.in[1]);
    else b.m.low_bits(micro == Micro::kDivide ? whole_quotient(b) : b(micro, b.in[0], b.in[1]), type);
  });
}
/// a - b trunc(a / b), with the divisor's sign unless fmod asks for the dividend's.
void lower_mod(Lowering& l, const Node& node) {
  const DType type = l.type(node.inputs[0]);
  if (is_float(type)) Lowering::unsupported(node, "fmod of floats at run time");
  lower_with(l, node, [&](Body& b) {
    const Operand r = b(Micro::kSub, b.in[0], b(Micro::kMul, b.in[1], whole_quotient(b)));
    if (b.op().integer("fmod", 0) || !integer_kind(type).is_signed) return static_cast<void>(b(Micro::kMove, r));
    const Operand same = b(Micro::kEqual, b(Micro::kLess, r, b.k(0)), b(Micro::kLess, b.in[1], b.k(0)));
    const Operand keep = b(Micro::kMax, same, b(Micro::kEqual, r, b.k(0)));
    b(Micro::kSelect, keep, r, b(Micro::kAdd, r, b.in[1]));
  });
}
template <Micro micro>
void lower_comparison(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) { b(micro, b.in[0], b.in[1]); }, true);
}
/// Max, Min, Sum, Mean of one to three inputs in one map.
template <Micro micro>
void lower_variadic(Lowering& l, const Node& node) {
  if (node.inputs.size() > isa::kVectorInputs) Lowering::unsupported(node, "more than three inputs");
  lower_with(l, node, [](Body& b) {
    Operand v = b(Micro::kMove, b.in[0]);
    for (size_t i = 1; i < b.in.size(); ++i) v = b(micro, v, b.in[i]);
    if (b.op().type == "Mean") b(Micro::kMul, v, b.k(1.0f / static_cast<float>(b.in.size())));
  });
}

/// b^2, b^0.5, ... with a constant exponent becomes the cheaper operation of the same value.
void lower_pow(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) {
    if (b.in[1].kind == Operand::Kind::kConstant && b.in[1].constant == 2.0f) b(Micro::kMul, b.in[0], b.in[0]);
    else if (b.in[1].kind == Operand::Kind::kConstant && b.in[1].constant == 0.5f) b(Micro::kSqrt, b.in[0]);
    else b(Micro::kPower, b.in[0], b.in[1]);
  });
}

/// Opset 6: attributes; from 11 on: optional inputs.
void lower_clip(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  float lo = op.real("min", -INFINITY), hi = op.real("max", INFINITY);
  const bool computed = (Lowering::present(node, 1) && !l.constant(node.inputs[1])) || (Lowering::present(node, 2) && !l.constant(node.inputs[2]));
  if (computed) {
    return lower_with(l, node, [](Body& b) {
      size_t k = 1;
      Operand v = b.in[0];
      if (Lowering::present(b.node, 1)) v = b(Micro::kMax, v, b.in[k++]);
      if (Lowering::present(b.node, 2)) b(Micro::kMin, v, b.in[k]);
    });
  }
  auto bound = [&](size_t k, const char* name, float& value) {
    if (Lowering::present(node, k)) {
      const TensorPtr t = l.need_constant(node, k, name);
      if (t->count() != 1) Lowering::malformed(node, std::string(name) + " of shape " + to_string(t->shape), "a scalar");
      value = static_cast<float>(t->at(0));
    }
  };
  bound(1, "min", lo), bound(2, "max", hi);
  Node single = node;
  single.inputs.resize(1);
  lower_with(l, single, [&](Body& b) {
    Operand v = b.in[0];
    if (lo == 0) v = b(Micro::kRelu, v);
    else if (lo != -INFINITY) v = b(Micro::kMax, v, b.k(lo));
    if (hi != INFINITY) v = b(Micro::kMin, v, b.k(hi));
    if (v.kind == Operand::Kind::kInput) b(Micro::kMove, v);
  });
}

void lower_leaky_relu(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) {
    const Operand scaled = b(Micro::kMul, b.in[0], b.k(b.op().real("alpha", 0.01f)));
    b(Micro::kSelect, b(Micro::kLess, b.in[0], b.k(0)), scaled, b.in[0]);
  });
}
void lower_prelu(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) { b(Micro::kSelect, b(Micro::kLess, b.in[0], b.k(0)), b(Micro::kMul, b.in[0], b.in[1]), b.in[0]); });
}
void lower_hard_sigmoid(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) {
    const Operand v = b(Micro::kFma, b.in[0], b.k(b.op().real("alpha", 0.2f)), b.k(b.op().real("beta", 0.5f)));
    b(Micro::kMin, b(Micro::kMax, v, b.k(0)), b.k(1));
  });
}
void lower_hard_swish(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) {
    const Operand v = b(Micro::kFma, b.in[0], b.k(1.0f / 6), b.k(0.5f));
    b(Micro::kMul, b(Micro::kMin, b(Micro::kMax, v, b.k(0)), b.k(1)), b.in[0]);
  });
}
void lower_elu(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) {
    const Operand e = b(Micro::kSub, b(Micro::kExp, b(Micro::kMin, b.in[0], b.k(0))), b.k(1));
    b(Micro::kSelect, b(Micro::kLess, b.in[0], b.k(0)), b(Micro::kMul, e, b.k(b.op().real("alpha", 1))), b.in[0]);
  });
}
void lower_selu(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) {
    const float alpha = b.op().real("alpha", 1.67326319f), gamma = b.op().real("gamma", 1.05070102f);
    const Operand e = b(Micro::kSub, b(Micro::kExp, b(Micro::kMin, b.in[0], b.k(0))), b.k(1));
    b(Micro::kSelect, b(Micro::kLess, b.in[0], b.k(0)), b(Micro::kMul, e, b.k(alpha * gamma)), b(Micro::kMul, b.in[0], b.k(gamma)));
  });
}
/// ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|).
Operand softplus(Body& b, Operand x) {
  const Operand e = b(Micro::kExp, b(Micro::kNeg, b(Micro::kAbs, x)));
  return b(Micro::kAdd, b(Micro::kMax, x, b.k(0)), b(Micro::kLog, b(Micro::kAdd, e, b.k(1))));
}
void lower_softplus(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) { softplus(b, b.in[0]); });
}
void lower_mish(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) { b(Micro::kMul, b.in[0], b(Micro::kTanh, softplus(b, b.in[0]))); });
}
void lower_softsign(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) { b(Micro::kDivide, b.in[0], b(Micro::kAdd, b(Micro::kAbs, b.in[0]), b.k(1))); });
}
void lower_gelu(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) {
    const Operand x = b.in[0];
    if (b.op().text("approximate", "none") == "tanh") {
      const Operand cube = b(Micro::kMul, b(Micro::kMul, x, x), x);
      const Operand t = b(Micro::kTanh, b(Micro::kMul, b(Micro::kFma, cube, b.k(0.044715f), x), b.k(0.797884583f)));
      b(Micro::kMul, b(Micro::kMul, x, b.k(0.5f)), b(Micro::kAdd, t, b.k(1)));
    } else {
      const Operand e = b(Micro::kErf, b(Micro::kMul, x, b.k(0.707106769f))), half = b(Micro::kMul, x, b.k(0.5f));
      b(Micro::kFma, half, e, half);
    }
  });
}
void lower_where(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) { b(Micro::kSelect, b.in[0], b.in[1], b.in[2]); });
}
void lower_greater(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) { b(Micro::kLess, b.in[1], b.in[0]); }, true);
}
void lower_greater_equal(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) { b(Micro::kLessEqual, b.in[1], b.in[0]); }, true);
}

/// Booleans are 0 and 1.
void lower_xor(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) { b(Micro::kAbs, b(Micro::kSub, b.in[0], b.in[1])); }, true);
}
void lower_not(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) { b(Micro::kSub, b.k(1), b.in[0]); }, true);
}
void lower_is_nan(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) { b(Micro::kSub, b.k(1), b(Micro::kEqual, b.in[0], b.in[0])); }, true);
}
void lower_is_inf(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) {
    const bool positive = b.op().integer("detect_positive", 1), negative = b.op().integer("detect_negative", 1);
    const Operand x = positive && negative ? b(Micro::kAbs, b.in[0]) : b.in[0];
    if (!positive && !negative) b(Micro::kLess, x, x);
    else b(Micro::kEqual, x, b.k(positive ? INFINITY : -INFINITY));
  }, true);
}
void lower_thresholded_relu(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) { b(Micro::kSelect, b(Micro::kLess, b.k(b.op().real("alpha", 1)), b.in[0]), b.in[0], b.k(0)); });
}
/// max(0, x) + min(0, alpha (e^(x / alpha) - 1)).
void lower_celu(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) {
    const float alpha = b.op().real("alpha", 1);
    const Operand e = b(Micro::kExp, b(Micro::kMul, b(Micro::kMin, b.in[0], b.k(0)), b.k(1 / alpha)));
    b(Micro::kAdd, b(Micro::kMax, b.in[0], b.k(0)), b(Micro::kMul, b(Micro::kSub, e, b.k(1)), b.k(alpha)));
  });
}
/// x < -lambd: x + bias; x > lambd: x - bias; else 0.
void lower_shrink(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) {
    const float bias = b.op().real("bias", 0), lambd = b.op().real("lambd", 0.5f);
    const Operand low = b(Micro::kSelect, b(Micro::kLess, b.in[0], b.k(-lambd)), b(Micro::kAdd, b.in[0], b.k(bias)), b.k(0));
    b(Micro::kSelect, b(Micro::kLess, b.k(lambd), b.in[0]), b(Micro::kSub, b.in[0], b.k(bias)), low);
  });
}
void lower_swish(Lowering& l, const Node& node) {
  lower_with(l, node, [](Body& b) { b(Micro::kMul, b.in[0], b(Micro::kSigmoid, b(Micro::kMul, b.in[0], b.k(b.op().real("alpha", 1))))); });
}

/// Before opset 7: B's axes stand at `axis` of A (broadcast = 1); PRelu's slopes belong to the channels.
bool expand_legacy_broadcast(Expander& x);
template <IntegerComparison which>
bool expand_comparison(Expander& x) { return expand_wide_comparison(x, which) || expand_legacy_broadcast(x); }
template <bool greatest>
bool expand_extreme(Expander& x) { return expand_wide_extreme(x, greatest); }

bool expand_legacy_broadcast(Expander& x) {
  const OnnxOp& op = x.op();
  if (op.opset >= 7) return false;
  const Shape a = x.shape(0), b = x.shape(1);
  const bool slopes = op.type == "PRelu" && b.size() == 1 && a.size() > 2 && b[0] == a[1];
  if (!slopes && (!op.integer("broadcast", 0) || !op.has("axis"))) return false;
  const int64_t axis = slopes ? 1 : normalise_axis(x.node, op.integer("axis", 0), a.size());
  Shape wide(a.size(), 1);
  for (size_t d = 0; d < b.size(); ++d) {
    if (static_cast<size_t>(axis) + d >= a.size()) malformed(x.node, "B of shape " + to_string(b) + " at axis " + std::to_string(axis), "axes of " + to_string(a));
    wide[static_cast<size_t>(axis) + d] = b[d];
  }
  x.result(0, x.call(op.type.c_str(), {x.in(0), x.reshape(x.in(1), wide)}));
  return true;
}

constexpr Operator kOperators[] = {
    {"", "And", lower_comparison<Micro::kMul>, "VX", 2, expand_legacy_broadcast},
    {"", "Or", lower_comparison<Micro::kMax>, "VX", 2, expand_legacy_broadcast},
    {"", "Xor", lower_xor, "VX", 2, expand_legacy_broadcast},
    {"", "Not", lower_not, "VX"},
    {"", "IsNaN", lower_is_nan, "VX"},
    {"", "IsInf", lower_is_inf, "VX"},
    {"", "ThresholdedRelu", lower_thresholded_relu, "VX"},
    {"", "Celu", lower_celu, "VX"},
    {"", "Shrink", lower_shrink, "VX"},
    {"", "Swish", lower_swish, "VX"},
    {"", "Abs", lower_unary<Micro::kAbs>, "VX"},
    {"", "Neg", lower_unary<Micro::kNeg>, "VX"},
    {"", "Floor", lower_unary<Micro::kFloor>, "VX"},
    {"", "Ceil", lower_unary<Micro::kCeil>, "VX"},
    {"", "Round", lower_unary<Micro::kRound>, "VX"},
    {"", "Sign", lower_unary<Micro::kSign>, "VX"},
    {"", "Exp", lower_unary<Micro::kExp>, "VX"},
    {"", "Log", lower_unary<Micro::kLog>, "VX"},
    {"", "Sqrt", lower_unary<Micro::kSqrt>, "VX"},
    {"", "Reciprocal", lower_unary<Micro::kReciprocal>, "VX"},
    {"", "Erf", lower_unary<Micro::kErf>, "VX"},
    {"", "Tanh", lower_unary<Micro::kTanh>, "VX"},
    {"", "Sigmoid", lower_unary<Micro::kSigmoid>, "VX"},
    {"", "Relu", lower_unary<Micro::kRelu>, "VX"},
    {"", "Add", lower_binary<Micro::kAdd>, "VX", 2, expand_legacy_broadcast},
    {"", "Sub", lower_binary<Micro::kSub>, "VX", 2, expand_legacy_broadcast},
    {"", "Mul", lower_binary<Micro::kMul>, "VX", 2, expand_legacy_broadcast},
    {"", "Div", lower_binary<Micro::kDivide>, "VX", 2, expand_legacy_broadcast},
    {"", "Mod", lower_mod, "VX", 2},
    {"", "Pow", lower_pow, "VX", 2, expand_legacy_broadcast},
    {"", "Max", lower_variadic<Micro::kMax>, "VX", 1, expand_extreme<true>},
    {"", "Min", lower_variadic<Micro::kMin>, "VX", 1, expand_extreme<false>},
    {"", "Sum", lower_variadic<Micro::kAdd>, "VX"},
    {"", "Mean", lower_variadic<Micro::kAdd>, "VX"},
    {"", "Equal", lower_comparison<Micro::kEqual>, "VX", 2, expand_comparison<IntegerComparison::kEqual>},
    {"", "Less", lower_comparison<Micro::kLess>, "VX", 2, expand_comparison<IntegerComparison::kLess>},
    {"", "LessOrEqual", lower_comparison<Micro::kLessEqual>, "VX", 2, expand_comparison<IntegerComparison::kLessOrEqual>},
    {"", "Greater", lower_greater, "VX", 2, expand_comparison<IntegerComparison::kGreater>},
    {"", "GreaterOrEqual", lower_greater_equal, "VX", 2, expand_comparison<IntegerComparison::kGreaterOrEqual>},
    {"", "Where", lower_where, "VX", 3},
    {"", "Clip", lower_clip, "VX"},
    {"", "LeakyRelu", lower_leaky_relu, "VX"},
    {"", "PRelu", lower_prelu, "VX", 2, expand_legacy_broadcast},
    {"", "HardSigmoid", lower_hard_sigmoid, "VX"},
    {"", "HardSwish", lower_hard_swish, "VX"},
    {"", "Elu", lower_elu, "VX"},
    {"", "Selu", lower_selu, "VX"},
    {"", "Softplus", lower_softplus, "VX"},
    {"", "Softsign", lower_softsign, "VX"},
    {"", "Mish", lower_mish, "VX"},
    {"", "Gelu", lower_gelu, "VX"},
};

}  // namespace

std::span<const Operator> elementwise_operators() { return kOperators; }

}  // namespace systole
