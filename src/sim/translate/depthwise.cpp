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

class Depthwise : public Kernel {
 public:
  Depthwise(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed)
      : memory_(memory), op_(op), d_(*op.desc), acc_(memory, op, columns), packed_(std::move(packed)), taps_(taps_of(d_)), n_(op.n) {
    outside_.assign(static_cast<size_t>(n_ * 4), d_.format == 0 ? static_cast<uint8_t>(d_.a_zero) : 0);
  }
  WorkClass work_class() const override { return WorkClass::kDepthwise; }
  int64_t pieces() const override { return (acc_.pixels() + 7) / 8; }
  double cost_ns() const override { return static_cast<double>(acc_.pixels() * n_ * taps_) / 15; }
  void run(int64_t begin, int64_t end) const override {
    thread_local std::vector<const uint8_t*> rows;
    rows.resize(static_cast<size_t>(taps_ + 1));
    PixelRun pixels(op_, memory_.scratchpad.data());
    for (int64_t p = begin * 8; p < std::min(end * 8, acc_.pixels()); ++p) {
      pixels.move_to(p, 1);
      for (int64_t kh = 0, t = 0; kh < d_.kernel_h; ++kh)
        for (int64_t kw = 0; kw < d_.kernel_w; ++kw) rows[static_cast<size_t>(t++)] = pixels.at(0, kh, kw, outside_.data());
      rows[static_cast<size_t>(taps_)] = outside_.data();
      pixel(p, rows.data());
    }
  }

 protected:
  virtual void pixel(int64_t p, const uint8_t* const* rows) const = 0;
  Memory& memory_;
  const isa::MatrixOp op_;
  const isa::MatrixDesc& d_;
  const Accumulators acc_;
  std::shared_ptr<const PackedB> packed_;
  int64_t taps_, n_;
  std::vector<uint8_t> outside_;
};

class DepthwiseInteger final : public Depthwise {
 public:
  using Depthwise::Depthwise;

 protected:
  void pixel(int64_t p, const uint8_t* const* rows) const override { d_.a_signed ? sum<true>(p, rows) : sum<false>(p, rows); }

 private:
  template <bool kSigned>
  SYSTOLE_AVX512 void sum(int64_t p, const uint8_t* const* rows) const {
    const __m512i zero = _mm512_set1_epi32(-d_.a_zero), low = _mm512_set1_epi32(0xFFFF);
    const int64_t width = padded(n_);
    for (int64_t o = 0; o < n_; o += 16) {
      const __mmask16 mask = Accumulators::mask(n_ - o);
      __m512i total = _mm512_add_epi32(acc_.initial_x16(p, o), _mm512_mullo_epi32(zero, _mm512_loadu_si512(packed_->column_sums.data() + o)));
      const uint8_t* w = packed_->bytes.data() + o * 4;
      for (int64_t t = 0; t < taps_; t += 2, w += width * 4) {  // an odd last tap has a partner with weight zero
        const __m128i a = _mm_maskz_loadu_epi8(mask, rows[t] + o), b = _mm_maskz_loadu_epi8(mask, rows[t + 1] + o);
        const __m512i first = kSigned ? _mm512_and_si512(_mm512_cvtepi8_epi32(a), low) : _mm512_cvtepu8_epi32(a);
        const __m512i second = _mm512_slli_epi32(kSigned ? _mm512_cvtepi8_epi32(b) : _mm512_cvtepu8_epi32(b), 16);
        total = _mm512_dpwssd_epi32(total, _mm512_or_si512(first, second), _mm512_loadu_si512(w));
      }
      acc_.store_x16(p, o, total);
    }
  }
};

class DepthwiseFloat final : public Depthwise {
 public:
  using Depthwise::Depthwise;

 protected:
  SYSTOLE_AVX512 void pixel(int64_t p, const uint8_t* const* rows) const override {
    const auto format = static_cast<MacFormat>(d_.format);
    const int64_t width = padded(n_), element = operand_bytes(format);
    const Pass* passes = passes_in(format);
    const auto* weights = reinterpret_cast<const float*>(packed_->bytes.data());
    for (int64_t o = 0; o < n_; o += kGroup) {
      __m512 total[4], chain[4];
      SYSTOLE_UNROLL for (int v = 0; v < 4; ++v) total[v] = o + 16 * v < n_ ? _mm512_castsi512_ps(acc_.initial_x16(p, o + 16 * v)) : _mm512_setzero_ps();
      for (int64_t q = 0; q < passes_of(format); ++q) {
        const FlushMode flush;
        for (int64_t t = 0; t < taps_; t += kTapsABlock) {
          SYSTOLE_UNROLL for (int v = 0; v < 4; ++v) chain[v] = _mm512_setzero_ps();
          for (int64_t i = t; i < std::min(t + kTapsABlock, taps_); ++i) {
            const float* w = weights + (passes[q].b_part * taps_ + i) * width + o;
            SYSTOLE_UNROLL for (int v = 0; v < 4; ++v) {
              if (o + 16 * v >= n_) break;
              __m512 a = operand_x16(format, Accumulators::mask(n_ - o - 16 * v), rows[i] + (o + 16 * v) * element);
              if (format != MacFormat::kBF16) a = part_keeping_subnormals(a, passes[q].a_part);
              chain[v] = _mm512_fmadd_ps(a, _mm512_loadu_ps(w + 16 * v), chain[v]);
            }
          }
          SYSTOLE_UNROLL for (int v = 0; v < 4; ++v) total[v] = _mm512_add_ps(total[v], _mm512_add_ps(chain[v], _mm512_setzero_ps()));
        }
      }
      for (int v = 0; v < 4 && o + 16 * v < n_; ++v) acc_.store_x16(p, o + 16 * v, _mm512_castps_si512(canonical_x16(total[v])));
    }
  }

 private:
  /// The parts' subtractions are exact outside the flush mode that the chains need.
  SYSTOLE_AVX512_INLINE __m512 part_keeping_subnormals(__m512 v, int part) const {
    if (part == 0) return bf16_part_x16(v, 0);
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(mode & ~0x8040u);
    const __m512 r = bf16_part_x16(v, part);
    _mm_setcsr(mode);
    return r;
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
