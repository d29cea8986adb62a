// com.microsoft's fused operators, as ONNX Runtime's ContribOperators.md defines them: products and convolutions with an
// activation, the GELU family, normalisations after a sum, embeddings of BERT.
#include <algorithm>
#include <cmath>

#include "ops/operator.h"

namespace systole {
namespace {

/// alpha op(A) op(B), the last two axes turned where transA or transB say so.
bool expand_fused_matmul(Expander& x) {
  const OnnxOp& op = x.op();
  if (op.integer("transBatchA", 0) || op.integer("transBatchB", 0)) Lowering::unsupported(x.node, "transBatchA or transBatchB");
  auto turned = [&](size_t k, const char* name) {
    const size_t rank = x.shape(k).size();
    if (!op.integer(name, 0) || rank < 2) return x.in(k);
    std::vector<int64_t> perm(rank);
    for (size_t d = 0; d < rank; ++d) perm[d] = static_cast<int64_t>(d);
    std::swap(perm[rank - 1], perm[rank - 2]);
    return x.transpose(x.in(k), perm);
  };
  const ValueId y = x.call("MatMul", {turned(0, "transA"), turned(1, "transB")});
  const float alpha = op.real("alpha", 1);
  x.result(0, alpha == 1 ? y : x.mul(y, x.scalar(static_cast<double>(alpha))));
  return true;
}

/// The activation that a fused operator names; up to two parameters.
ValueId activate(Expander& x, ValueId v, const std::string& name, const std::vector<float>& p) {
  if (name.empty()) return v;
  auto at = [&](size_t k, float otherwise) { return k < p.size() ? p[k] : otherwise; };
  if (name == "Clip") return x.call("Clip", {v, x.scalar(static_cast<double>(at(0, -INFINITY))), x.scalar(static_cast<double>(at(1, INFINITY)))});
  if (name == "LeakyRelu") return x.call("LeakyRelu", {v}, {{"alpha", at(0, 0.01f)}});
  if (name == "HardSigmoid") return x.call("HardSigmoid", {v}, {{"alpha", at(0, 0.2f)}, {"beta", at(1, 0.5f)}});
  for (const char* plain : {"Relu", "Tanh", "Sigmoid", "Elu", "Softplus", "Softsign", "HardSwish", "Gelu"}) {
    if (name == plain) return x.call(plain, {v});
  }
  Lowering::unsupported(x.node, "activation '" + name + "'");
}

/// activation(Conv(X, W, B) + Z)
bool expand_fused_conv(Expander& x) {
  const OnnxOp& op = x.op();
  std::vector<Expander::NamedAttribute> attributes;
  for (const char* name : {"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}) {
    if (op.has(name)) attributes.emplace_back(name, op.attributes.at(name));
  }
  ValueId y = x.call("Conv", {x.in(0), x.in(1), x.in(2)}, attributes);
  if (x.has(3)) y = x.add(y, x.in(3));
  x.result(0, activate(x, y, op.text("activation", ""), op.reals("activation_params")));
  return true;
}

bool expand_fused_gemm(Expander& x) {
  const OnnxOp& op = x.op();
  std::vector<Expander::NamedAttribute> attributes;
  for (const char* name : {"alpha", "beta", "transA", "transB"}) {
    if (op.has(name)) attributes.emplace_back(name, op.attributes.at(name));
  }
  std::vector<float> parameters;
  for (const char* name : {"activation_alpha", "activation_beta"}) {
    if (op.has(name)) parameters.push_back(op.real(name, 0));
  }
  x.result(0, activate(x, x.call("Gemm", {x.in(0), x.in(1), x.in(2)}, attributes), op.text("activation", ""), parameters));
  return true;
}

bool expand_gelu(Expander& x) {
  x.result(0, x.call("Gelu", {x.has(1) ? x.add(x.in(0), x.in(1)) : x.in(0)}));
  return true;
}

bool expand_fast_gelu(Expander& x) {
  x.result(0, x.call("Gelu", {x.has(1) ? x.add(x.in(0), x.in(1)) : x.in(0)}, {{"approximate", std::string("tanh")}}));
  return true;
}

/// x sigmoid(alpha x)
bool expand_quick_gelu(Expander& x) {
  const float alpha = x.op().real("alpha", 1.702f);
  x.result(0, x.mul(x.in(0), x.call("Sigmoid", {x.mul(x.in(0), x.scalar(static_cast<double>(alpha)))})));
  return true;
}

/// Outputs after the first: mean, inverse deviation, and the sum (output 3).
bool expand_skip_norm(Expander& x, const char* type, size_t beta, size_t bias) {
  if (x.wants(1) || x.wants(2)) Lowering::unsupported(x.node, "outputs mean or inv_std_var");
  ValueId sum = x.add(x.in(0), x.in(1));
  if (x.has(bias)) sum = x.add(sum, x.in(bias));
  x.result(3, sum);
  x.result(0, x.call(type, {sum, x.in(2), beta ? x.in(beta) : kNoValue}, {{"axis", int64_t{-1}}, {"epsilon", x.op().real("epsilon", 1e-12f)}}));
  return true;
}
/// input, skip, gamma, beta, bias
bool expand_skip_layer_norm(Expander& x) { return expand_skip_norm(x, "LayerNormalization", 3, 4); }
/// input, skip, gamma, bias
bool expand_skip_rms_norm(Expander& x) { return expand_skip_norm(x, "RMSNormalization", 0, 3); }

/// Root-mean-square normalisation under its older name.
bool expand_simplified_layer_norm(Expander& x) {
  if (x.wants(1)) Lowering::unsupported(x.node, "output inv_std_var");
  x.result(0, x.call("RMSNormalization", {x.in(0), x.in(1)}, {{"axis", x.op().integer("axis", -1)}, {"epsilon", x.op().real("epsilon", 1e-5f)}}));
  return true;
}

/// input_ids, segment_ids, word, position and segment tables, gamma, beta, mask, position_ids. Outputs: normalised sum, number of
/// set mask entries per batch, the sum.
bool expand_embed_layer_norm(Expander& x) {
  const Shape ids = x.shape(0);
  if (ids.size() != 2 || !x.has(2) || !x.has(3) || !x.has(5) || !x.has(6)) malformed(x.node, "input_ids of shape " + to_string(ids), "[batch, length], word and position tables, gamma and beta");
  auto rows = [&](size_t table, ValueId at) { return x.call("Gather", {x.in(table), at}, {{"axis", int64_t{0}}}); };
  std::vector<int64_t> positions;
  for (int64_t i = 0; i < ids[1]; ++i) positions.push_back(i);
  ValueId sum = x.add(rows(2, x.in(0)), rows(3, x.has(8) ? x.in(8) : x.ints(positions)));
  if (x.has(4) && x.has(1)) sum = x.add(sum, rows(4, x.in(1)));
  x.result(2, sum);
  x.result(0, x.call("LayerNormalization", {sum, x.in(5), x.in(6)}, {{"axis", int64_t{-1}}, {"epsilon", x.op().real("epsilon", 1e-12f)}}));
  if (x.has(7)) {
    x.result(1, x.call("ReduceSum", {x.in(7), x.ints({1})}, {{"keepdims", int64_t{0}}}));
  } else {
    x.result(1, x.constant_tensor(Tensor(DType::kI32, {ids[0]})));
  }
  return true;
}

constexpr Operator kOperators[] = {
    {"com.microsoft", "FusedMatMul", nullptr, "expands", 2, expand_fused_matmul},
    {"com.microsoft", "FusedConv", nullptr, "expands", 2, expand_fused_conv},
    {"com.microsoft", "FusedGemm", nullptr, "expands", 2, expand_fused_gemm},
    {"com.microsoft", "Gelu", nullptr, "expands", 1, expand_gelu},
    {"com.microsoft", "BiasGelu", nullptr, "expands", 2, expand_gelu},
    {"com.microsoft", "FastGelu", nullptr, "expands", 1, expand_fast_gelu},
    {"com.microsoft", "QuickGelu", nullptr, "expands", 1, expand_quick_gelu},
    {"com.microsoft", "SkipLayerNormalization", nullptr, "expands", 3, expand_skip_layer_norm},
    {"com.microsoft", "SkipSimplifiedLayerNormalization", nullptr, "expands", 3, expand_skip_rms_norm},
    {"", "SimplifiedLayerNormalization", nullptr, "expands", 2, expand_simplified_layer_norm},
    {"com.microsoft", "EmbedLayerNormalization", nullptr, "expands", 1, expand_embed_layer_norm},
};

}  // namespace

std::span<const Operator> microsoft_fused_operators() { return kOperators; }

}  // namespace systole
