// B of float contractions in the order of multiply_dot32 and of tiles.
#include <bit>
#include <cstring>

#include "sim/translate/lanes/float_rows.h"
#include "sim/translate/lanes/matrix.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {
namespace {

/// Reads B sixteen columns of one k at a time, wherever they lie.
class ColumnReader {
 public:
  ColumnReader(const isa::MatrixDesc& d, const uint8_t* b) : d_(d), b_(b), format_(static_cast<MacFormat>(d.format)), element_(operand_bytes(format_)) {}
  /// `first`: byte offset of the sixteen columns; `count` of them are there.
  LANES_INLINE Floats read(int64_t first, int64_t k, int count) const {
    const uint8_t* from = b_ + first + k * d_.b_row_pitch;
    if (d_.b_column_pitch == static_cast<uint32_t>(element_)) return load_operands(format_, from, count);
    const Ints found = gather(from, steps_of(static_cast<int32_t>(d_.b_column_pitch)), count);  // 16-bit operands: two bytes more than they have
    if (format_ == MacFormat::kF32) return as_floats(found);
    return format_ == MacFormat::kBF16 ? as_floats(shift_left<16>(found)) : floats_of_fp16(found);
  }

 private:
  const isa::MatrixDesc& d_;
  const uint8_t* b_;
  MacFormat format_;
  int64_t element_;
};

/// Four k of sixteen columns from the even and odd numbers of two pairs: packed_place.
LANES_INLINE void store_quads(uint8_t* to, Ints even0, Ints odd0, Ints even1, Ints odd1) {
  const Ints high = set_ints(static_cast<int32_t>(0xFFFF0000u));
  const Ints even = either(both(even0, high), shift_right<16>(even1)), odd = either(both(odd0, high), shift_right<16>(odd1));
  store(to, interleave_low(even, odd));
  store(to + 64, interleave_high(even, odd));
}

/// Sixteen columns of all k, as parts; `to` is their place in part 0, others `part_bytes` on.
LANES void pack_sixteen(const isa::MatrixDesc& d, bool quads, const ColumnReader& reader, int64_t first, int count, int64_t width, int64_t part_bytes, uint8_t* to) {
  const auto format = static_cast<MacFormat>(d.format);
  const Ints high = set_ints(static_cast<int32_t>(0xFFFF0000u));
  const int64_t taps = int64_t{d.kernel_h} * d.kernel_w, channels = d.channels;
  Ints before[3][2] = {};  // the even and odd numbers of a four's first pair, by part
  bool second = false;
  for (int64_t t = 0; t < taps; ++t) {
    for (int64_t c = 0; c < channels; c += 2, to += width * 4, second = !second) {
      const int64_t k = t * channels + c;
      const Floats even = reader.read(first, k, count), odd = c + 1 < channels ? reader.read(first, k + 1, count) : set(0.0f);
      for (int q = 0; q < parts_of(format); ++q) {
        const bool whole = format == MacFormat::kBF16;
        const Ints a = as_ints(whole ? even : part_of(even, q)), b = as_ints(whole ? odd : part_of(odd, q));
        uint8_t* at = to + q * part_bytes;
        if (!quads) store(at, either(shift_right<16>(a), both(b, high)));
        else if (second) store_quads(at - width * 4, before[q][0], before[q][1], a, b);
        else store_quads(at, before[q][0] = a, before[q][1] = b, set_ints(0), set_ints(0));  // the last may be alone
      }
    }
  }
}

}  // namespace

/// [part][panel of 32 columns] of bf16 as packed_place says, k padded as dot32 asks; 16 columns where there are no more.
void pack_float_b(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out) {
  const isa::MatrixDesc& d = *op.desc;
  const auto format = static_cast<MacFormat>(d.format);
  const int64_t taps = int64_t{d.kernel_h} * d.kernel_w, even = even_channels(d), blocks = dot_blocks(d), n = op.n, panels = (n + kDotColumns - 1) / kDotColumns;
  const int64_t part_bytes = panels * panel_bytes(blocks);
  out.bytes.resize(static_cast<size_t>(parts_of(format) * part_bytes));  // zeros, and what K and n leave empty remains so
  const bool quads = in_quads(op);
  const ColumnReader reader(d, b);
  for (int64_t o = 0; columns % 16 == 0 && o < n; o += 16) {
    uint8_t* to = out.bytes.data() + o / kDotColumns * panel_bytes(blocks) + o % kDotColumns * (quads ? 8 : 4);
    pack_sixteen(d, quads, reader, o / columns * d.b_tile_pitch + o % columns * d.b_column_pitch, lanes_of(n - o), panel_width(n, o / kDotColumns), part_bytes, to);
  }
  for (int64_t o = 0; columns % 16 != 0 && o < n; ++o) {
    const int64_t width = panel_width(n, o / kDotColumns);
    for (int64_t i = 0; i < taps * d.channels; ++i) {
      const int64_t k = i / d.channels * even + i % d.channels;
      for (int q = 0; q < parts_of(format); ++q) {
        const uint8_t* from = b + o / columns * d.b_tile_pitch + i * d.b_row_pitch + o % columns * d.b_column_pitch;
        const auto bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(operand_part(format, from, q)) >> 16);
        std::memcpy(out.bytes.data() + q * part_bytes + o / kDotColumns * panel_bytes(blocks) + packed_place(k, o % kDotColumns, width, quads), &bits, 2);
      }
    }
  }
}

}  // namespace systole::SYSTOLE_LANES
#endif
