// Block kernels under the matrix engine's functional model: operands are packed by matrix.cpp, accumulators are dense
// rows of `n` columns. Each kernel equals the scalar definition bit for bit on every host instruction set.
#pragma once
#include <cstdint>

namespace systole {

/// acc[m][n] += sum over k of a[m][k] b[k][n], wrapping. a: rows of `pairs` x 2 int16; b: [pairs][n_padded][2] int16,
/// n_padded a multiple of 16; acc rows are n_padded apart.
void gemm_int16(int32_t* acc, const int16_t* a, const int16_t* b, int64_t rows, int64_t pairs, int64_t n_padded);

/// acc[m][n] accumulates dot32 blocks. a: [m][blocks x 32] fp32; b: [blocks x 32][n_padded] fp32. Values are bf16 parts.
void gemm_dot32(float* acc, const float* a, const float* b, int64_t rows, int64_t blocks, int64_t n_padded);

}  // namespace systole
