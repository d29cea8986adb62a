// One record per ONNX operator: everything the compiler knows about it. The importer's check, constant folding,
// legalisation and the operator table all read these records.
#pragma once
#include <optional>
#include <span>
#include <string_view>

#include "ops/lowering.h"

namespace systole {

struct Operator {
  const char* domain;  ///< "" is ai.onnx
  const char* name;
  /// Emits primitives for a node whose inputs are known, and defines all its outputs.
  void (*lower)(Lowering&, const Node&);
  /// Computes the outputs from constants on the host; null: constants fold through `lower` and the reference.
  void (*fold)(Lowering&, const Node&) = nullptr;
  const char* engine;  ///< "MX", "VX", "DMA" or "folded", for the operator table
  int inputs = 1;      ///< leading inputs that must be present
};

/// All operators, in the order of their files.
std::span<const Operator> operators();
const Operator* find_operator(std::string_view domain, std::string_view name);

// One list per file.
std::span<const Operator> convolution_operators();
std::span<const Operator> matmul_operators();
std::span<const Operator> pooling_operators();
std::span<const Operator> elementwise_operators();
std::span<const Operator> quantization_operators();
std::span<const Operator> reduction_operators();
std::span<const Operator> layout_operators();
std::span<const Operator> copy_operators();
std::span<const Operator> pad_operators();
std::span<const Operator> recurrent_operators();
std::span<const Operator> resize_operators();
std::span<const Operator> shape_operators();

}  // namespace systole
