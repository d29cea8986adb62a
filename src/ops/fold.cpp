#include "ops/fold.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "ops/reduction.h"

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

Scalar boolean(bool b) { return {true, b, 0}; }
int64_t wrap(uint64_t v) { return static_cast<int64_t>(v); }

using Function = std::function<Scalar(const Node&, const std::vector<Scalar>&)>;

template <class I, class R>
Function binary(I on_integers, R on_reals) {
  return [=](const Node& node, const std::vector<Scalar>& v) -> Scalar {
    if (v[0].integral && v[1].integral) return {true, on_integers(node, v[0].i, v[1].i), 0};
    return {false, 0, on_reals(v[0].real(), v[1].real())};
  };
}
template <class C>
Function comparison(C compare) {
  return [=](const Node&, const std::vector<Scalar>& v) { return v[0].integral && v[1].integral ? boolean(compare(v[0].i, v[1].i)) : boolean(compare(v[0].real(), v[1].real())); };
}
template <class R>
Function unary(R f) {
  return [=](const Node&, const std::vector<Scalar>& v) -> Scalar { return {false, 0, f(v[0].real())}; };
}
template <class P>
Function extreme(P pick_second) {
  return [=](const Node&, const std::vector<Scalar>& v) {
    Scalar best = v[0];
    for (const Scalar& s : v) {
      if (s.integral ? pick_second(best.i, s.i) : pick_second(best.d, s.d)) best = s;
    }
    return best;
  };
}

const std::map<std::string, Function>& functions() {
  auto divide = [](const Node& node, int64_t a, int64_t b) {
    if (b == 0) Lowering::malformed(node, "integer division by zero", "a divisor other than 0");
    return b == -1 ? wrap(0 - static_cast<uint64_t>(a)) : a / b;
  };
  auto modulo = [](const Node& node, int64_t a, int64_t b) {
    if (b == 0) Lowering::malformed(node, "integer modulo by zero", "a divisor other than 0");
    if (b == -1) return int64_t{0};
    const bool truncated = std::get<OnnxOp>(node.op).integer("fmod", 0);
    const int64_t r = a % b;
    return !truncated && r != 0 && (r < 0) != (b < 0) ? r + b : r;
  };
  auto power = [](const Node&, int64_t a, int64_t b) { return static_cast<int64_t>(std::pow(static_cast<double>(a), static_cast<double>(b))); };
  static const std::map<std::string, Function> table = {
      {"Add", binary([](const Node&, int64_t a, int64_t b) { return wrap(static_cast<uint64_t>(a) + static_cast<uint64_t>(b)); }, std::plus<double>{})},
      {"Sub", binary([](const Node&, int64_t a, int64_t b) { return wrap(static_cast<uint64_t>(a) - static_cast<uint64_t>(b)); }, std::minus<double>{})},
      {"Mul", binary([](const Node&, int64_t a, int64_t b) { return wrap(static_cast<uint64_t>(a) * static_cast<uint64_t>(b)); }, std::multiplies<double>{})},
      {"Div", binary(divide, std::divides<double>{})},
      {"Mod", binary(modulo, [](double a, double b) { return std::fmod(a, b); })},
      {"Pow", binary(power, [](double a, double b) { return std::pow(a, b); })},
      {"Equal", comparison(std::equal_to<>{})}, {"Less", comparison(std::less<>{})}, {"LessOrEqual", comparison(std::less_equal<>{})},
      {"Greater", comparison(std::greater<>{})}, {"GreaterOrEqual", comparison(std::greater_equal<>{})},
      {"And", [](const Node&, const std::vector<Scalar>& v) { return boolean(v[0].i && v[1].i); }},
      {"Or", [](const Node&, const std::vector<Scalar>& v) { return boolean(v[0].i || v[1].i); }},
      {"Xor", [](const Node&, const std::vector<Scalar>& v) { return boolean(!v[0].i != !v[1].i); }},
      {"Not", [](const Node&, const std::vector<Scalar>& v) { return boolean(!v[0].i); }},
      {"Where", [](const Node&, const std::vector<Scalar>& v) { return v[0].i ? v[1] : v[2]; }},
      {"Min", extreme([](auto a, auto b) { return b < a; })}, {"Max", extreme([](auto a, auto b) { return b > a; })},
      {"CastLike", [](const Node&, const std::vector<Scalar>& v) { return v[0]; }},
      {"Cast", [](const Node&, const std::vector<Scalar>& v) { return v[0]; }},
      {"Neg", [](const Node&, const std::vector<Scalar>& v) { return v[0].integral ? Scalar{true, wrap(0 - static_cast<uint64_t>(v[0].i)), 0} : Scalar{false, 0, -v[0].d}; }},
      {"Abs", [](const Node&, const std::vector<Scalar>& v) { return v[0].integral ? Scalar{true, v[0].i < 0 ? wrap(0 - static_cast<uint64_t>(v[0].i)) : v[0].i, 0} : Scalar{false, 0, std::fabs(v[0].d)}; }},
      {"Sqrt", unary([](double x) { return std::sqrt(x); })}, {"Exp", unary([](double x) { return std::exp(x); })}, {"Log", unary([](double x) { return std::log(x); })},
      {"Floor", unary([](double x) { return std::floor(x); })}, {"Ceil", unary([](double x) { return std::ceil(x); })}, {"Round", unary([](double x) { return std::nearbyint(x); })},
      {"Reciprocal", unary([](double x) { return 1 / x; })},
      {"Relu", [](const Node&, const std::vector<Scalar>& v) { return v[0].integral ? Scalar{true, std::max<int64_t>(v[0].i, 0), 0} : Scalar{false, 0, v[0].d < 0 ? 0.0 : v[0].d}; }},
      {"Clip", [](const Node&, const std::vector<Scalar>& v) {
         Scalar x = v[0];
         if (v.size() > 1 && v[1].real() > x.real()) x = v[1];
         if (v.size() > 2 && v[2].real() < x.real()) x = v[2];
         return x;
       }},
  };
  return table;
}

DType result_type(const Node& node, const std::vector<TensorPtr>& in) {
  const auto& op = std::get<OnnxOp>(node.op);
  static const char* const kBoolean[] = {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor", "Not"};
  if (std::any_of(std::begin(kBoolean), std::end(kBoolean), [&](const char* n) { return op.type == n; })) return DType::kBool;
  if (op.type == "Cast") return static_cast<DType>(op.integer("systole_to", 0));
  if (op.type == "CastLike") return in[1]->type;
  return op.type == "Where" ? in[1]->type : in[0]->type;
}

}  // namespace

void fold_elementwise(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  std::vector<TensorPtr> in;
  Shape shape;
  for (ValueId v : node.inputs) {
    if (v == kNoValue) break;
    if (op.type == "CastLike" && in.size() == 1) {
      in.push_back(std::make_shared<Tensor>(l.constant(v)->type, Shape{}));  // only its type counts
      break;
    }
    in.push_back(l.constant(v));
    shape = in.size() == 1 ? in[0]->shape : broadcast_shapes(node, shape, in.back()->shape);
  }
  const auto f = functions().find(op.type);
  if (f == functions().end() || in.empty()) Lowering::unsupported(node, "constants of this operator are not folded");
  Tensor out(result_type(node, in), shape);
  std::vector<Scalar> args(in.size());
  std::vector<int64_t> index(shape.size(), 0);
  std::vector<std::vector<int64_t>> strides;
  for (const auto& t : in) {
    std::vector<int64_t> s(shape.size(), 0);
    const auto own = row_major_strides(t->shape);
    for (size_t d = 0; d < own.size(); ++d) s[shape.size() - own.size() + d] = t->shape[d] == 1 ? 0 : own[d];
    strides.push_back(std::move(s));
  }
  const int64_t n = out.count();
  for (int64_t i = 0; i < n; ++i) {
    for (size_t k = 0; k < in.size(); ++k) {
      int64_t at = 0;
      for (size_t d = 0; d < shape.size(); ++d) at += index[d] * strides[k][d];
      args[k] = get(*in[k], at);
    }
    const Scalar r = f->second(node, args);
    if (r.integral) is_float(out.type) ? out.set(i, static_cast<double>(r.i)) : out.set_int(i, r.i);
    else out.set(i, r.d);
    for (size_t d = shape.size(); d-- > 0;) {
      if (++index[d] < shape[d]) break;
      index[d] = 0;
    }
  }
  l.define_constant(node.outputs[0], std::move(out));
}

void fold_reduce(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const TensorPtr in = l.constant(node.inputs[0]);
  const auto axes = reduction_axes(l, node, in->shape.size());
  const bool keep = op.integer("keepdims", 1) != 0;
  std::vector<bool> reduced(in->shape.size(), false);
  for (int64_t a : axes) reduced[static_cast<size_t>(a)] = true;
  Shape kept_shape, out_shape;
  for (size_t d = 0; d < in->shape.size(); ++d) {
    kept_shape.push_back(reduced[d] ? 1 : in->shape[d]);
    if (!reduced[d] || keep) out_shape.push_back(kept_shape.back());
  }
  Tensor out(in->type, out_shape);
  const int64_t n = in->count(), m = out.count();
  std::vector<double> acc(static_cast<size_t>(m), op.type == "ReduceProd" ? 1 : op.type == "ReduceMin" ? INFINITY : op.type == "ReduceMax" ? -INFINITY : 0);
  const auto strides = row_major_strides(in->shape), out_strides = row_major_strides(kept_shape);
  for (int64_t i = 0; i < n; ++i) {
    int64_t to = 0;
    for (size_t d = 0; d < strides.size(); ++d) {
      if (!reduced[d]) to += i / strides[d] % in->shape[d] * out_strides[d];
    }
    double& a = acc[static_cast<size_t>(to)];
    const double v = in->at(i);
    if (op.type == "ReduceProd") a *= v;
    else if (op.type == "ReduceMin") a = std::min(a, v);
    else if (op.type == "ReduceMax") a = std::max(a, v);
    else a += v;
  }
  for (int64_t i = 0; i < m; ++i) out.set(i, op.type == "ReduceMean" ? acc[static_cast<size_t>(i)] * static_cast<double>(m) / static_cast<double>(n) : acc[static_cast<size_t>(i)]);
  l.define_constant(node.outputs[0], std::move(out));
}

}  // namespace systole
