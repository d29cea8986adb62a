// MX depthwise: sixteen channels at a time, taps in order. Packed B is [tap pair][n][2] int16 for integers and
// [part][tap][n] fp32 for floats, n padded to 64.
#include <cstring>

#include "sim/functional/flush_mode.h"
#include "sim/translate/lanes/matrix.h"
#include "sim/translate/pixels.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {
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
  LANES void sum(int64_t first, int count, const uint8_t* const* rows) const {
    const Ints zero = set_ints(-d_.a_zero), low = set_ints(0xFFFF);
    const int64_t width = padded(n_);
    for (int64_t o = 0; o < n_; o += 16) {
      const int n = lanes_of(n_ - o);
      Ints start = multiply_low(zero, load_ints(packed_->column_sums.data() + o));
      if (!acc_.keeps()) start = add(start, initial_sums(acc_, first, o));
      for (int i = 0; i < count; ++i) {
        Ints total = acc_.keeps() ? add(start, initial_sums(acc_, first + i, o)) : start;
        const uint8_t* w = packed_->bytes.data() + o * 4;
        for (int64_t t = 0; t < taps_; t += 2, w += width * 4) {  // an odd last tap is paired with itself, at weight zero
          const uint8_t* const* at = rows + t * count + i;
          const Ints a = load_bytes<kSigned>(at[0] + o, n), b = load_bytes<kSigned>(at[t + 1 < taps_ ? count : 0] + o, n);
          total = add_pair_products(total, either(kSigned ? both(a, low) : a, shift_left<16>(b)), load_ints(w));
        }
        store_sums(acc_, first + i, o, total);
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
  LANES void pixel(int64_t p, Taps rows) const {
    for (int64_t o = 0; o < n_; o += kGroup) {
      split(static_cast<MacFormat>(d_.format), rows, o);
      group_of_parts(p, o, std::min<int64_t>(4, (n_ - o + 15) / 16));
    }
  }

  /// Sixteen bf16 channels from o of kPixels pixels, whose chains run together; rows: [tap][pitch].
  template <int kPixels>
  LANES void sixteen(int64_t first, const uint8_t* const* rows, int64_t pitch, int64_t o) const {
    const int64_t width = padded(n_);
    const int n = lanes_of(n_ - o);
    Floats total[kPixels];
    SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) total[i] = as_floats(initial_sums(acc_, first + i, o));
    const float* w = reinterpret_cast<const float*>(packed_->bytes.data()) + o;
    for (int64_t t = 0; t < taps_; t += kTapsABlock) {
      Floats chain[kPixels];
      SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) chain[i] = set(0.0f);
      for (int64_t k = t; k < std::min(t + kTapsABlock, taps_); ++k, w += width, rows += pitch) {
        const Floats weight = load_floats(w);
        SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) {
          chain[i] = fma(as_floats(shift_left<16>(load_halves(rows[i] + 2 * o, n))), weight, chain[i]);
        }
      }
      SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) total[i] = add(total[i], add(chain[i], set(0.0f)));
    }
    SYSTOLE_UNROLL for (int i = 0; i < kPixels; ++i) store_sums(acc_, first + i, o, as_ints(canonical(total[i])));
  }

  static std::vector<float>& parts_buffer() {
    static thread_local std::vector<float> buffer;
    return buffer;
  }
  /// fp32 and fp16 channels from o as [part][tap][64]: subtractions that must keep subnormals, so before the chains' flush mode.
  LANES void split(MacFormat format, Taps rows, int64_t o) const {
    auto& parts = parts_buffer();
    parts.resize(static_cast<size_t>(parts_of(format) * taps_ * kGroup));
    for (int64_t t = 0; t < taps_; ++t) {
      for (int64_t v = 0; v < kGroup && o + v < n_; v += 16) {
        const Floats a = load_operands(format, rows[t] + (o + v) * operand_bytes(format), lanes_of(n_ - o - v));
        for (int q = 0; q < parts_of(format); ++q) store(parts.data() + (q * taps_ + t) * kGroup + v, part_of(a, q));
      }
    }
  }
  LANES void group_of_parts(int64_t p, int64_t o, int64_t vectors) const {
    const auto format = static_cast<MacFormat>(d_.format);
    const int64_t width = padded(n_);
    const Pass* passes = passes_in(format);
    for (int64_t v = 0; v < vectors; ++v) {
      Floats total = as_floats(initial_sums(acc_, p, o + 16 * v));
      {
        const FlushMode flush;
        for (int64_t q = 0; q < passes_of(format); ++q) {
          const float* a = parts_buffer().data() + passes[q].a_part * taps_ * kGroup + 16 * v;
          const float* w = reinterpret_cast<const float*>(packed_->bytes.data()) + passes[q].b_part * taps_ * width + o + 16 * v;
          for (int64_t t = 0; t < taps_; t += kTapsABlock) {
            Floats chain = set(0.0f);
            for (int64_t i = t; i < std::min(t + kTapsABlock, taps_); ++i) chain = fma(load_floats(a + i * kGroup), load_floats(w + i * width), chain);
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

}  // namespace systole::SYSTOLE_LANES
#endif
