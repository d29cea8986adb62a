// MX depthwise on integers. Taps go in pairs of 16-bit numbers; by fours as bytes where the instruction set multiplies those (VNNI) and
// B's zero point lets its numbers be bytes. Packed B is [tap group][n][taps of the group], n padded to whole groups.
#include <algorithm>
#include <cstring>

#include "sim/translate/lanes/depthwise.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {
namespace {

bool in_bytes(const isa::MatrixDesc& d) { return kNativeLanes == 16 && d.b_zero == (d.b_signed ? 0 : 128); }

class DepthwiseInteger final : public Depthwise {
 public:
  using Depthwise::Depthwise;

 protected:
  void run_pixels(int64_t first, int count, const PixelPlaces& places) const override {
    in_runs(count, [&](int at, auto n) { d_.a_signed ? run_signed<true, n()>(first + at, at, places) : run_signed<false, n()>(first + at, at, places); });
  }

 private:
  template <bool kSigned, int kPixels>
  void run_signed(int64_t first, int at, const PixelPlaces& places) const {
    for (int64_t o = 0; o < n_; o += 16) {
      const bool whole = n_ - o >= 16;
      if (bytes_) whole ? by_fours<kSigned, kPixels, true>(first, at, places, o) : by_fours<kSigned, kPixels, false>(first, at, places, o);
      else whole ? by_pairs<kSigned, kPixels, true>(first, at, places, o) : by_pairs<kSigned, kPixels, false>(first, at, places, o);
    }
  }

  /// Sixteen channels from o, all there or not, of pixels `at` and on of the places, which are pixels `first` and on of the block.
  template <bool kSigned, int kPixels, bool kWhole>
  LANES void by_pairs(int64_t first, int at, const PixelPlaces& places, int64_t o) const {
    const Ints low = set_ints(0xFFFF), start = multiply_low(set_ints(-d_.a_zero), load_ints(packed_->column_sums.data() + o));
    const int64_t width = padded_channels(n_);
    const int n = kWhole ? 16 : lanes_of(n_ - o);
    const ColumnSums sums(acc_, first, o);
    Ints total[kPixels];
    SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) total[i] = add(start, sums.start(i));
    const uint8_t* w = packed_->bytes.data() + o * 4;
    for (int64_t t = 0; t < taps_; t += 2, w += width * 4) {  // an odd last tap is paired with itself, at weight zero
      const int64_t next = std::min(t + 1, taps_ - 1);
      const Ints weights = load_ints(w);
      SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) {
        const Ints a = load_bytes<kSigned>(places.at(t, at + i) + o, n), b = load_bytes<kSigned>(places.at(next, at + i) + o, n);
        total[i] = add_pair_products(total[i], either(kSigned ? both(a, low) : a, shift_left<16>(b)), weights);
      }
    }
    SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) sums.keep(i, total[i]);
  }

#if SYSTOLE_LANES_OF(SYSTOLE_LANES) == SYSTOLE_LANES_avx512
  /// The same with four taps a step. Signed bytes have their top bit turned, which makes them unsigned ones 128 higher.
  template <bool kSigned, int kPixels, bool kWhole>
  LANES void by_fours(int64_t first, int at, const PixelPlaces& places, int64_t o) const {
    const Ints top = set_ints(static_cast<int32_t>(0x80808080u)), start = multiply_low(set_ints(-d_.a_zero - (kSigned ? 128 : 0)), load_ints(packed_->column_sums.data() + o));
    const int64_t width = padded_channels(n_);
    const int n = lanes_of(n_ - o);
    const ColumnSums sums(acc_, first, o);
    Ints total[kPixels];
    SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) total[i] = add(start, sums.start(i));
    const uint8_t* w = packed_->bytes.data() + o * 4;
    for (int64_t t = 0; t < taps_; t += 4, w += width * 4) {  // beyond the last tap weights are zero
      const int64_t t1 = std::min(t + 1, taps_ - 1), t2 = std::min(t + 2, taps_ - 1), t3 = std::min(t + 3, taps_ - 1);
      const Ints weights = load_ints(w);
      SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) {
        const Ints four = fours_of<kWhole>(places.at(t, at + i) + o, places.at(t1, at + i) + o, places.at(t2, at + i) + o, places.at(t3, at + i) + o, n);
        total[i] = add_products(total[i], kSigned ? exclusive(four, top) : four, weights);
      }
    }
    SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) sums.keep(i, total[i]);
  }
#else
  template <bool kSigned, int kPixels, bool kWhole>
  void by_fours(int64_t, int, const PixelPlaces&, int64_t) const {}  // in_bytes is false
#endif

  const bool bytes_ = in_bytes(d_);
};

}  // namespace

void pack_depthwise_integers(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out) {
  const isa::MatrixDesc& d = *op.desc;
  const int64_t taps = taps_of(d), width = padded_channels(op.n), group = in_bytes(d) ? 4 : 2;
  out.bytes.assign(static_cast<size_t>((taps + group - 1) / group * width * 4), 0);
  out.column_sums.assign(static_cast<size_t>(width), 0);
  for (int64_t t = 0; t < taps; ++t) {
    for (int64_t o = 0; o < op.n; ++o) {
      const uint8_t* from = b + o / columns * d.b_tile_pitch + t * d.b_row_pitch + o % columns * d.b_column_pitch;
      const auto v = static_cast<int16_t>((d.b_signed ? static_cast<int8_t>(*from) : *from) - d.b_zero);
      std::memcpy(out.bytes.data() + (t / group * width + o) * 4 + t % group * (4 / group), &v, static_cast<size_t>(4 / group));
      out.column_sums[static_cast<size_t>(o)] += v;
    }
  }
}

std::unique_ptr<Kernel> depthwise_integers(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed) {
  return std::make_unique<DepthwiseInteger>(memory, op, columns, std::move(packed));
}

}  // namespace systole::SYSTOLE_LANES
#endif
