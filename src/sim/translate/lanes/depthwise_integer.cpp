// MX depthwise on integers. Taps go in pairs of 16-bit numbers; by fours as bytes where the instruction set multiplies those (VNNI) and
// B's zero point lets its numbers be bytes; of kernels three wide, the three of a row and a zero. Packed B is [tap group][n][taps of the
// group], n padded to whole groups.
#include <algorithm>
#include <cstring>

#include "sim/translate/lanes/depthwise.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {
namespace {

bool in_bytes(const isa::MatrixDesc& d) { return kNativeLanes == 16 && d.b_zero == (d.b_signed ? 0 : 128); }
/// Taps of a group, of 4 or 2 places.
int64_t taps_in_group(const isa::MatrixDesc& d) { return !in_bytes(d) ? 2 : d.kernel_w == 3 ? 3 : 4; }
int64_t groups_of(const isa::MatrixDesc& d) { return (taps_of(d) + taps_in_group(d) - 1) / taps_in_group(d); }

class DepthwiseInteger final : public Depthwise {
 public:
  using Depthwise::Depthwise;

 protected:
  void sum_pixels(int64_t begin, int64_t first, int64_t last, const TapRows& rows) const override {
    together(first, last, [&](int64_t at, auto n) { d_.a_signed ? run_signed<true, n()>(begin + at, at, rows) : run_signed<false, n()>(begin + at, at, rows); });
  }

 private:
  template <bool kSigned, int kPixels>
  void run_signed(int64_t first, int64_t at, const TapRows& rows) const {
    if constexpr (kNativeLanes == 16) {
      if (in_rows_) return d_.stride_w == 1 ? run_rows<kSigned, kPixels, 1>(first, at, rows) : run_rows<kSigned, kPixels, 2>(first, at, rows);
    }
    for (int64_t o = 0; o < n_; o += 16) {
      const bool whole = n_ - o >= 16;
      if (bytes_) whole ? sum<kSigned, kPixels, true, kNativeLanes == 16>(first, at, rows, o) : sum<kSigned, kPixels, false, kNativeLanes == 16>(first, at, rows, o);
      else whole ? sum<kSigned, kPixels, true, false>(first, at, rows, o) : sum<kSigned, kPixels, false, false>(first, at, rows, o);
    }
  }

  template <bool kSigned, int kPixels, int kStride>
  void run_rows(int64_t first, int64_t at, const TapRows& rows) const {
    for (int64_t o = 0; o < n_; o += 16) n_ - o >= 16 ? slide<kSigned, kPixels, true, kStride>(first, at, rows, o) : slide<kSigned, kPixels, false, kStride>(first, at, rows, o);
  }

  /// Sixteen channels from o, all there or not, of pixels `at` and on of the run, which are pixels `first` and on of the block. As bytes, signed
  /// numbers have their top bit turned, which makes them unsigned ones 128 higher.
  template <bool kSigned, int kPixels, bool kWhole, bool kBytes>
  LANES void sum(int64_t first, int64_t at, const TapRows& rows, int64_t o) const {
    const Ints start = multiply_low(set_ints(-d_.a_zero - (kSigned && kBytes ? 128 : 0)), load_ints(packed_->column_sums.data() + o));
    const int64_t width = padded_channels(n_), last = taps_ - 1;
    const int n = kWhole ? 16 : lanes_of(n_ - o);
    const ColumnSums<kWhole> sums(acc_, first, o);
    Ints total[kPixels];
    SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) total[i] = add(start, sums.start(i));
    const uint8_t* w = packed_->bytes.data() + o * 4;
    for (int64_t t = 0; t < taps_; t += group_, w += width * 4) {  // beyond a group's last tap weights are zero, and any tap will do
      const int64_t t1 = std::min(t + 1, last), t2 = std::min(t + 2, last), t3 = std::min(t + 3, last);
      const Ints weights = load_ints(w);
      SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) {
        auto channels = [&](int64_t tap) { return rows.at(tap, at + i) + o; };
        if constexpr (kBytes) total[i] = add_products(total[i], fours_of<kSigned, kWhole>(channels(t), channels(t1), channels(t2), channels(t3), n), weights);
        else total[i] = add_pair_products(total[i], pairs_of<kSigned>(channels(t), channels(t1), n), weights);
      }
    }
    SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) sums.keep(i, total[i]);
  }
  /// The same in bytes where rows of three taps see adjacent columns, kStride pixels apart from one output to the next: each is loaded once.
  template <bool kSigned, int kPixels, bool kWhole, int kStride>
  LANES void slide(int64_t first, int64_t at, const TapRows& rows, int64_t o) const {
    constexpr int kColumns = (kPixels - 1) * kStride + 3;
    const Ints start = multiply_low(set_ints(-d_.a_zero - (kSigned ? 128 : 0)), load_ints(packed_->column_sums.data() + o)), top = set_ints(static_cast<int32_t>(0x80808080u));
    const int64_t width = padded_channels(n_), pitch = rows.pitch / kStride;
    const int n = kWhole ? 16 : lanes_of(n_ - o);
    const ColumnSums<kWhole> sums(acc_, first, o);
    Ints total[kPixels];
    SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) total[i] = add(start, sums.start(i));
    const uint8_t* w = packed_->bytes.data() + o * 4;
    for (int64_t t = 0; t < taps_; t += 3, w += width * 4) {
      const uint8_t* from = rows.at(t, at) + o;
      Ints column[kColumns];
      SYSTOLE_UNROLL for (int i = 0; i < kColumns; ++i, from += pitch) column[i] = load_bytes<false>(from, n);
      const Ints weights = load_ints(w);
      SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) {
        const Ints taps = either(either(column[i * kStride], shift_left<8>(column[i * kStride + 1])), shift_left<16>(column[i * kStride + 2]));
        total[i] = add_products(total[i], kSigned ? exclusive(taps, top) : taps, weights);
      }
    }
    SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) sums.keep(i, total[i]);
  }
  /// Sixteen bytes of each of two places as pairs of 16-bit numbers.
  template <bool kSigned>
  LANES_INLINE static Ints pairs_of(const uint8_t* p0, const uint8_t* p1, int n) {
    const Ints a = load_bytes<kSigned>(p0, n);
    return either(kSigned ? both(a, set_ints(0xFFFF)) : a, shift_left<16>(load_bytes<kSigned>(p1, n)));
  }

  const bool bytes_ = in_bytes(d_);
  const int64_t group_ = taps_in_group(d_);
  const bool in_rows_ = runs_.along_rows() && group_ == 3 && d_.dilation_w == 1 && d_.stride_w >= 1 && d_.stride_w <= 2;
};

}  // namespace

void pack_depthwise_integers(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out) {
  const isa::MatrixDesc& d = *op.desc;
  const int64_t taps = taps_of(d), width = padded_channels(op.n), group = taps_in_group(d), element = in_bytes(d) ? 1 : 2;
  out.bytes.resize(static_cast<size_t>(groups_of(d) * width * 4));
  out.column_sums.assign(static_cast<size_t>(width), 0);
  for (int64_t t = 0; t < taps; ++t) {
    for (int64_t o = 0; o < op.n; ++o) {
      const uint8_t* from = b + o / columns * d.b_tile_pitch + t * d.b_row_pitch + o % columns * d.b_column_pitch;
      const auto v = static_cast<int16_t>((d.b_signed ? static_cast<int8_t>(*from) : *from) - d.b_zero);
      std::memcpy(out.bytes.data() + (t / group * width + o) * 4 + t % group * element, &v, static_cast<size_t>(element));
      out.column_sums[static_cast<size_t>(o)] += v;
    }
  }
}

std::unique_ptr<Kernel> depthwise_integers(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed) {
  return std::make_unique<DepthwiseInteger>(memory, op, columns, std::move(packed));
}

}  // namespace systole::SYSTOLE_LANES
#endif
