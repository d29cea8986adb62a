// com.microsoft's quantised operators, as ONNX Runtime's ContribOperators.md defines them: QLinear forms as the float operator
// between DequantizeLinear and QuantizeLinear, integer products scaled to floats, weights of few bits in blocks.
#include <algorithm>
#include <cmath>

#include "ops/operator.h"

namespace systole {
namespace {

/// Inputs k, k + 1, k + 2: a tensor, its scale, its zero point.
ValueId dequantized(Expander& x, size_t k) { return x.call("DequantizeLinear", {x.in(k), x.in(k + 1), x.in(k + 2)}); }
/// By scale k and zero point k + 1.
ValueId quantized(Expander& x, ValueId v, size_t k) { return x.call("QuantizeLinear", {v, x.in(k), x.in(k + 1)}); }

std::vector<Expander::NamedAttribute> copied(const OnnxOp& op, std::initializer_list<const char*> names) {
  std::vector<Expander::NamedAttribute> list;
  for (const char* name : names) {
    if (op.has(name)) list.emplace_back(name, op.attributes.at(name));
  }
  return list;
}

/// X, X_scale, X_zero, Y_scale, Y_zero
bool expand_qlinear_sigmoid(Expander& x) {
  x.result(0, quantized(x, x.call("Sigmoid", {dequantized(x, 0)}), 3));
  return true;
}
bool expand_qlinear_leaky_relu(Expander& x) {
  x.result(0, quantized(x, x.call("LeakyRelu", {dequantized(x, 0)}, {{"alpha", x.op().real("alpha", 0.01f)}}), 3));
  return true;
}
bool expand_qlinear_softmax(Expander& x) {
  const Shape s = x.shape(0);
  const int64_t axis = normalise_axis(x.node, x.op().integer("axis", -1), s.size());
  ValueId v = dequantized(x, 0);
  if (x.op().integer("opset", 13) < 13) {  // over all axes from `axis` on
    Shape joined(s.begin(), s.begin() + axis);
    joined.push_back(element_count(Shape(s.begin() + axis, s.end())));
    v = x.reshape(x.call("Softmax", {x.reshape(v, joined)}, {{"axis", int64_t{-1}}}), s);
  } else {
    v = x.call("Softmax", {v}, {{"axis", axis}});
  }
  x.result(0, quantized(x, v, 3));
  return true;
}
bool expand_qlinear_average_pool(Expander& x) {
  if (x.op().integer("channels_last", 0)) Lowering::unsupported(x.node, "channels_last");
  x.result(0, quantized(x, x.call("AveragePool", {dequantized(x, 0)}, copied(x.op(), {"auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"})), 3));
  return true;
}
/// Y_scale, Y_zero, then a tensor, its scale and its zero point for each input. Inputs that already have the output's are copied.
bool expand_qlinear_concat(Expander& x) {
  std::vector<ValueId> parts;
  auto equal = [&](size_t a, size_t b) {
    const TensorPtr p = x.constant(a), q = x.constant(b);
    return p && q && p->type == q->type && p->bytes == q->bytes;
  };
  for (size_t k = 2; k + 2 < x.node.inputs.size(); k += 3) parts.push_back(equal(k + 1, 0) && equal(k + 2, 1) ? x.in(k) : quantized(x, dequantized(x, k), 0));
  x.result(0, x.call("Concat", parts, copied(x.op(), {"axis"})));
  return true;
}

/// condition, X, X_scale, X_zero, Y, Y_scale, Y_zero, Z_scale, Z_zero
bool expand_qlinear_where(Expander& x) {
  x.result(0, quantized(x, x.call("Where", {x.in(0), dequantized(x, 1), dequantized(x, 4)}), 7));
  return true;
}

/// scale (A - zero)(B - zero) + bias
ValueId scaled_product(Expander& x, ValueId a, ValueId b, ValueId a_zero, ValueId b_zero, ValueId scale, ValueId bias) {
  const ValueId y = x.mul(x.cast(x.call("MatMulInteger", {a, b, a_zero, b_zero}), DType::kF32), scale);
  return bias == kNoValue ? y : x.add(y, bias);
}

/// A, B, a_scale, b_scale, a_zero, b_zero, bias
bool expand_matmul_integer_to_float(Expander& x) {
  x.result(0, scaled_product(x, x.in(0), x.in(1), x.in(4), x.in(5), x.mul(x.in(2), x.in(3)), x.in(6)));
  return true;
}

/// A (float), B, b_scale, b_zero, bias
bool expand_dynamic_quantize_matmul(Expander& x) {
  const auto a = x.call_n("DynamicQuantizeLinear", {x.in(0)}, {}, 3);
  x.result(0, scaled_product(x, a[0], x.in(1), a[2], x.in(3), x.mul(a[1], x.in(2)), x.in(4)));
  return true;
}

/// Values of `bits` bits, packed from the low end, along the last axis.
std::vector<int64_t> unpacked(const Tensor& packed, int64_t bits, int64_t rows, int64_t columns) {
  std::vector<int64_t> values(static_cast<size_t>(rows * columns));
  const int64_t row_bytes = rows ? packed.count() / rows : 0, per_byte = 8 / bits;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) values[static_cast<size_t>(r * columns + c)] = (packed.int_at(r * row_bytes + c / per_byte) >> (c % per_byte * bits)) & ((1 << bits) - 1);
  }
  return values;
}

/// A [.., K], B [N, blocks, bytes] constant, scales [N, blocks], zero points (packed alike, or floats), g_idx, bias: A times the
/// transposed dequantised B.
bool expand_matmul_nbits(Expander& x) {
  const OnnxOp& op = x.op();
  const int64_t k = op.integer("K", 0), n = op.integer("N", 0), bits = op.integer("bits", 4), block = op.integer("block_size", 0);
  if (bits != 2 && bits != 4 && bits != 8) Lowering::unsupported(x.node, std::to_string(bits) + " bits");
  if (k < 1 || n < 1 || block < 1 || k > (int64_t{1} << 31) / n) malformed(x.node, "K " + std::to_string(k) + ", N " + std::to_string(n) + ", block_size " + std::to_string(block), "positive sizes");
  const TensorPtr b = x.constant(1), scales = x.constant(2), zeros = x.constant(3);
  if (!b || !scales || (x.has(3) && !zeros) || x.has(4)) Lowering::unsupported(x.node, "weights, scales or zero points computed at run time, or g_idx");
  const int64_t blocks = (k + block - 1) / block, zero_bytes = (blocks * bits + 7) / 8;
  if (b->count() != n * blocks * ((block * bits + 7) / 8) || scales->count() != n * blocks || (zeros && zeros->count() != (is_float(zeros->type) ? n * blocks : n * zero_bytes))) {
    malformed(x.node, "B " + to_string(b->shape) + ", scales " + to_string(scales->shape), "B [N, blocks, bytes of a block], scales [N, blocks]");
  }
  const auto q = unpacked(*b, bits, n, blocks * block);
  const bool float_zero = zeros && is_float(zeros->type);
  const auto z = zeros && !float_zero ? unpacked(*zeros, bits, n, blocks) : std::vector<int64_t>(static_cast<size_t>(n * blocks), int64_t{1} << (bits - 1));
  if (float_zero || k % block) {  // as floats at once
    Tensor w(DType::kF32, {k, n});
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t i = 0; i < k; ++i) {
        const int64_t g = j * blocks + i / block;
        const float zero = float_zero ? static_cast<float>(zeros->at(g)) : static_cast<float>(z[static_cast<size_t>(g)]);
        w.set(i * n + j, static_cast<double>((static_cast<float>(q[static_cast<size_t>(j * blocks * block + i)]) - zero) * static_cast<float>(scales->at(g))));
      }
    }
    const ValueId product = x.call("MatMul", {x.in(0), x.constant_tensor(std::move(w))});
    x.result(0, x.has(5) ? x.add(product, x.in(5)) : product);
    return true;
  }
  const DType type = bits == 8 ? DType::kU8 : bits == 4 ? DType::kU4 : DType::kU2;
  Tensor w(type, {k, n}), s(DType::kF32, {blocks, n}), zero(type, {blocks, n});
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t i = 0; i < k; ++i) w.set_int(i * n + j, q[static_cast<size_t>(j * blocks * block + i)]);
    for (int64_t g = 0; g < blocks; ++g) s.set(g * n + j, scales->at(j * blocks + g)), zero.set_int(g * n + j, z[static_cast<size_t>(j * blocks + g)]);
  }
  const ValueId weights = x.call("DequantizeLinear", {x.constant_tensor(std::move(w)), x.constant_tensor(std::move(s)), x.constant_tensor(std::move(zero))}, {{"axis", int64_t{0}}, {"block_size", block}});
  const ValueId product = x.call("MatMul", {x.in(0), weights});
  x.result(0, x.has(5) ? x.add(product, x.in(5)) : product);
  return true;
}

constexpr Operator kOperators[] = {
    {"com.microsoft", "QLinearSigmoid", nullptr, "expands", 5, expand_qlinear_sigmoid},
    {"com.microsoft", "QLinearLeakyRelu", nullptr, "expands", 5, expand_qlinear_leaky_relu},
    {"com.microsoft", "QLinearSoftmax", nullptr, "expands", 5, expand_qlinear_softmax},
    {"com.microsoft", "QLinearAveragePool", nullptr, "expands", 5, expand_qlinear_average_pool},
    {"com.microsoft", "QLinearConcat", nullptr, "expands", 5, expand_qlinear_concat},
    {"com.microsoft", "QLinearWhere", nullptr, "expands", 9, expand_qlinear_where},
    {"com.microsoft", "MatMulIntegerToFloat", nullptr, "expands", 4, expand_matmul_integer_to_float},
    {"com.microsoft", "DynamicQuantizeMatMul", nullptr, "expands", 3, expand_dynamic_quantize_matmul},
    {"com.microsoft", "MatMulNBits", nullptr, "expands", 3, expand_matmul_nbits},
};

}  // namespace

std::span<const Operator> microsoft_quantized_operators() { return kOperators; }

}  // namespace systole
