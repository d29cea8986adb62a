// Without VNNI: A as 16-bit numbers, gathered once for all panels, against bytes of B that are widened on their way; pairs of products
// are exact in int32, while those of bytes by bytes would saturate.
#include <cstring>

#include "sim/translate/lanes/integers.h"
#include "sim/translate/lanes/pixel_runs.h"

#ifdef SYSTOLE_X86
namespace systole::avx2 {
namespace {

/// kVectors of eight columns, from sixteen times `half`, `step` bytes from pair to pair.
template <int kRows, int kVectors>
LANES void tile(const IntegerSums& sums, int half, const int16_t* a, int64_t a_pitch, const uint8_t* b, int64_t step, int64_t pairs) {
  __m256i sum[kRows][kVectors];
  SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
    SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) sum[r][c] = load_256(sums.start + 16 * half + 8 * c);
  if (sums.keeps) {
    SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
      SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) sum[r][c] = add(sum[r][c], load_256(sums.to[half] + r * sums.pitch + 8 * c));
  }
  for (int64_t k = 0; k < pairs; ++k, a += 2, b += step) {
    __m256i column[kVectors];
    SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) column[c] = _mm256_cvtepi8_epi16(load_128(b + 16 * c));
    SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r) {
      int32_t two;
      std::memcpy(&two, a + r * a_pitch, 4);
      const __m256i pair = _mm256_set1_epi32(two);
      SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) sum[r][c] = add_pair_products(sum[r][c], pair, column[c]);
    }
  }
  SYSTOLE_UNROLL for (int r = 0; r < kRows; ++r)
    SYSTOLE_UNROLL for (int c = 0; c < kVectors; ++c) _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums.to[half] + r * sums.pitch + 8 * c), sum[r][c]);
}

using Multiply = void (*)(const IntegerSums&, int, const int16_t*, int64_t, const uint8_t*, int64_t, int64_t);
constexpr Multiply kByRows[kIntegerRows] = {tile<1, 2>, tile<2, 2>, tile<3, 2>, tile<4, 2>, tile<5, 2>, tile<6, 2>};

/// n bytes as 16-bit numbers.
template <bool kSigned>
LANES_INLINE void widen(const uint8_t* from, int64_t pitch, int64_t n, int16_t* to) {
  int64_t c = 0;
  for (; pitch == 1 && c + 16 <= n; c += 16) {
    const __m128i v = load_128(from + c);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + c), kSigned ? _mm256_cvtepi8_epi16(v) : _mm256_cvtepu8_epi16(v));
  }
  for (; pitch == 1 && c + 8 <= n; c += 8) {
    const __m128i v = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + c));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + c), kSigned ? _mm_cvtepi8_epi16(v) : _mm_cvtepu8_epi16(v));
  }
  for (; c < n; ++c) to[c] = kSigned ? static_cast<int16_t>(static_cast<int8_t>(from[c * pitch])) : from[c * pitch];
}

/// All taps of one pixel.
template <bool kSigned>
LANES void widen_row(const isa::MatrixDesc& d, const PixelMap& pixels, int64_t pixel, int16_t* to) {
  const bool inside = pixels.inside(pixel), joined = inside && d.a_channel_pitch == 1 && d.a_pixel_pitch == d.channels && d.dilation_w == 1;
  const int64_t run = joined ? int64_t{d.kernel_w} * d.channels : d.channels, runs = joined ? 1 : d.kernel_w;
  for (int64_t kh = 0; kh < d.kernel_h; ++kh) {
    for (int64_t kw = 0; kw < runs; ++kw, to += run) {
      const uint8_t* from = pixels.at(pixel, kh, kw, nullptr);
      if (from) widen<kSigned>(from, d.a_channel_pitch, run, to);
      else std::fill_n(to, run, d.a_zero);
    }
  }
}

}  // namespace

int32_t integer_zero(const isa::MatrixDesc& d) { return d.a_zero; }
void read_integers(const isa::MatrixDesc& d, const PixelMap& pixels, int64_t first, int64_t count, uint8_t* bytes) {
  auto* to = reinterpret_cast<int16_t*>(bytes);
  const IntegerStretch stretch = integer_stretch(d);
  for (int64_t i = 0; i < count; ++i, to += stretch.padded) {
    (d.a_signed ? widen_row<true> : widen_row<false>)(d, pixels, first + i, to);
    std::fill(to + stretch.k, to + stretch.padded, int16_t{0});
  }
}

/// One segment of 16-bit numbers; signs are kept, so nothing is turned.
void multiply_points(IntegerSums sums, IntegerPoints p, const uint8_t* b, bool narrow, bool) {
  in_tiles(p.count, kIntegerRows, [&](int64_t rows, int64_t tiles) {
    for (int64_t t = 0; t < tiles; ++t, p.first += rows) {
      const auto* a = reinterpret_cast<const int16_t*>(p.at[0] + p.first * p.pitch);
      for (int half = 0; half < (narrow ? 1 : 2); ++half) kByRows[rows - 1](sums, half, a, p.pitch / 2, b + 32 * half, narrow ? 32 : 64, p.depth / 2);
      for (int c = 0; c < (narrow ? 1 : 2); ++c) sums.to[c] += rows * sums.pitch;
    }
  });
}

}  // namespace systole::avx2
#endif
