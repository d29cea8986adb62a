// Elementwise operators with broadcasting: arithmetic, comparison, logic, bits, functions of one number.
#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <map>
#include <string>

#include "host/host.h"

namespace systole {
namespace {

/// One scalar, exact integer or double.
struct Scalar {
  bool integral;
  int64_t i;
  double d;
  double real() const { return integral ? static_cast<double>(i) : d; }
};

Scalar get(const Tensor& t, int64_t k) {
  if (is_float(t.type)) return {false, 0, t.at(k)};
  return {true, t.int_at(k), 0};
}

Scalar integer(int64_t v) { return {true, v, 0}; }
Scalar boolean(bool b) { return {true, b, 0}; }
Scalar real(double v) { return {false, 0, v}; }
int64_t wrap(uint64_t v) { return static_cast<int64_t>(v); }

/// What a function sees besides its operands.
struct Context {
  const Node& node;
  const OnnxOp& op;
  DType type;  ///< of the first input
  bool is_unsigned() const { return type == DType::kU64; }
};
using Function = std::function<Scalar(const Context&, const std::vector<Scalar>&)>;

template <class I, class R>
Function binary(I on_integers, R on_reals) {
  return [=](const Context& c, const std::vector<Scalar>& v) -> Scalar {
    if (v[0].integral && v[1].integral) return integer(on_integers(c, v[0].i, v[1].i));
    return real(on_reals(v[0].real(), v[1].real()));
  };
}
template <class C>
Function comparison(C compare) {
  return [=](const Context& c, const std::vector<Scalar>& v) {
    if (!v[0].integral || !v[1].integral) return boolean(compare(v[0].real(), v[1].real()));
    return c.is_unsigned() ? boolean(compare(static_cast<uint64_t>(v[0].i), static_cast<uint64_t>(v[1].i))) : boolean(compare(v[0].i, v[1].i));
  };
}
template <class R>
Function unary(R f) {
  return [=](const Context&, const std::vector<Scalar>& v) { return real(f(v[0].real())); };
}
template <class F>
Function bits(F f) {
  return [=](const Context&, const std::vector<Scalar>& v) { return integer(wrap(f(static_cast<uint64_t>(v[0].i), v.size() > 1 ? static_cast<uint64_t>(v[1].i) : 0))); };
}
/// Max and Min of any number of operands; NaN wins.
template <class P>
Function extreme(P better) {
  return [=](const Context& c, const std::vector<Scalar>& v) {
    Scalar best = v[0];
    for (const Scalar& s : v) {
      if (!s.integral) best = std::isnan(best.d) ? best : std::isnan(s.d) || better(s.d, best.d) ? s : best;
      else if (c.is_unsigned() ? better(static_cast<uint64_t>(s.i), static_cast<uint64_t>(best.i)) : better(s.i, best.i)) best = s;
    }
    return best;
  };
}

int64_t divide(const Context& c, int64_t a, int64_t b) {
  if (b == 0) malformed(c.node, "integer division by zero", "a divisor other than 0");
  if (c.is_unsigned()) return wrap(static_cast<uint64_t>(a) / static_cast<uint64_t>(b));
  return b == -1 ? wrap(0 - static_cast<uint64_t>(a)) : a / b;
}
int64_t modulo(const Context& c, int64_t a, int64_t b) {
  if (b == 0) malformed(c.node, "integer modulo by zero", "a divisor other than 0");
  if (c.is_unsigned()) return wrap(static_cast<uint64_t>(a) % static_cast<uint64_t>(b));
  if (b == -1) return 0;
  const int64_t r = a % b;
  return !c.op.integer("fmod", 0) && r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
Scalar power(const Context&, const std::vector<Scalar>& v) {
  if (!v[0].integral) return real(std::pow(v[0].d, v[1].real()));
  if (!v[1].integral || v[1].i < 0) return real(std::pow(v[0].real(), v[1].real()));
  uint64_t result = 1, base = static_cast<uint64_t>(v[0].i);
  for (uint64_t e = static_cast<uint64_t>(v[1].i); e; e >>= 1, base *= base) {
    if (e & 1) result *= base;
  }
  return integer(wrap(result));
}
Scalar clip(const Context& c, const std::vector<Scalar>& v) {
  Scalar x = v[0];
  const double lo = c.op.opset < 11 ? static_cast<double>(c.op.real("min", -INFINITY)) : -INFINITY, hi = c.op.opset < 11 ? static_cast<double>(c.op.real("max", INFINITY)) : INFINITY;
  if (!x.integral) x.d = std::isnan(x.d) ? x.d : std::min(std::max(x.d, lo), hi);
  if (v.size() > 1 && (x.integral ? v[1].i > x.i : v[1].real() > x.d)) x = v[1];
  if (v.size() > 2 && (x.integral ? v[2].i < x.i : v[2].real() < x.d)) x = v[2];
  return x;
}
Scalar shift(const Context& c, const std::vector<Scalar>& v) {
  const uint64_t n = static_cast<uint64_t>(v[1].i), x = static_cast<uint64_t>(v[0].i);
  return integer(n > 63 ? 0 : wrap(c.op.text("direction", "LEFT") == "LEFT" ? x << n : x >> n));
}
Scalar infinite(const Context& c, const std::vector<Scalar>& v) {
  return boolean(std::isinf(v[0].real()) && c.op.integer(v[0].real() > 0 ? "detect_positive" : "detect_negative", 1) != 0);
}
Scalar sign(const Context&, const std::vector<Scalar>& v) {
  if (v[0].integral) return integer((v[0].i > 0) - (v[0].i < 0));
  return real(std::isnan(v[0].d) ? v[0].d : (v[0].d > 0) - (v[0].d < 0));
}
Scalar negate(const Context&, const std::vector<Scalar>& v) { return v[0].integral ? integer(wrap(0 - static_cast<uint64_t>(v[0].i))) : real(-v[0].d); }
Scalar absolute(const Context& c, const std::vector<Scalar>& v) { return v[0].integral ? (v[0].i < 0 && !c.is_unsigned() ? negate(c, v) : v[0]) : real(std::fabs(v[0].d)); }
Scalar relu(const Context&, const std::vector<Scalar>& v) { return v[0].integral ? integer(std::max<int64_t>(v[0].i, 0)) : real(v[0].d < 0 ? 0.0 : v[0].d); }
Scalar select(const Context&, const std::vector<Scalar>& v) { return v[0].i ? v[1] : v[2]; }
Scalar sum(const Context&, const std::vector<Scalar>& v) {
  Scalar s = v[0];
  for (size_t i = 1; i < v.size(); ++i) s = s.integral ? integer(wrap(static_cast<uint64_t>(s.i) + static_cast<uint64_t>(v[i].i))) : real(s.d + v[i].real());
  return s;
}
Scalar leaky_relu(const Context& c, const std::vector<Scalar>& v) { return real(v[0].real() < 0 ? v[0].real() * static_cast<double>(c.op.real("alpha", 0.01f)) : v[0].real()); }
Scalar prelu(const Context&, const std::vector<Scalar>& v) { return v[0].integral ? integer(v[0].i < 0 ? v[0].i * v[1].i : v[0].i) : real(v[0].d < 0 ? v[0].d * v[1].real() : v[0].d); }

const std::map<std::string, Function>& functions() {
  using U = uint64_t;
  static const std::map<std::string, Function> table = {
      {"Add", binary([](const Context&, int64_t a, int64_t b) { return wrap(static_cast<U>(a) + static_cast<U>(b)); }, std::plus<double>{})},
      {"Sub", binary([](const Context&, int64_t a, int64_t b) { return wrap(static_cast<U>(a) - static_cast<U>(b)); }, std::minus<double>{})},
      {"Mul", binary([](const Context&, int64_t a, int64_t b) { return wrap(static_cast<U>(a) * static_cast<U>(b)); }, std::multiplies<double>{})},
      {"Div", binary(divide, std::divides<double>{})},
      {"Mod", binary(modulo, [](double a, double b) { return std::fmod(a, b); })},
      {"Pow", power}, {"Sum", sum},
      {"Equal", comparison(std::equal_to<>{})}, {"Less", comparison(std::less<>{})}, {"LessOrEqual", comparison(std::less_equal<>{})},
      {"Greater", comparison(std::greater<>{})}, {"GreaterOrEqual", comparison(std::greater_equal<>{})},
      {"And", [](const Context&, const std::vector<Scalar>& v) { return boolean(v[0].i && v[1].i); }},
      {"Or", [](const Context&, const std::vector<Scalar>& v) { return boolean(v[0].i || v[1].i); }},
      {"Xor", [](const Context&, const std::vector<Scalar>& v) { return boolean(!v[0].i != !v[1].i); }},
      {"Not", [](const Context&, const std::vector<Scalar>& v) { return boolean(!v[0].i); }},
      {"BitwiseAnd", bits([](U a, U b) { return a & b; })}, {"BitwiseOr", bits([](U a, U b) { return a | b; })}, {"BitwiseXor", bits([](U a, U b) { return a ^ b; })},
      {"BitwiseNot", bits([](U a, U) { return ~a; })}, {"BitShift", shift},
      {"Where", select}, {"Min", extreme(std::less<>{})}, {"Max", extreme(std::greater<>{})}, {"Clip", clip},
      {"Neg", negate}, {"Abs", absolute}, {"Sign", sign}, {"Relu", relu}, {"LeakyRelu", leaky_relu}, {"PRelu", prelu},
      {"IsInf", infinite}, {"IsNaN", [](const Context&, const std::vector<Scalar>& v) { return boolean(std::isnan(v[0].real())); }},
      {"Sqrt", unary([](double x) { return std::sqrt(x); })}, {"Exp", unary([](double x) { return std::exp(x); })}, {"Log", unary([](double x) { return std::log(x); })},
      {"Floor", unary([](double x) { return std::floor(x); })}, {"Ceil", unary([](double x) { return std::ceil(x); })}, {"Round", unary([](double x) { return std::nearbyint(x); })},
      {"Reciprocal", unary([](double x) { return 1 / x; })}, {"Sin", unary([](double x) { return std::sin(x); })}, {"Cos", unary([](double x) { return std::cos(x); })},
      {"Tan", unary([](double x) { return std::tan(x); })}, {"Asin", unary([](double x) { return std::asin(x); })}, {"Acos", unary([](double x) { return std::acos(x); })},
      {"Atan", unary([](double x) { return std::atan(x); })}, {"Sinh", unary([](double x) { return std::sinh(x); })}, {"Cosh", unary([](double x) { return std::cosh(x); })},
      {"Asinh", unary([](double x) { return std::asinh(x); })}, {"Acosh", unary([](double x) { return std::acosh(x); })}, {"Atanh", unary([](double x) { return std::atanh(x); })},
      {"Erf", unary([](double x) { return std::erf(x); })}, {"Tanh", unary([](double x) { return std::tanh(x); })}, {"Sigmoid", unary([](double x) { return 1 / (1 + std::exp(-x)); })},
      {"Softplus", unary([](double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); })},
  };
  return table;
}

DType result_type(const OnnxOp& op, const std::vector<TensorPtr>& in) {
  static const char* const kBoolean[] = {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf"};
  if (std::any_of(std::begin(kBoolean), std::end(kBoolean), [&](const char* n) { return op.type == n; })) return DType::kBool;
  return op.type == "Where" ? in[1]->type : in[0]->type;
}

/// Where and Equal also take strings.
bool run_strings(HostCall& c, const std::vector<TensorPtr>& in, const Shape& shape) {
  const bool choose = c.op().type == "Where", equal = c.op().type == "Equal";
  if (in.back()->type != DType::kString) return false;
  if (!choose && !equal) unsupported(c.node, "strings");
  if (in[in.size() - 2]->type != DType::kString || (choose && in[0]->type == DType::kString)) malformed(c.node, "strings beside numbers", "inputs of one kind");
  Tensor& out = c.make(0, equal ? DType::kBool : DType::kString, shape);
  std::vector<std::vector<int64_t>> strides;
  for (const auto& t : in) strides.push_back(broadcast_strides(t->shape, shape));
  Odometer at(shape);
  for (int64_t i = 0, n = out.count(); i < n; ++i, at.next()) {
    auto offset = [&](size_t k) { return offset_of(at.index, strides[k]); };
    if (equal) out.set_int(i, in[0]->strings[static_cast<size_t>(offset(0))] == in[1]->strings[static_cast<size_t>(offset(1))]);
    else if (in[0]->int_at(offset(0))) copy_element(out, i, *in[1], offset(1));
    else copy_element(out, i, *in[2], offset(2));
  }
  return true;
}

void run_elementwise(HostCall& c) {
  const OnnxOp& op = c.op();
  if (op.opset < 7 && op.integer("broadcast", 0) && op.has("axis")) unsupported(c.node, "broadcasting along an axis as before opset 7");
  std::vector<TensorPtr> in;
  Shape shape;
  for (size_t k = 0; k < c.inputs.size(); ++k) {
    if (!c.has(k)) {
      // Clip's absent minimum
      in.push_back(std::make_shared<Tensor>(Tensor::scalar_f32(-INFINITY)));
      continue;
    }
    in.push_back(c.ptr(k));
    shape = k == 0 ? in[0]->shape : broadcast_shapes(c.node, shape, in.back()->shape);
  }
  const auto f = functions().find(op.type);
  if (f == functions().end() || in.empty()) unsupported(c.node, "no implementation on the host");
  static const std::map<std::string, size_t> kArity = {{"Where", 3}, {"Pow", 2}, {"Add", 2}, {"Sub", 2}, {"Mul", 2}, {"Div", 2}, {"Mod", 2}, {"PRelu", 2}, {"And", 2}, {"Or", 2}, {"Xor", 2}, {"Equal", 2}, {"Less", 2}, {"LessOrEqual", 2}, {"Greater", 2}, {"GreaterOrEqual", 2}, {"BitShift", 2}, {"BitwiseAnd", 2}, {"BitwiseOr", 2}, {"BitwiseXor", 2}};
  const auto arity = kArity.find(op.type);
  if (arity != kArity.end() && in.size() < arity->second) malformed(c.node, std::to_string(in.size()) + " inputs", std::to_string(arity->second));
  if (run_strings(c, in, shape)) return;
  for (const auto& t : in) {
    if (t->type == DType::kString) malformed(c.node, "strings beside numbers", "inputs of one kind");
  }
  Tensor& out = c.make(0, result_type(op, in), shape);
  const Context context{c.node, op, in[0]->type};
  std::vector<Scalar> args(in.size());
  std::vector<std::vector<int64_t>> strides;
  for (const auto& t : in) strides.push_back(broadcast_strides(t->shape, shape));
  Odometer at(shape);
  for (int64_t i = 0, n = out.count(); i < n; ++i, at.next()) {
    for (size_t k = 0; k < in.size(); ++k) args[k] = get(*in[k], offset_of(at.index, strides[k]));
    const Scalar r = f->second(context, args);
    if (r.integral) is_float(out.type) ? out.set(i, static_cast<double>(r.i)) : out.set_int(i, r.i);
    else out.set(i, r.d);
  }
}

std::vector<HostOperator> make_list() {
  std::vector<HostOperator> list;
  for (const auto& [name, f] : functions()) list.push_back({"", name.c_str(), run_elementwise});
  return list;
}

}  // namespace

std::span<const HostOperator> host_elementwise() {
  static const std::vector<HostOperator> list = make_list();
  return list;
}

}  // namespace systole
