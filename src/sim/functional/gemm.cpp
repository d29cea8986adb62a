#include "sim/functional/gemm.h"

#include "numerics/dot32.h"
#include "sim/functional/executor.h"
#include "sim/functional/flush_mode.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace systole {
namespace {

void gemm_int16_scalar(int32_t* acc, const int16_t* a, const int16_t* b, int64_t rows, int64_t pairs, int64_t n) {
  for (int64_t m = 0; m < rows; ++m) {
    for (int64_t k = 0; k < pairs; ++k) {
      const int32_t x = a[(m * pairs + k) * 2], y = a[(m * pairs + k) * 2 + 1];
      const int16_t* row = b + k * n * 2;
      for (int64_t j = 0; j < n; ++j) {
        acc[m * n + j] = static_cast<int32_t>(static_cast<uint32_t>(acc[m * n + j]) + static_cast<uint32_t>(x * row[2 * j]) + static_cast<uint32_t>(y * row[2 * j + 1]));
      }
    }
  }
}

void gemm_dot32_scalar(float* acc, const float* a, const float* b, int64_t rows, int64_t blocks, int64_t n) {
  float column[kDotBlock];
  for (int64_t m = 0; m < rows; ++m) {
    for (int64_t j = 0; j < n; ++j) {
      float sum = acc[m * n + j];
      for (int64_t k = 0; k < blocks; ++k) {
        for (int i = 0; i < kDotBlock; ++i) column[i] = b[(k * kDotBlock + i) * n + j];
        sum = dot32_block(a + (m * blocks + k) * kDotBlock, column, sum);
      }
      acc[m * n + j] = sum;
    }
  }
}

#if defined(__x86_64__)
#define SYSTOLE_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma")))
#define SYSTOLE_AVX2 __attribute__((target("avx2,fma")))

template <int kRows, int kColumns>
SYSTOLE_AVX512 inline void tile_int16_avx512(int32_t* acc, const int16_t* a, const int16_t* b, int64_t pairs, int64_t n) {
  __m512i sum[kRows][kColumns];
  for (int r = 0; r < kRows; ++r)
    for (int c = 0; c < kColumns; ++c) sum[r][c] = _mm512_loadu_si512(acc + r * n + 16 * c);
  for (int64_t k = 0; k < pairs; ++k) {
    __m512i column[kColumns];
    for (int c = 0; c < kColumns; ++c) column[c] = _mm512_loadu_si512(b + (k * n + 16 * c) * 2);
    for (int r = 0; r < kRows; ++r) {
      int32_t pair;
      __builtin_memcpy(&pair, a + (r * pairs + k) * 2, 4);
      const __m512i x = _mm512_set1_epi32(pair);
      for (int c = 0; c < kColumns; ++c) sum[r][c] = _mm512_add_epi32(sum[r][c], _mm512_madd_epi16(x, column[c]));
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int c = 0; c < kColumns; ++c) _mm512_storeu_si512(acc + r * n + 16 * c, sum[r][c]);
}

SYSTOLE_AVX512 void gemm_int16_avx512(int32_t* acc, const int16_t* a, const int16_t* b, int64_t rows, int64_t pairs, int64_t n) {
  int64_t j = 0;
  for (; j + 32 <= n; j += 32) {
    int64_t m = 0;
    for (; m + 8 <= rows; m += 8) tile_int16_avx512<8, 2>(acc + m * n + j, a + m * pairs * 2, b + j * 2, pairs, n);
    for (; m < rows; ++m) tile_int16_avx512<1, 2>(acc + m * n + j, a + m * pairs * 2, b + j * 2, pairs, n);
  }
  for (; j < n; j += 16) {
    int64_t m = 0;
    for (; m + 8 <= rows; m += 8) tile_int16_avx512<8, 1>(acc + m * n + j, a + m * pairs * 2, b + j * 2, pairs, n);
    for (; m < rows; ++m) tile_int16_avx512<1, 1>(acc + m * n + j, a + m * pairs * 2, b + j * 2, pairs, n);
  }
}

template <int kRows>
SYSTOLE_AVX2 inline void tile_int16_avx2(int32_t* acc, const int16_t* a, const int16_t* b, int64_t pairs, int64_t n) {
  __m256i sum[kRows][2];
  for (int r = 0; r < kRows; ++r)
    for (int c = 0; c < 2; ++c) sum[r][c] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(acc + r * n + 8 * c));
  for (int64_t k = 0; k < pairs; ++k) {
    const __m256i b0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + k * n * 2)), b1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + (k * n + 8) * 2));
    for (int r = 0; r < kRows; ++r) {
      int32_t pair;
      __builtin_memcpy(&pair, a + (r * pairs + k) * 2, 4);
      const __m256i x = _mm256_set1_epi32(pair);
      sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(x, b0));
      sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(x, b1));
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int c = 0; c < 2; ++c) _mm256_storeu_si256(reinterpret_cast<__m256i*>(acc + r * n + 8 * c), sum[r][c]);
}

SYSTOLE_AVX2 void gemm_int16_avx2(int32_t* acc, const int16_t* a, const int16_t* b, int64_t rows, int64_t pairs, int64_t n) {
  for (int64_t j = 0; j < n; j += 16) {
    int64_t m = 0;
    for (; m + 4 <= rows; m += 4) tile_int16_avx2<4>(acc + m * n + j, a + m * pairs * 2, b + j * 2, pairs, n);
    for (; m < rows; ++m) tile_int16_avx2<1>(acc + m * n + j, a + m * pairs * 2, b + j * 2, pairs, n);
  }
}

template <int kRows>
SYSTOLE_AVX512 inline void tile_dot32_avx512(float* acc, const float* a, const float* b, int64_t blocks, int64_t n) {
  __m512 sum[kRows];
  for (int r = 0; r < kRows; ++r) sum[r] = _mm512_loadu_ps(acc + r * n);
  for (int64_t k = 0; k < blocks; ++k) {
    __m512 even[kRows], odd[kRows];
    for (int r = 0; r < kRows; ++r) even[r] = odd[r] = _mm512_setzero_ps();
    for (int i = 0; i < kDotBlock; i += 2) {
      const __m512 b0 = _mm512_loadu_ps(b + (k * kDotBlock + i) * n), b1 = _mm512_loadu_ps(b + (k * kDotBlock + i + 1) * n);
      for (int r = 0; r < kRows; ++r) {
        even[r] = _mm512_fmadd_ps(_mm512_set1_ps(a[(r * blocks + k) * kDotBlock + i]), b0, even[r]);
        odd[r] = _mm512_fmadd_ps(_mm512_set1_ps(a[(r * blocks + k) * kDotBlock + i + 1]), b1, odd[r]);
      }
    }
    for (int r = 0; r < kRows; ++r) sum[r] = _mm512_add_ps(sum[r], _mm512_add_ps(even[r], odd[r]));
  }
  for (int r = 0; r < kRows; ++r) _mm512_storeu_ps(acc + r * n, sum[r]);
}

SYSTOLE_AVX512 void gemm_dot32_avx512(float* acc, const float* a, const float* b, int64_t rows, int64_t blocks, int64_t n) {
  for (int64_t j = 0; j < n; j += 16) {
    int64_t m = 0;
    for (; m + 8 <= rows; m += 8) tile_dot32_avx512<8>(acc + m * n + j, a + m * blocks * kDotBlock, b + j, blocks, n);
    for (; m < rows; ++m) tile_dot32_avx512<1>(acc + m * n + j, a + m * blocks * kDotBlock, b + j, blocks, n);
  }
}

template <int kRows>
SYSTOLE_AVX2 inline void tile_dot32_avx2(float* acc, const float* a, const float* b, int64_t blocks, int64_t n) {
  __m256 sum[kRows];
  for (int r = 0; r < kRows; ++r) sum[r] = _mm256_loadu_ps(acc + r * n);
  for (int64_t k = 0; k < blocks; ++k) {
    __m256 even[kRows], odd[kRows];
    for (int r = 0; r < kRows; ++r) even[r] = odd[r] = _mm256_setzero_ps();
    for (int i = 0; i < kDotBlock; i += 2) {
      const __m256 b0 = _mm256_loadu_ps(b + (k * kDotBlock + i) * n), b1 = _mm256_loadu_ps(b + (k * kDotBlock + i + 1) * n);
      for (int r = 0; r < kRows; ++r) {
        even[r] = _mm256_fmadd_ps(_mm256_set1_ps(a[(r * blocks + k) * kDotBlock + i]), b0, even[r]);
        odd[r] = _mm256_fmadd_ps(_mm256_set1_ps(a[(r * blocks + k) * kDotBlock + i + 1]), b1, odd[r]);
      }
    }
    for (int r = 0; r < kRows; ++r) sum[r] = _mm256_add_ps(sum[r], _mm256_add_ps(even[r], odd[r]));
  }
  for (int r = 0; r < kRows; ++r) _mm256_storeu_ps(acc + r * n, sum[r]);
}

SYSTOLE_AVX2 void gemm_dot32_avx2(float* acc, const float* a, const float* b, int64_t rows, int64_t blocks, int64_t n) {
  for (int64_t j = 0; j < n; j += 8) {
    int64_t m = 0;
    for (; m + 6 <= rows; m += 6) tile_dot32_avx2<6>(acc + m * n + j, a + m * blocks * kDotBlock, b + j, blocks, n);
    for (; m < rows; ++m) tile_dot32_avx2<1>(acc + m * n + j, a + m * blocks * kDotBlock, b + j, blocks, n);
  }
}
#endif

}  // namespace

void gemm_int16(int32_t* acc, const int16_t* a, const int16_t* b, int64_t rows, int64_t pairs, int64_t n_padded) {
#if defined(__x86_64__)
  if (host_isa() >= HostIsa::kAvx512) return gemm_int16_avx512(acc, a, b, rows, pairs, n_padded);
  if (host_isa() == HostIsa::kAvx2) return gemm_int16_avx2(acc, a, b, rows, pairs, n_padded);
#endif
  gemm_int16_scalar(acc, a, b, rows, pairs, n_padded);
}

void gemm_dot32(float* acc, const float* a, const float* b, int64_t rows, int64_t blocks, int64_t n_padded) {
#if defined(__x86_64__)
  if (host_isa() != HostIsa::kScalar) {
    const FlushMode flush;
    if (host_isa() >= HostIsa::kAvx512) return gemm_dot32_avx512(acc, a, b, rows, blocks, n_padded);
    return gemm_dot32_avx2(acc, a, b, rows, blocks, n_padded);
  }
#endif
  gemm_dot32_scalar(acc, a, b, rows, blocks, n_padded);
}

}  // namespace systole
