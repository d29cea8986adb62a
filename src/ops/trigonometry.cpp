// Sin, Cos, Tan and the inverse and hyperbolic functions, written as polynomials and the functions that the vector engine
// has. Angles are reduced by multiples of pi in three parts (Cody and Waite 1980): products with the first two are exact, so
// the error stays that of fp32 up to |x| = 2^13 and grows with |x| beyond (docs/numerics.md).
#include <cmath>
#include <numbers>

#include "ops/operator.h"

namespace systole {
namespace {

/// Horner's rule: c[0] + t (c[1] + t (...)).
ValueId polynomial(Expander& x, ValueId t, const std::vector<double>& c) {
  ValueId v = x.scalar(c.back());
  for (size_t k = c.size() - 1; k-- > 0;) v = x.add(x.mul(v, t), x.scalar(c[k]));
  return v;
}

struct Angle {
  ValueId rest, sign;  ///< x = n pi + rest, |rest| <= pi / 2; sign = (-1)^n
};
Angle reduce(Expander& x, ValueId v) {
  const ValueId n = x.call("Round", {x.mul(v, x.scalar(1 / std::numbers::pi))});
  // pi = 201 / 64 + 2^-10 part + the rest: products with n stay exact up to n = 2^13.
  const double a = 3.140625, b = 0.0009670257568359375, c = std::numbers::pi - a - b;
  const ValueId rest = x.sub(x.sub(x.sub(v, x.mul(n, x.scalar(a))), x.mul(n, x.scalar(b))), x.mul(n, x.scalar(c)));
  const ValueId half = x.mul(n, x.scalar(0.5)), odd = x.sub(n, x.mul(x.call("Floor", {half}), x.scalar(2)));
  return {rest, x.sub(x.scalar(1), x.mul(odd, x.scalar(2)))};
}

ValueId sine(Expander& x, const Angle& a) {
  const ValueId t = x.mul(a.rest, a.rest);
  return x.mul(x.mul(a.sign, a.rest), polynomial(x, t, {1, -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800}));
}
ValueId cosine(Expander& x, const Angle& a) {
  const ValueId t = x.mul(a.rest, a.rest);
  return x.mul(a.sign, polynomial(x, t, {1, -0.5, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600}));
}

bool expand_sine(Expander& x) {
  if (!is_float(x.type(0))) return false;
  x.result(0, sine(x, reduce(x, x.in(0))));
  return true;
}
bool expand_cosine(Expander& x) {
  if (!is_float(x.type(0))) return false;
  x.result(0, cosine(x, reduce(x, x.in(0))));
  return true;
}
bool expand_tangent(Expander& x) {
  if (!is_float(x.type(0))) return false;
  const Angle a = reduce(x, x.in(0));
  x.result(0, x.div(sine(x, a), cosine(x, a)));
  return true;
}

ValueId atan_of(Expander& x, ValueId v) {
  // |v| > 1: pi / 2 - atan(1 / |v|); then |t| > tan(pi / 8): pi / 4 + atan((t - 1) / (t + 1)).
  const ValueId magnitude = x.call("Abs", {v}), large = x.call("Greater", {magnitude, x.scalar(1)});
  const ValueId t = x.call("Where", {large, x.call("Reciprocal", {x.call("Max", {magnitude, x.scalar(1)})}), magnitude});
  const ValueId high = x.call("Greater", {t, x.scalar(0.41421356237)});
  const ValueId u = x.call("Where", {high, x.div(x.sub(t, x.scalar(1)), x.add(t, x.scalar(1))), t});
  const ValueId s = x.mul(u, u);
  ValueId y = x.mul(u, polynomial(x, s, {1, -1.0 / 3, 1.0 / 5, -1.0 / 7, 1.0 / 9, -1.0 / 11, 1.0 / 13, -1.0 / 15}));
  y = x.call("Where", {high, x.add(y, x.scalar(std::numbers::pi / 4)), y});
  y = x.call("Where", {large, x.sub(x.scalar(std::numbers::pi / 2), y), y});
  return x.mul(x.call("Sign", {v}), y);
}

bool expand_atan(Expander& x) {
  if (!is_float(x.type(0))) return false;
  x.result(0, atan_of(x, x.in(0)));
  return true;
}
/// asin x = atan(x / sqrt((1 - x)(1 + x))); outside of [-1, 1] the root is NaN.
bool expand_asin(Expander& x) {
  if (!is_float(x.type(0))) return false;
  const ValueId v = x.in(0), one = x.scalar(1), root = x.call("Sqrt", {x.mul(x.sub(one, v), x.add(one, v))});
  const ValueId y = atan_of(x, x.div(v, root));
  x.result(0, x.op().type == "Acos" ? x.sub(x.scalar(std::numbers::pi / 2), y) : y);
  return true;
}

/// With e = e^|x| - 1 by its series where it would cancel.
bool expand_sinh(Expander& x) {
  if (!is_float(x.type(0))) return false;
  const ValueId v = x.in(0), s = x.mul(v, v), small = x.call("Less", {x.call("Abs", {v}), x.scalar(1)});
  const ValueId series = x.mul(v, polynomial(x, s, {1, 1.0 / 6, 1.0 / 120, 1.0 / 5040, 1.0 / 362880}));
  const ValueId e = x.call("Exp", {v}), half = x.mul(x.sub(e, x.call("Reciprocal", {e})), x.scalar(0.5));
  x.result(0, x.call("Where", {small, series, half}));
  return true;
}
bool expand_cosh(Expander& x) {
  if (!is_float(x.type(0))) return false;
  const ValueId e = x.call("Exp", {x.call("Abs", {x.in(0)})});
  x.result(0, x.mul(x.add(e, x.call("Reciprocal", {e})), x.scalar(0.5)));
  return true;
}
/// ln(1 + t) for t >= 0 without cancellation near 0: t - t^2/2 + ... below 1/4.
ValueId log1p_of(Expander& x, ValueId t) {
  const ValueId small = x.call("Less", {x.call("Abs", {t}), x.scalar(0.25)});
  const ValueId u = x.div(t, x.add(t, x.scalar(2))), s = x.mul(u, u);
  const ValueId series = x.mul(x.mul(u, x.scalar(2)), polynomial(x, s, {1, 1.0 / 3, 1.0 / 5, 1.0 / 7, 1.0 / 9}));
  return x.call("Where", {small, series, x.call("Log", {x.add(t, x.scalar(1))})});
}
bool expand_asinh(Expander& x) {
  if (!is_float(x.type(0))) return false;
  const ValueId a = x.call("Abs", {x.in(0)}), s = x.mul(a, a), root = x.call("Sqrt", {x.add(s, x.scalar(1))});
  x.result(0, x.mul(x.call("Sign", {x.in(0)}), log1p_of(x, x.add(a, x.div(s, x.add(root, x.scalar(1)))))));
  return true;
}
bool expand_acosh(Expander& x) {
  if (!is_float(x.type(0))) return false;
  const ValueId t = x.sub(x.in(0), x.scalar(1));
  x.result(0, log1p_of(x, x.add(t, x.call("Sqrt", {x.mul(t, x.add(t, x.scalar(2)))}))));
  return true;
}
/// ln((1 + x) / (1 - x)) / 2 = ln(1 + 2 x / (1 - x)) / 2.
bool expand_atanh(Expander& x) {
  if (!is_float(x.type(0))) return false;
  const ValueId a = x.call("Abs", {x.in(0)});
  x.result(0, x.mul(x.mul(x.call("Sign", {x.in(0)}), x.scalar(0.5)), log1p_of(x, x.div(x.mul(a, x.scalar(2)), x.sub(x.scalar(1), a)))));
  return true;
}

constexpr Operator kOperators[] = {
    {"", "Sin", nullptr, "expands", 1, expand_sine},   {"", "Cos", nullptr, "expands", 1, expand_cosine}, {"", "Tan", nullptr, "expands", 1, expand_tangent}, {"", "Atan", nullptr, "expands", 1, expand_atan},
    {"", "Asin", nullptr, "expands", 1, expand_asin},  {"", "Acos", nullptr, "expands", 1, expand_asin},  {"", "Sinh", nullptr, "expands", 1, expand_sinh},   {"", "Cosh", nullptr, "expands", 1, expand_cosh},
    {"", "Asinh", nullptr, "expands", 1, expand_asinh}, {"", "Acosh", nullptr, "expands", 1, expand_acosh}, {"", "Atanh", nullptr, "expands", 1, expand_atanh},
};

}  // namespace

std::span<const Operator> trigonometry_operators() { return kOperators; }

}  // namespace systole
