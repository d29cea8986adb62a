// MatMul (1, 9, 13), Gemm (7, 9, 11, 13), QLinearMatMul (10, 21), com.microsoft.QGemm, and systole.QLinearGemm and
// systole.QLinearMatMul, which the recognise_qdq pass makes.
#include <algorithm>
#include <cmath>

#include "ops/operator.h"
#include "ops/quantized.h"

namespace systole {
namespace {

DType operand_type(MacFormat f) { return f == MacFormat::kF32 ? DType::kF32 : f == MacFormat::kF16 ? DType::kF16 : DType::kBF16; }

/// [.., M, K] x [.., K, N]: operands as the contract wants them, and the shape of the result.
struct Product {
  ValueId a, b;
  bool b_transposed = false;
  Shape image;    ///< [batch, 1, M, N]
  Shape logical;  ///< the ONNX result
  ValueId scales = kNoValue, zeros = kNoValue;  ///< of codes in groups of group_rows
  int64_t group_rows = 0;
};

/// Whether B is a constant [K, N] ([N, K] when turned) of codes that share scales along K; then the product reads those.
bool read_grouped(Lowering& l, const Node& node, ValueId b, bool turned, Product& p) {
  const GroupedWeights* found = l.grouped(b);
  if (!found) return false;
  const GroupedWeights g = turned ? found->transposed() : *found;
  const int64_t k = g.codes->shape[0], n = g.codes->shape[1];
  if ((g.columns != 1 && g.columns != n) || g.rows > UINT16_MAX || k % g.rows) return false;
  const GroupedWeights per_column = g.per_column();
  Tensor codes = *g.codes;
  codes.shape = {1, 1, 1, 1, k, n};
  p.b = l.add_constant(node.name + ".codes", std::move(codes)), p.group_rows = g.rows;
  p.scales = l.add_constant(node.name + ".scales", *per_column.scales), p.zeros = l.add_constant(node.name + ".zeros", *per_column.zeros);
  return true;
}

/// Brings a non-constant operand's batch dimensions to `batch` by a move that repeats.
ValueId expand_batch(Lowering& l, ValueId id, const Shape& batch) {
  const Value v = l.out.value(id);
  const size_t rank = batch.size() + 2;
  Shape from(rank - v.shape.size(), 1);
  from.insert(from.end(), v.shape.begin(), v.shape.end());
  Shape to(batch);
  to.push_back(from[rank - 2]), to.push_back(from[rank - 1]);
  if (from == to) return l.emit_view(v.name, id, to);
  CopyRegion r{0, to, 0, 0, row_major_strides(from), row_major_strides(to)};
  for (size_t d = 0; d < batch.size(); ++d) {
    if (from[d] == 1) r.src_strides[d] = 0;
  }
  return l.emit(v.name + ".expand", Move{{r}, 0}, {id}, v.type, to);
}

Product prepare(Lowering& l, const Node& node, ValueId a, ValueId b, DType a_type, DType b_type) {
  const Shape sa = l.shape(a), sb = l.shape(b);
  if (sa.empty() || sb.empty()) Lowering::malformed(node, "a scalar operand", "operands of rank 1 or more");
  const bool vector_a = sa.size() == 1, vector_b = sb.size() == 1;
  const int64_t m = vector_a ? 1 : sa[sa.size() - 2], k = sa.back(), n = vector_b ? 1 : sb.back();
  if (k != (vector_b ? sb[0] : sb[sb.size() - 2])) Lowering::malformed(node, "shapes " + to_string(sa) + " and " + to_string(sb), "equal inner extents");
  const Shape batch_a(sa.begin(), sa.end() - (vector_a ? 1 : 2)), batch_b(sb.begin(), sb.end() - (vector_b ? 1 : 2));
  const Shape batch = broadcast_shapes(node, batch_a, batch_b);
  Product p;
  p.logical = batch;
  if (!vector_a) p.logical.push_back(m);
  if (!vector_b) p.logical.push_back(n);
  p.a = l.form_as(a, identity_perm(sa.size()), a_type);
  const int64_t batches = element_count(batch);
  const bool shared_b = element_count(batch_b) == 1;
  if (sb.size() == 2 && is_float(b_type) && read_grouped(l, node, b, false, p)) {
    p.image = {1, 1, element_count(batch_a) * m, n};
    p.a = l.emit_view(node.name, p.a, {1, 1, p.image[2], k});
    return p;
  }
  // B^T that exists already is used as it lies.
  const auto best = l.best(b);
  Perm swapped = identity_perm(sb.size());
  if (!vector_b) std::swap(swapped[sb.size() - 1], swapped[sb.size() - 2]);
  p.b_transposed = !vector_b && best.perm == swapped && !l.constant(b);
  p.b = l.form_as(b, p.b_transposed ? swapped : identity_perm(sb.size()), b_type);
  const Shape last = p.b_transposed ? Shape{n, k} : Shape{k, n};
  if (shared_b) {
    const int64_t rows = element_count(batch_a) * m;
    if (element_count(batch_a) != batches) Lowering::unsupported(node, "a batch of B that only broadcasts A");
    p.image = {1, 1, rows, n};
    p.a = l.emit_view(node.name, p.a, {1, 1, rows, k});
    p.b = l.emit_view(node.name, p.b, {1, 1, 1, 1, last[0], last[1]});
  } else {
    p.image = {batches, 1, m, n};
    p.a = l.emit_view(node.name, expand_batch(l, p.a, batch), {batches, 1, m, k});
    p.b = l.emit_view(node.name, expand_batch(l, p.b, batch), {batches, 1, 1, 1, last[0], last[1]});
  }
  return p;
}

ValueId emit_product(Lowering& l, const Node& node, const Product& p, MacFormat format, ValueId bias, int64_t a_zero, int64_t b_zero) {
  Contract c;
  c.format = format, c.b_transposed = p.b_transposed, c.a_zero = a_zero, c.b_zero = b_zero;
  c.group_rows = p.group_rows;
  std::vector<ValueId> in = {p.a, p.b};
  if (p.group_rows && bias == kNoValue) bias = l.add_constant(node.name + ".bias", Tensor(DType::kF32, {p.image[3]}));
  if (bias != kNoValue) in.push_back(bias);
  if (p.group_rows) in.insert(in.end(), {p.scales, p.zeros});
  return l.emit(node.name, c, in, format == MacFormat::kInt8 ? DType::kI32 : DType::kF32, p.image);
}

ValueId drain_float(Lowering& l, const Node& node, ValueId acc) {
  MapBuilder m(l, node.name, l.out.value(acc).shape);
  m.op(isa::Micro::kMove, {m.input(acc, direct_access(4))});
  return m.finish(l.store_type(node));
}

void lower_matmul(Lowering& l, const Node& node) {
  const DType t = operand_type(l.policy.format);
  const Product p = prepare(l, node, node.inputs[0], node.inputs[1], t, t);
  const ValueId y = drain_float(l, node, emit_product(l, node, p, l.policy.format, kNoValue, 0, 0));
  l.define_logical(node.outputs[0], l.emit_view(node.name, y, p.logical));
}

/// Logical [M, K] operand of a Gemm, transposed as the attribute asks, in this type.
ValueId gemm_operand(Lowering& l, ValueId v, bool transposed, DType type) { return l.form_as(v, transposed ? Perm{1, 0} : Perm{0, 1}, type); }

/// alpha A B + beta C. C adds as bias when it is one value per column, else by a map.
void lower_gemm(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const Shape sa = l.shape(node.inputs[0]), sb = l.shape(node.inputs[1]);
  const bool ta = op.integer("transA", 0), tb = op.integer("transB", 0);
  if (sa.size() != 2 || sb.size() != 2 || sa[ta ? 0 : 1] != sb[tb ? 1 : 0]) Lowering::malformed(node, "shapes " + to_string(sa) + " and " + to_string(sb), "two matrices with equal inner extents");
  const int64_t m = sa[ta ? 1 : 0], k = sa[ta ? 0 : 1], n = sb[tb ? 0 : 1];
  const float alpha = op.real("alpha", 1), beta = op.real("beta", 1);
  const DType t = operand_type(l.policy.format);
  const ValueId a = gemm_operand(l, node.inputs[0], ta, t);
  Product p;
  p.image = {1, 1, m, n};
  p.a = l.emit_view(node.name, a, {1, 1, m, k});
  // A run-time B stays as it lies: the matrix engine reads either order.
  if (!read_grouped(l, node, node.inputs[1], tb, p)) {
    p.b_transposed = tb && !l.constant(node.inputs[1]);
    const ValueId b = gemm_operand(l, node.inputs[1], tb && !p.b_transposed, t);
    p.b = l.emit_view(node.name, b, p.b_transposed ? Shape{1, 1, 1, 1, n, k} : Shape{1, 1, 1, 1, k, n});
  }
  ValueId bias = kNoValue;
  const TensorPtr c = Lowering::present(node, 2) ? l.constant(node.inputs[2]) : nullptr;
  const bool row_bias = c && alpha == 1 && (c->count() == 1 || c->shape.back() == c->count()) && (c->count() == n || c->count() == 1);
  if (row_bias) {
    std::vector<float> values = c->to_floats();
    if (values.size() == 1) values.assign(static_cast<size_t>(n), values[0]);
    for (float& v : values) v *= beta;
    bias = l.add_constant(node.name + ".bias", Tensor::from_floats(values, {n}));
  }
  const ValueId acc = emit_product(l, node, p, l.policy.format, bias, 0, 0);
  MapBuilder drain(l, node.name, p.image);
  Operand v = drain.input(acc, direct_access(4));
  v = alpha == 1 ? drain.op(isa::Micro::kMove, {v}) : drain.op(isa::Micro::kMul, {v, Operand::value(alpha)});
  if (Lowering::present(node, 2) && !row_bias) {
    const Shape sc = l.shape(node.inputs[2]);
    if (sc.size() > 2 || broadcast_shapes(node, sc, {m, n}) != Shape{m, n}) Lowering::malformed(node, "C of shape " + to_string(sc), "a shape that broadcasts to " + to_string({m, n}));
    const ValueId id = l.form(node.inputs[2], identity_perm(sc.size()));
    Access access;
    for (size_t d = 0; d < sc.size(); ++d) {
      IndexExpr e;
      if (sc[d] != 1) e.terms.push_back({static_cast<int>(4 - sc.size() + d), 1});
      access.index.push_back(e);
    }
    const Operand cv = drain.input(id, access);
    v = drain.op(isa::Micro::kFma, {cv, Operand::value(beta), v});
  }
  l.define_logical(node.outputs[0], l.emit_view(node.name, drain.finish(l.policy.store), {m, n}));
}

/// Sums of so many products of two run-time operands that they could overflow the accumulator are sums of floats.
bool expand_long_qlinear_matmul(Expander& x) {
  const Shape a = x.shape(0);
  if (x.constant(3) || a.empty() || a.back() * 255 * 255 < int64_t{1} << 31) return false;
  const ValueId y = x.call("MatMul", {x.call("DequantizeLinear", {x.in(0), x.in(1), x.in(2)}), x.call("DequantizeLinear", {x.in(3), x.in(4), x.in(5)})});
  std::vector<Expander::NamedAttribute> clamp;
  for (const char* name : {"clamp_lo", "clamp_hi"}) {
    if (x.op().has(name)) clamp.emplace_back(name, x.op().attributes.at(name));
  }
  x.result(0, x.in(6) == kNoValue ? y : x.call("QuantizeLinear", {y, x.in(6), x.in(7)}, clamp));
  return true;
}

void lower_qlinear_matmul(Lowering& l, const Node& node) {
  // a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero; float output without y_scale
  const Quantization qa = read_quantization(l, node, 1), qb = read_quantization(l, node, 4);
  if (qa.scales.size() != 1) Lowering::unsupported(node, "a scale per row of A");
  const Product p = prepare(l, node, node.inputs[0], node.inputs[3], qa.type, qb.type);
  if (const TensorPtr w = l.constant(node.inputs[3])) check_accumulator_range(node, *w, w->shape.size() - 1, qb.zero_point, nullptr);
  const ValueId acc = emit_product(l, node, p, MacFormat::kInt8, kNoValue, qa.zero_point, qb.zero_point);
  const ValueId y = drain_to_output(l, node, acc, qa, qb, 6);
  l.define_logical(node.outputs[0], l.emit_view(node.name, y, p.logical));
}

/// A, B, A_zero, B_zero; B constant. A's zero point may come at run time, one for all.
void lower_matmul_integer(Lowering& l, const Node& node) {
  const TensorPtr w = l.need_constant(node, 1, "B"), wz = Lowering::present(node, 3) ? l.need_constant(node, 3, "B's zero point") : nullptr;
  if (w->shape.size() != 2 || (wz && wz->count() != 1)) Lowering::unsupported(node, "B that is no matrix, or a zero point per column");
  const int64_t zero_b = wz ? wz->int_at(0) : 0, k = w->shape[0], n = w->shape[1];
  const TensorPtr az = Lowering::present(node, 2) ? l.constant(node.inputs[2]) : nullptr;
  const bool run_time = Lowering::present(node, 2) && !az;
  if (az && az->count() != 1) Lowering::unsupported(node, "a zero point per row");
  if (run_time && element_count(l.shape(node.inputs[2])) != 1) Lowering::unsupported(node, "a zero point per row");
  check_accumulator_range(node, *w, 1, zero_b, nullptr);
  const Product p = prepare(l, node, node.inputs[0], node.inputs[1], l.type(node.inputs[0]), w->type);
  const ValueId acc = emit_product(l, node, p, MacFormat::kInt8, kNoValue, az ? az->int_at(0) : 0, zero_b);
  Tensor sums(DType::kF32, {n});
  double greatest = 0;
  for (int64_t j = 0; j < n; ++j) {
    double sum = 0, magnitude = 0;
    for (int64_t i = 0; i < k; ++i) sum += static_cast<double>(w->int_at(i * n + j) - zero_b), magnitude += std::fabs(static_cast<double>(w->int_at(i * n + j) - zero_b));
    sums.set(j, sum);
    greatest = std::max(greatest, 255 * magnitude);
  }
  const ValueId y = drain_integers(l, node, acc, run_time ? l.best(node.inputs[2]).id : kNoValue, sums, greatest);
  l.define_logical(node.outputs[0], l.emit_view(node.name, y, p.logical));
}

/// com.microsoft.QGemm: a, a_scale, a_zero, b, b_scale, b_zero, C (int32), y_scale, y_zero; float output without y_scale.
void lower_qgemm(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const Shape sa = l.shape(node.inputs[0]);
  const TensorPtr w = l.need_constant(node, 3, "B");
  const bool ta = op.integer("transA", 0), tb = op.integer("transB", 0);
  if (sa.size() != 2 || w->shape.size() != 2 || sa[ta ? 0 : 1] != w->shape[tb ? 1 : 0]) Lowering::malformed(node, "shapes " + to_string(sa) + " and " + to_string(w->shape), "two matrices with equal inner extents");
  if (op.real("alpha", 1) != 1) Lowering::unsupported(node, "alpha other than 1");
  const Quantization qa = read_quantization(l, node, 1), qb = read_quantization(l, node, 4);
  const int64_t m = sa[ta ? 1 : 0], k = sa[ta ? 0 : 1], n = w->shape[tb ? 0 : 1];
  ValueId bias = kNoValue;
  if (Lowering::present(node, 6)) {
    const TensorPtr c = l.need_constant(node, 6, "C");
    if (c->count() != n) Lowering::unsupported(node, "a bias that is not one value per column");
    Tensor flat = *c;
    flat.shape = {n};
    bias = l.add_constant(node.name + ".bias", std::move(flat));
  }
  check_accumulator_range(node, *w, tb ? 0 : 1, qb.zero_point, bias == kNoValue ? nullptr : l.out.value(bias).constant.get());
  Product p;
  p.image = {1, 1, m, n};
  p.a = l.emit_view(node.name, l.form(node.inputs[0], ta ? Perm{1, 0} : Perm{0, 1}), {1, 1, m, k});
  p.b = l.emit_view(node.name, l.form(node.inputs[3], tb ? Perm{1, 0} : Perm{0, 1}), {1, 1, 1, 1, k, n});
  const ValueId acc = emit_product(l, node, p, MacFormat::kInt8, bias, qa.zero_point, qb.zero_point);
  const ValueId y = drain_to_output(l, node, acc, qa, qb, 7);
  l.define_logical(node.outputs[0], l.emit_view(node.name, y, {m, n}));
}

constexpr Operator kOperators[] = {
    {"", "MatMul", lower_matmul, "MX", 2},
    {"", "Gemm", lower_gemm, "MX", 2},
    {"", "QLinearMatMul", lower_qlinear_matmul, "MX", 8, expand_long_qlinear_matmul},
    {"", "MatMulInteger", lower_matmul_integer, "MX", 2},
    {"com.microsoft", "QGemm", lower_qgemm, "MX", 6},
    {"systole", "QLinearGemm", lower_qgemm, "MX", 6},
    {"systole", "QLinearMatMul", lower_qlinear_matmul, "MX", 6, expand_long_qlinear_matmul},
};

}  // namespace

std::span<const Operator> matmul_operators() { return kOperators; }

}  // namespace systole
