// MX depthwise on floats. Packed B is [part][tap][n] fp32, n padded to whole groups.
#include <cstring>

#include "sim/translate/lanes/depthwise.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {
namespace {

constexpr int64_t kTapsABlock = 16;  ///< dot32 blocks hold 16 taps: a depthwise tap's odd partner is zero

class DepthwiseFloat final : public Depthwise {
 public:
  using Depthwise::Depthwise;

 protected:
  void sum_pixels(int64_t begin, int64_t first, int64_t last, const TapRows& rows) const override {
    if (static_cast<MacFormat>(d_.format) != MacFormat::kBF16) {
      for (int64_t i = first; i < last; ++i) pixel(begin + i, rows, i);
      return;
    }
    together(first, last, [&](int64_t at, auto n) { columns_.all(at, n()) ? all_channels<n(), false>(begin + at, at, rows) : all_channels<n(), true>(begin + at, at, rows); });
  }

 private:
  LANES void pixel(int64_t p, const TapRows& rows, int64_t i) const {
    for (int64_t o = 0; o < n_; o += kChannelGroup) {
      split(static_cast<MacFormat>(d_.format), rows, i, o);
      group_of_parts(p, o, std::min<int64_t>(4, (n_ - o + 15) / 16));
    }
  }
  template <bool kWhole>
  LANES_INLINE static Floats halves_at(const uint8_t* from, int n) {
    return as_floats(shift_left<16>(kWhole ? load_halves(from) : load_halves(from, n)));
  }

  /// kEdge: not all columns that they see are there.
  template <int kPixels, bool kEdge>
  void all_channels(int64_t first, int64_t at, const TapRows& rows) const {
    for (int64_t o = 0; o < n_; o += 16) n_ - o >= 16 ? sixteen_of<kPixels, true, kEdge>(first, at, rows, o) : sixteen_of<kPixels, false, kEdge>(first, at, rows, o);
  }
  template <int kPixels, bool kWhole, bool kEdge>
  void sixteen_of(int64_t first, int64_t at, const TapRows& rows, int64_t o) const {
    if (!slides_) return sixteen<kPixels, kWhole, kEdge>(first, at, rows, o);
    d_.stride_w == 1 ? slide<kPixels, kWhole, kEdge, 1>(first, at, rows, o) : slide<kPixels, kWhole, kEdge, 2>(first, at, rows, o);
  }
  /// Sixteen bf16 channels from o, all there or not, of kPixels pixels, whose chains run together: pixels `at` and on of the run, `first` and on of the block.
  template <int kPixels, bool kWhole, bool kEdge>
  LANES void sixteen(int64_t first, int64_t at, const TapRows& rows, int64_t o) const {
    const int64_t width = padded_channels(n_);
    const int n = lanes_of(n_ - o);
    const float* w = reinterpret_cast<const float*>(packed_->bytes.data()) + o;
    const ColumnSums<kWhole> sums(acc_, first, o);
    Floats total[kPixels];
    SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) total[i] = as_floats(sums.start(i));
    for (int64_t t = 0; t < taps_; t += kTapsABlock) {
      Floats chain[kPixels];
      SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) chain[i] = set(0.0f);
      for (int64_t k = t; k < std::min(t + kTapsABlock, taps_); ++k, w += width) {
        const Floats weight = load_floats(w);
        SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) {
          const uint8_t* from = kEdge ? columns_.or_outside(rows.at(k, at + i), at + i, k % d_.kernel_w) : rows.at(k, at + i);
          chain[i] = fma(halves_at<kWhole>(from + 2 * o, n), weight, chain[i]);
        }
      }
      SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) total[i] = add(total[i], add(chain[i], set(0.0f)));
    }
    SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) sums.keep(i, as_ints(canonical(total[i])));
  }

  /// The same where rows of three taps see adjacent columns, kStride pixels apart from one output to the next: each is loaded once.
  template <int kPixels, bool kWhole, bool kEdge, int kStride>
  LANES void slide(int64_t first, int64_t at, const TapRows& rows, int64_t o) const {
    constexpr int kColumns = (kPixels - 1) * kStride + 3;
    const int64_t width = padded_channels(n_), pitch = rows.pitch / kStride;
    const int n = lanes_of(n_ - o);
    const float* w = reinterpret_cast<const float*>(packed_->bytes.data()) + o;
    Floats chain[kPixels];
    SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) chain[i] = set(0.0f);
    for (int64_t t = 0; t < taps_; t += 3, w += 3 * width) {
      const uint8_t* from = rows.at(t, at);
      Floats column[kColumns];
      SYSTOLE_UNROLL for (int i = 0; i < kColumns; ++i, from += pitch) column[i] = halves_at<kWhole>((kEdge ? columns_.or_outside(from, at, i) : from) + 2 * o, n);
      SYSTOLE_UNROLL for (int k = 0; k < 3; ++k) {
        const Floats weight = load_floats(w + k * width);
        SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) chain[i] = fma(column[i * kStride + k], weight, chain[i]);
      }
    }
    const ColumnSums<kWhole> sums(acc_, first, o);
    SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) sums.keep(i, as_ints(canonical(add(as_floats(sums.start(i)), add(chain[i], set(0.0f))))));
  }

  const TapColumns columns_{d_, runs_.column_edges()};
  /// Sixteen registers would not hold the columns that are two apart.
  const bool slides_ = runs_.along_rows() && d_.stride_w >= 1 && d_.stride_w <= (kNativeLanes == 16 ? 2 : 1) && d_.dilation_w == 1 && d_.kernel_w == 3 && taps_ <= kTapsABlock;

  static std::vector<float>& parts_buffer() {
    static thread_local std::vector<float> buffer;
    return buffer;
  }
  /// fp32 and fp16 channels from o as [part][tap][64]: subtractions that must keep subnormals, so before the chains' flush mode.
  LANES void split(MacFormat format, const TapRows& rows, int64_t i, int64_t o) const {
    auto& parts = parts_buffer();
    parts.resize(static_cast<size_t>(parts_of(format) * taps_ * kChannelGroup));
    for (int64_t t = 0; t < taps_; ++t) {
      for (int64_t v = 0; v < kChannelGroup && o + v < n_; v += 16) {
        const uint8_t* from = columns_.or_outside(rows.at(t, i), i, t % d_.kernel_w);
        const Floats a = load_operands(format, from + (o + v) * operand_bytes(format), lanes_of(n_ - o - v));
        for (int q = 0; q < parts_of(format); ++q) store(parts.data() + (q * taps_ + t) * kChannelGroup + v, part_of(a, q));
      }
    }
  }
  LANES void group_of_parts(int64_t p, int64_t o, int64_t vectors) const {
    const auto format = static_cast<MacFormat>(d_.format);
    const int64_t width = padded_channels(n_);
    const Pass* passes = passes_in(format);
    for (int64_t v = 0; v < vectors; ++v) {
      Floats total = as_floats(initial_sums(acc_, p, o + 16 * v));
      {
        const FlushMode flush;
        for (int64_t q = 0; q < passes_of(format); ++q) {
          const float* a = parts_buffer().data() + passes[q].a_part * taps_ * kChannelGroup + 16 * v;
          const float* w = reinterpret_cast<const float*>(packed_->bytes.data()) + passes[q].b_part * taps_ * width + o + 16 * v;
          for (int64_t t = 0; t < taps_; t += kTapsABlock) {
            Floats chain = set(0.0f);
            for (int64_t i = t; i < std::min(t + kTapsABlock, taps_); ++i) chain = fma(load_floats(a + i * kChannelGroup), load_floats(w + i * width), chain);
            total = add(total, add(chain, set(0.0f)));
          }
        }
      }
      store_sums(acc_, p, o + 16 * v, as_ints(canonical(total)));
    }
  }
};

}  // namespace

void pack_depthwise_b(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out) {
  const isa::MatrixDesc& d = *op.desc;
  if (d.format == 0) return pack_depthwise_integers(op, columns, b, out);
  const auto format = static_cast<MacFormat>(d.format);
  const int64_t taps = taps_of(d), width = padded_channels(op.n);
  out.bytes.resize(static_cast<size_t>(parts_of(format) * taps * width * 4));
  for (int64_t t = 0; t < taps; ++t) {
    for (int64_t o = 0; o < op.n; ++o) {
      const uint8_t* from = b + o / columns * d.b_tile_pitch + t * d.b_row_pitch + o % columns * d.b_column_pitch;
      for (int q = 0; q < parts_of(format); ++q) {
        const float v = operand_part(format, from, q);
        std::memcpy(out.bytes.data() + ((q * taps + t) * width + o) * 4, &v, 4);
      }
    }
  }
}

std::unique_ptr<Kernel> depthwise(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed) {
  if (op.desc->format == 0) return depthwise_integers(memory, op, columns, std::move(packed));
  return std::make_unique<DepthwiseFloat>(memory, op, columns, std::move(packed));
}

}  // namespace systole::SYSTOLE_LANES
#endif
