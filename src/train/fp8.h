// Products of 8-bit floats in training (Micikevicius et al. 2022, "FP8 Formats for Deep Learning"): what forward made in E4M3, gradients in E5M2.
#pragma once
#include "graph/graph.h"

namespace systole {

/// Every Conv, ConvTranspose, Gemm and MatMul of a step multiplies operands rounded to 8 bits, each tensor scaled so that its largest
/// magnitude is the format's, and divides its sums by the scales. `seed`: the loss's gradient; what depends on it is a gradient.
/// Rounding is straight-through: call it after the gradients are built. Nodes come out of order.
void round_to_fp8(Graph& graph, ValueId seed);

}  // namespace systole
