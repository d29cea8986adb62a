// Functions of the VX function unit and the composites built from them, as scalar definitions over fp32.
// exp2, reciprocal, rsqrt, log2, erf are one table lookup and a quadratic in 28-bit fixed point; the rest are short fp32
// sequences. Measured errors stand in docs/numerics.md; the tests hold them.
#pragma once

namespace systole {

float vx_exp2(float x);        ///< 2^x, subnormal results kept
/// 2^x times 2^-m for integral m: the exponent of 2^x is moved, so no rounding is added (softmax, docs/numerics.md).
float vx_exp2_shifted(float x, float m);
float vx_reciprocal(float x);  ///< 1/x; +-0 gives +-Inf
float vx_rsqrt(float x);       ///< 1/sqrt(x); negative gives NaN
float vx_log2(float x);        ///< log2 x; 0 gives -Inf, negative NaN

float vx_exp(float x);
float vx_log(float x);      ///< log2 x times ln 2
float vx_sqrt(float x);     ///< x times rsqrt x, one Newton step; correctly rounded except in the last place
float vx_divide(float a, float b);  ///< a * vx_divisor(b) and one correction step
float vx_divisor(float b);          ///< reciprocal(b), refined
float vx_tanh(float x);
float vx_sigmoid(float x);
float vx_erf(float x);
/// x^y = 2^(y log2 |x|); negative x only with integral y, as IEEE pow. y = 2 is x * x.
float vx_power(float x, float y);

}  // namespace systole
