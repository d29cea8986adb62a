// Scalar meaning of the micro-operations: the definition that the reference evaluator and the models share.
// NaNs become canonical where a value is stored.
#pragma once
#include <cmath>

#include "isa/instruction.h"
#include "numerics/functions.h"
#include "numerics/reduce.h"

namespace systole::isa {

inline float micro_value(Micro op, float a, float b, float c) {
  switch (op) {
    case Micro::kMove: return a;
    case Micro::kAdd: return a + b;
    case Micro::kSub: return a - b;
    case Micro::kMul: return a * b;
    case Micro::kFma: return std::fma(a, b, c);
    case Micro::kMax: return maximum(a, b);
    case Micro::kMin: return minimum(a, b);
    case Micro::kAbs: return std::fabs(a);
    case Micro::kNeg: return -a;
    case Micro::kFloor: return std::floor(a);
    case Micro::kCeil: return std::ceil(a);
    case Micro::kRound: return std::nearbyint(a);
    case Micro::kRelu: return a < 0 ? 0.0f : a;
    case Micro::kLess: return a < b ? 1.0f : 0.0f;
    case Micro::kLessEqual: return a <= b ? 1.0f : 0.0f;
    case Micro::kEqual: return a == b ? 1.0f : 0.0f;
    case Micro::kSelect: return a != 0 ? b : c;
    case Micro::kSign: return a > 0 ? 1.0f : a < 0 ? -1.0f : a;
    case Micro::kExp2: return vx_exp2(a);
    case Micro::kReciprocal: return vx_reciprocal(a);
    case Micro::kRsqrt: return vx_rsqrt(a);
    case Micro::kLog2: return vx_log2(a);
    case Micro::kExp: return vx_exp(a);
    case Micro::kLog: return vx_log(a);
    case Micro::kSqrt: return vx_sqrt(a);
    case Micro::kDivide: return vx_divide(a, b);
    case Micro::kTanh: return vx_tanh(a);
    case Micro::kSigmoid: return vx_sigmoid(a);
    case Micro::kErf: return vx_erf(a);
    case Micro::kPower: return vx_power(a, b);
    case Micro::kExp2Shifted: return vx_exp2_shifted(a, b);
  }
  return 0;
}

}  // namespace systole::isa
