// MX depthwise: sixteen channels at a time, taps in order. Packed B is [tap pair][n][2] int16 for integers and
// [part][tap][n] fp32 for floats, n padded to 64.
#include <cstring>

#include "sim/functional/flush_mode.h"
#include "sim/translate/kernel.h"
#include "sim/translate/matrix_kernels.h"
#include "sim/translate/matrix_parts.h"
#include "sim/translate/pixels.h"

namespace systole {
#ifdef SYSTOLE_HAS_AVX512
namespace {

constexpr int64_t kGroup = 64;      ///< channels whose chains run together
constexpr int64_t kTapsABlock = 16; ///< dot32 blocks hold 16 taps: a depthwise tap's odd partner is zero

int64_t padded(int64_t n) { return (n + kGroup - 1) / kGroup * kGroup; }
int64_t taps_of(const isa::MatrixDesc& d) { return int64_t{d.kernel_h} * d.kernel_w; }

constexpr int64_t kRun = 8;         ///< pixels whose bytes are found together

/// Where one pixel's channels lie under each tap.
struct Taps {
  const uint8_t* const* first;
  int64_t pitch;
  const uint8_t* operator[](int64_t tap) const { return first[tap * pitch]; }
};

class Depthwise : public Kernel {
 public:
  Depthwise(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed)
      : op_(op), d_(*op.desc), acc_(memory, op, columns), pixels_(op_, memory.scratchpad.data()), packed_(std::move(packed)), taps_(taps_of(d_)), n_(op.n) {
    outside_.assign(static_cast<size_t>(n_ * 4), d_.format == 0 ? static_cast<uint8_t>(d_.a_zero) : 0);
  }
  WorkClass work_class() const override { return WorkClass::kDepthwise; }
  int64_t pieces() const override { return (acc_.pixels() + kRun - 1) / kRun; }
  double cost_ns() const override { return static_cast<double>(acc_.pixels() * n_ * taps_) / 15; }
  void run(int64_t begin, int64_t end) const override {
    thread_local std::vector<const uint8_t*> rows;
    rows.resize(static_cast<size_t>(taps_ * kRun + PixelMap::kSlack));
    for (int64_t first = begin * kRun; first < std::min(end * kRun, acc_.pixels()); first += kRun) {
      const int count = static_cast<int>(std::min<int64_t>(kRun, acc_.pixels() - first));
      pixels_.pointers(first, count, outside_.data(), rows.data());
      run_pixels(first, count, rows.data());
    }
  }

 protected:
  /// Up to kRun pixels; rows: their bytes, [tap][count].
  virtual void run_pixels(int64_t first, int count, const uint8_t* const* rows) const = 0;
  const isa::MatrixOp op_;
  const isa::MatrixDesc& d_;
  const Accumulators acc_;
  const PixelMap pixels_;
  std::shared_ptr<const PackedB> packed_;
  int64_t taps_, n_;
  std::vector<uint8_t> outside_;
};

class DepthwiseInteger final : public Depthwise {
 public:
  using Depthwise::Depthwise;

 protected:
  void run_pixels(int64_t first, int count, const uint8_t* const* rows) const override { d_.a_signed ? sum<true>(first, count, rows) : sum<false>(first, count, rows); }

 private:
  template <bool kSigned>
  SYSTOLE_AVX512 void sum(int64_t first, int count, const uint8_t* const* rows) const {
    const __m512i zero = _mm512_set1_epi32(-d_.a_zero), low = _mm512_set1_epi32(0xFFFF);
    const int64_t width = padded(n_);
    for (int64_t o = 0; o < n_; o += 16) {
      const __mmask16 mask = Accumulators::mask(n_ - o);
      __m512i start = _mm512_mullo_epi32(zero, _mm512_loadu_si512(packed_->column_sums.data() + o));
      if (!acc_.keeps()) start = _mm512_add_epi32(start, acc_.initial_x16(first, o));
      for (int i = 0; i < count; ++i) {
        __m512i total = acc_.keeps() ? _mm512_add_epi32(start, acc_.initial_x16(first + i, o)) : start;
        const uint8_t* w = packed_->bytes.data() + o * 4;
        for (int64_t t = 0; t < taps_; t += 2, w += width * 4) {  // an odd last tap is paired with itself, at weight zero
          const uint8_t* const* at = rows + t * count + i;
          const __m128i a = _mm_maskz_loadu_epi8(mask, at[0] + o), b = _mm_maskz_loadu_epi8(mask, at[t + 1 < taps_ ? count : 0] + o);
          const __m512i even = kSigned ? _mm512_and_si512(_mm512_cvtepi8_epi32(a), low) : _mm512_cvtepu8_epi32(a);
          const __m512i odd = _mm512_slli_epi32(kSigned ? _mm512_cvtepi8_epi32(b) : _mm512_cvtepu8_epi32(b), 16);
          total = _mm512_dpwssd_epi32(total, _mm512_or_si512(even, odd), _mm512_loadu_si512(w));
        }
        acc_.store_x16(first + i, o, total);
      }
    }
  }
};

class DepthwiseFloat final : public Depthwise {
 public:
  using Depthwise::Depthwise;

 protected:
  void run_pixels(int64_t first, int count, const uint8_t* const* rows) const override {
    if (static_cast<MacFormat>(d_.format) == MacFormat::kBF16) {
      const FlushMode flush;
      for (int64_t o = 0; o < n_; o += 16) {
        if (count == kRun) sixteen<kRun>(first, rows, kRun, o);
        else for (int i = 0; i < count; ++i) sixteen<1>(first + i, rows + i, count, o);
      }
      return;
    }
    for (int i = 0; i < count; ++i) pixel(first + i, {rows + i, count});
  }

 private:
  SYSTOLE_AVX512 void pixel(int64_t p, Taps rows) const {
    for (int64_t o = 0; o < n_; o += kGroup) {
      split(static_cast<MacFormat>(d_.format), rows, o);
      group_of_parts(p, o, std::min<int64_t>(4, (n_ - o + 15) / 16));
    }
  }

  /// Sixteen bf16 channels from o of kPixels pixels, whose chains run together; rows: [tap][pitch].
  template <int kPixels>
  SYSTOLE_AVX512 void sixteen(int64_t first, const uint8_t* const* rows, int64_t pitch, int64_t o) const {
    const int64_t width = padded(n_);
    const __mmask16 mask = Accumulators::mask(n_ - o);
    __m512 total[kPixels];
    SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) total[i] = _mm512_castsi512_ps(acc_.initial_x16(first + i, o));
    const float* w = reinterpret_cast<const float*>(packed_->bytes.data()) + o;
    for (int64_t t = 0; t < taps_; t += kTapsABlock) {
      __m512 chain[kPixels];
      SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) chain[i] = _mm512_setzero_ps();
      for (int64_t k = t; k < std::min(t + kTapsABlock, taps_); ++k, w += width, rows += pitch) {
        const __m512 weight = _mm512_loadu_ps(w);
        SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) {
          const __m512i a = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, rows[i] + 2 * o));
          chain[i] = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(a, 16)), weight, chain[i]);
        }
      }
      SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) total[i] = _mm512_add_ps(total[i], _mm512_add_ps(chain[i], _mm512_setzero_ps()));
    }
    SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) acc_.store_x16(first + i, o, _mm512_castps_si512(canonical_x16(total[i])));
  }

  static std::vector<float>& parts_buffer() {
    static thread_local std::vector<float> buffer;
    return buffer;
  }
  /// fp32 and fp16 channels from o as [part][tap][64]: subtractions that must keep subnormals, so before the chains' flush mode.
  SYSTOLE_AVX512 void split(MacFormat format, Taps rows, int64_t o) const {
    auto& parts = parts_buffer();
    parts.resize(static_cast<size_t>(parts_of(format) * taps_ * kGroup));
    for (int64_t t = 0; t < taps_; ++t) {
      for (int64_t v = 0; v < kGroup && o + v < n_; v += 16) {
        const __m512 a = operand_x16(format, Accumulators::mask(n_ - o - v), rows[t] + (o + v) * operand_bytes(format));
        for (int q = 0; q < parts_of(format); ++q) _mm512_storeu_ps(parts.data() + (q * taps_ + t) * kGroup + v, bf16_part_x16(a, q));
      }
    }
  }
  SYSTOLE_AVX512 void group_of_parts(int64_t p, int64_t o, int64_t vectors) const {
    const auto format = static_cast<MacFormat>(d_.format);
    const int64_t width = padded(n_);
    const Pass* passes = passes_in(format);
    for (int64_t v = 0; v < vectors; ++v) {
      __m512 total = _mm512_castsi512_ps(acc_.initial_x16(p, o + 16 * v));
      {
        const FlushMode flush;
        for (int64_t q = 0; q < passes_of(format); ++q) {
          const float* a = parts_buffer().data() + passes[q].a_part * taps_ * kGroup + 16 * v;
          const float* w = reinterpret_cast<const float*>(packed_->bytes.data()) + passes[q].b_part * taps_ * width + o + 16 * v;
          for (int64_t t = 0; t < taps_; t += kTapsABlock) {
            __m512 chain = _mm512_setzero_ps();
            for (int64_t i = t; i < std::min(t + kTapsABlock, taps_); ++i) chain = _mm512_fmadd_ps(_mm512_loadu_ps(a + i * kGroup), _mm512_loadu_ps(w + i * width), chain);
            total = _mm512_add_ps(total, _mm512_add_ps(chain, _mm512_setzero_ps()));
          }
        }
      }
      acc_.store_x16(p, o + 16 * v, _mm512_castps_si512(canonical_x16(total)));
    }
  }
};

}  // namespace

bool depthwise_runs(const isa::MatrixOp& op) {
  const isa::MatrixDesc& d = *op.desc;
  const bool dense = d.multiplier <= 1 && d.a_channel_pitch == static_cast<uint32_t>(operand_bytes(static_cast<MacFormat>(d.format)));
  if (d.format != 0) return dense;
  return dense && (d.a_signed ? d.a_zero >= -128 && d.a_zero <= 127 : d.a_zero >= 0 && d.a_zero <= 255);
}

void pack_depthwise_b(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out) {
  const isa::MatrixDesc& d = *op.desc;
  const auto format = static_cast<MacFormat>(d.format);
  const int64_t taps = taps_of(d), width = padded(op.n);
  const bool integers = d.format == 0;
  out.bytes.assign(static_cast<size_t>(integers ? (taps + 1) / 2 * width * 4 : parts_of(format) * taps * width * 4), 0);
  out.column_sums.assign(static_cast<size_t>(width), 0);
  for (int64_t t = 0; t < taps; ++t) {
    for (int64_t o = 0; o < op.n; ++o) {
      const uint8_t* from = b + o / columns * d.b_tile_pitch + t * d.b_row_pitch + o % columns * d.b_column_pitch;
      if (integers) {
        const auto v = static_cast<int16_t>((d.b_signed ? static_cast<int8_t>(*from) : *from) - d.b_zero);
        std::memcpy(out.bytes.data() + ((t / 2 * width + o) * 2 + t % 2) * 2, &v, 2);
        out.column_sums[static_cast<size_t>(o)] += v;
      } else {
        for (int q = 0; q < parts_of(format); ++q) {
          const float v = operand_part(format, from, q);
          std::memcpy(out.bytes.data() + ((q * taps + t) * width + o) * 4, &v, 4);
        }
      }
    }
  }
}

std::unique_ptr<Kernel> depthwise(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed) {
  if (op.desc->format == 0) return std::make_unique<DepthwiseInteger>(memory, op, columns, std::move(packed));
  return std::make_unique<DepthwiseFloat>(memory, op, columns, std::move(packed));
}
#endif

}  // namespace systole
