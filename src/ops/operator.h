// One record per ONNX operator that the NPU runs: how it becomes primitives, or other operators. Partitioning, legalisation
// and the operator table read these records. What the host computes is src/host.
#pragma once
#include <optional>
#include <span>
#include <string_view>

#include "ops/expander.h"
#include "ops/lowering.h"

namespace systole {

struct Operator {
  const char* domain;  ///< "" is ai.onnx
  const char* name;
  /// Emits primitives for a node whose inputs are known, and defines all its outputs; null for operators that expand.
  void (*lower)(Lowering&, const Node&);
  const char* engine;  ///< "MX", "VX", "DMA" or "shapes", for the operator table
  int inputs = 1;      ///< leading inputs that must be present
  /// Rewrites the node as nodes of other operators; false where it does not, and `lower` or the host takes it.
  bool (*expand)(Expander&) = nullptr;
};

/// Lowers one node, or computes it here when all its inputs are constants. Fails (kUnsupported) naming what is missing.
void lower_node(Lowering& l, const Node& node);
/// Whether all inputs of the node are constants and its result depends on nothing else.
bool folds(const Lowering& l, const Node& node);

/// All operators, in the order of their files.
std::span<const Operator> operators();
const Operator* find_operator(std::string_view domain, std::string_view name);

// One list per file.
std::span<const Operator> convolution_operators();
std::span<const Operator> matmul_operators();
std::span<const Operator> pooling_operators();
std::span<const Operator> pooling_gradient_operators();
std::span<const Operator> elementwise_operators();
std::span<const Operator> quantization_operators();
std::span<const Operator> reduction_operators();
std::span<const Operator> layout_operators();
std::span<const Operator> copy_operators();
std::span<const Operator> pad_operators();
std::span<const Operator> recurrent_operators();
std::span<const Operator> resize_operators();
std::span<const Operator> shape_operators();
std::span<const Operator> attention_operators();
std::span<const Operator> linear_attention_operators();
std::span<const Operator> loss_operators();
std::span<const Operator> optimizer_operators();
std::span<const Operator> normalization_operators();
std::span<const Operator> control_operators();
std::span<const Operator> matrix_operators();
std::span<const Operator> indexed_operators();
std::span<const Operator> product_operators();
std::span<const Operator> einsum_operators();
std::span<const Operator> argument_operators();
std::span<const Operator> trigonometry_operators();
std::span<const Operator> dynamic_quantization_operators();
std::span<const Operator> wide_integer_operators();
std::span<const Operator> microsoft_attention_operators();
std::span<const Operator> microsoft_fused_operators();
std::span<const Operator> microsoft_quantized_operators();

}  // namespace systole
