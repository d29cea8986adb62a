// Host arithmetic on constants, for shape computations and small constant expressions. Integers stay exact in 64 bits;
// floats are computed in double and rounded once.
#pragma once
#include "ops/lowering.h"

namespace systole {

/// Elementwise operators of any arity with broadcasting, by ONNX name (Add, Mul, Where, Equal, Cast, Sqrt, ...).
void fold_elementwise(Lowering& l, const Node& node);
/// ReduceSum, ReduceProd, ReduceMin, ReduceMax, ReduceMean on constants.
void fold_reduce(Lowering& l, const Node& node);

}  // namespace systole
