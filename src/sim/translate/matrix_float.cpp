// MX on floats: rows of A widened to fp32 parts tile by tile, B packed as bf16 parts, dot32 blocks over all of K.
#include <cstring>

#include "sim/functional/flush_mode.h"
#include "sim/translate/kernel.h"
#include "sim/translate/matrix_dot32.h"
#include "sim/translate/matrix_kernels.h"
#include "sim/translate/matrix_parts.h"
#include "sim/translate/pixels.h"

namespace systole {
#ifdef SYSTOLE_HAS_AVX512
namespace {

int64_t even_channels(const isa::MatrixDesc& d) { return (int64_t{d.channels} + 1) / 2 * 2; }
int64_t blocks_of(const isa::MatrixDesc& d) { return (int64_t{d.kernel_h} * d.kernel_w * even_channels(d) + kDotBlock - 1) / kDotBlock; }
/// Bytes of one panel of one part.
int64_t panel_bytes(int64_t blocks) { return blocks * kDotBlock * kDotColumns * 2; }

class FloatMatrix final : public Kernel {
 public:
  FloatMatrix(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed)
      : op_(op), d_(*op.desc), pixels_(op_, memory.scratchpad.data()), format_(static_cast<MacFormat>(d_.format)), acc_(memory, op, columns), packed_(std::move(packed)), blocks_(blocks_of(d_)), depth_(blocks_ * kDotBlock) {
    panels_ = (acc_.outputs() + kDotColumns - 1) / kDotColumns;
    narrow_ = acc_.outputs() <= kDotColumns / 2;
    together_ = acc_.pixels() == 1 ? 4 : 1;
    tile_rows_ = narrow_ ? kDotNarrowRows : kDotRows;
    tiles_ = (acc_.pixels() + tile_rows_ - 1) / tile_rows_;
    groups_ = acc_.pixels() <= 2 * kDotRows ? (panels_ + together_ - 1) / together_ : 1;
  }
  WorkClass work_class() const override { return WorkClass::kMatrixFloat; }
  /// A tile's panels are one piece, so that A is widened once; few tiles are cut by panels too.
  int64_t pieces() const override { return tiles_ * groups_; }
  double cost_ns() const override { return static_cast<double>(acc_.pixels() * panels_ * kDotColumns * depth_ * passes_of(format_)) / 40; }

  void run(int64_t begin, int64_t end) const override {
    thread_local std::vector<float> a;
    a.resize(static_cast<size_t>(parts_of(format_) * tile_rows_ * depth_));
    for (int64_t piece = begin, at = -1; piece < end; ++piece) {
      const int64_t tile = piece / groups_, first = tile * acc_.pixels() / tiles_;
      const int count = static_cast<int>((tile + 1) * acc_.pixels() / tiles_ - first);
      if (tile != at) {
        at = tile;
        for (int i = 0; i < count; ++i) widen(first + i, a.data() + i * depth_);
      }
      const int64_t share = (panels_ + groups_ - 1) / groups_, last = std::min(panels_, (piece % groups_ + 1) * share);
      for (int64_t panel = piece % groups_ * share; panel < last; panel += together_) multiply(a.data(), first, count, panel, static_cast<int>(std::min<int64_t>(together_, last - panel)));
    }
  }

 private:
  SYSTOLE_AVX512 void multiply(const float* a, int64_t first, int count, int64_t panel, int panels) const {
    alignas(64) float sums[kDotRows * kDotColumns];  // or 12 narrow rows, or four panels of one row
    const int64_t column = panel * kDotColumns, width = narrow_ ? kDotColumns / 2 : int64_t{panels} * kDotColumns, n = std::min(column + width, acc_.outputs());
    for (int r = 0; r < count; ++r)
      for (int64_t o = column; o < column + width; o += 16) {
        _mm512_store_ps(sums + r * width + (o - column), o < n ? _mm512_castsi512_ps(acc_.initial_x16(first + r, o)) : _mm512_setzero_ps());
      }
    const Pass* passes = passes_in(format_);
    {
      const FlushMode flush;  // widening comes before it: splitting into parts keeps subnormals
      for (int64_t q = 0; q < passes_of(format_); ++q) {
        const uint8_t* b = packed_->bytes.data() + (passes[q].b_part * panels_ + panel) * panel_bytes(blocks_);
        multiply_dot32(sums, a + passes[q].a_part * tile_rows_ * depth_, depth_, count, b, panel_bytes(blocks_), panels, blocks_, narrow_);
      }
    }
    for (int r = 0; r < count; ++r)
      for (int64_t o = column; o < n; o += 16) acc_.store_x16(first + r, o, _mm512_castps_si512(canonical_x16(_mm512_load_ps(sums + r * width + (o - column)))));
  }

  /// Pixel p's taps as fp32 parts, a tile's rows x depth apart, zeros where there is nothing.
  SYSTOLE_AVX512 void widen(int64_t p, float* to) const {
    const int64_t channels = d_.channels, even = even_channels(d_), element = operand_bytes(format_);
    const int parts = parts_of(format_);
    int64_t k = 0;
    for (int64_t kh = 0; kh < d_.kernel_h; ++kh) {
      for (int64_t kw = 0; kw < d_.kernel_w; ++kw, k += even) {
        const uint8_t* from = pixels_.at(p, kh, kw, nullptr);
        for (int q = 0; q < parts; ++q) {
          float* row = to + q * tile_rows_ * depth_ + k;
          if (!from) {
            std::fill_n(row, even, 0.0f);
            continue;
          }
          if (format_ == MacFormat::kBF16 && d_.a_channel_pitch == element) {
            widen_bf16(row, from, channels);
          } else if (d_.a_channel_pitch != element) {
            for (int64_t c = 0; c < channels; ++c) row[c] = operand_part(format_, from + c * d_.a_channel_pitch, q);
          } else {
            for (int64_t c = 0; c < channels; c += 16) {
              const __mmask16 mask = Accumulators::mask(channels - c);
              const __m512 v = operand_x16(format_, mask, from + c * element);
              _mm512_mask_storeu_ps(row + c, mask, bf16_part_x16(v, q));
            }
          }
          if (channels != even) row[channels] = 0;
        }
      }
    }
    for (int q = 0; q < parts; ++q) std::fill_n(to + q * tile_rows_ * depth_ + k, depth_ - k, 0.0f);
  }

  SYSTOLE_AVX512 static void widen_bf16(float* to, const uint8_t* from, int64_t n) {
    int64_t c = 0;
    for (; c + 16 <= n; c += 16) {
      const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 2 * c));
      _mm512_storeu_si512(to + c, _mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
    }
    if (c < n) _mm512_mask_storeu_ps(to + c, Accumulators::mask(n - c), operand_x16(MacFormat::kBF16, Accumulators::mask(n - c), from + 2 * c));
  }

  const isa::MatrixOp op_;
  const isa::MatrixDesc& d_;
  const PixelMap pixels_;
  MacFormat format_;
  const Accumulators acc_;
  std::shared_ptr<const PackedB> packed_;
  bool narrow_;
  int64_t blocks_, depth_, panels_, together_, tile_rows_, tiles_, groups_;
};

}  // namespace

/// [part][panel of 32 columns][k / 2][column][2] as bf16, k padded as dot32 asks; 16 columns where there are no more.
void pack_float_b(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out) {
  const isa::MatrixDesc& d = *op.desc;
  const auto format = static_cast<MacFormat>(d.format);
  const int64_t taps = int64_t{d.kernel_h} * d.kernel_w, even = even_channels(d), blocks = blocks_of(d), n = op.n, panels = (n + kDotColumns - 1) / kDotColumns;
  const int64_t width = n <= kDotColumns / 2 ? kDotColumns / 2 : kDotColumns;
  out.bytes.assign(static_cast<size_t>(parts_of(format) * panels * panel_bytes(blocks)), 0);
  for (int64_t panel = 0; panel < panels; ++panel) {
    for (int64_t i = 0; i < taps * d.channels; ++i) {
      const int64_t k = i / d.channels * even + i % d.channels;
      for (int q = 0; q < parts_of(format); ++q) {
        uint8_t* to = out.bytes.data() + (q * panels + panel) * panel_bytes(blocks) + k / 2 * width * 4 + k % 2 * 2;
        for (int64_t o = panel * kDotColumns; o < std::min((panel + 1) * kDotColumns, n); ++o, to += 4) {
          const uint8_t* from = b + o / columns * d.b_tile_pitch + i * d.b_row_pitch + o % columns * d.b_column_pitch;
          if (format == MacFormat::kBF16) std::memcpy(to, from, 2);
          else {
            const auto bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(operand_part(format, from, q)) >> 16);
            std::memcpy(to, &bits, 2);
          }
        }
      }
    }
  }
}

std::unique_ptr<Kernel> float_matrix(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed) {
  return std::make_unique<FloatMatrix>(memory, op, columns, std::move(packed));
}
#endif

}  // namespace systole
