// Where the pixels of a matrix instruction's block lie in the scratchpad, worked out once per instruction.
#pragma once
#include <algorithm>
#include <vector>

#include "sim/translate/host.h"

namespace systole {

class PixelMap {
 public:
  PixelMap(const isa::MatrixOp& op, const uint8_t* scratchpad) : d_(*op.desc), base_(scratchpad + op.a), in_rows_(op.in_rows) {
    const int64_t reach_h = int64_t{d_.kernel_h - 1} * d_.dilation_h, reach_w = int64_t{d_.kernel_w - 1} * d_.dilation_w;
    pixels_.reserve(static_cast<size_t>(op.out_rows) * op.out_columns);
    offsets_.reserve(pixels_.capacity() + kSlack);
    for (int64_t r = 0; r < op.out_rows; ++r) {
      for (int64_t c = 0; c < op.out_columns; ++c) {
        const int64_t row = r * d_.stride_h + op.row_origin, column = c * d_.stride_w + op.column_origin;
        const bool inside = row >= 0 && row + reach_h < op.in_rows && column >= 0 && column + reach_w < d_.in_columns;
        pixels_.push_back({static_cast<int32_t>(row), static_cast<int32_t>(column), inside});
        offsets_.push_back(row * d_.a_row_pitch + column * d_.a_pixel_pitch);
      }
    }
    offsets_.resize(offsets_.size() + kSlack);
  }

  /// Bytes of output pixel p under tap (kh, kw), or `outside` in the padding.
  const uint8_t* at(int64_t p, int64_t kh, int64_t kw, const uint8_t* outside) const {
    const Pixel& x = pixels_[static_cast<size_t>(p)];
    if (!x.inside) {
      const int64_t r = x.row + kh * d_.dilation_h, c = x.column + kw * d_.dilation_w;
      if (r < 0 || r >= in_rows_ || c < 0 || c >= d_.in_columns) return outside;
    }
    return base_ + offsets_[static_cast<size_t>(p)] + tap(kh, kw);
  }
  /// Whether no tap of pixel p is in the padding.
  bool inside(int64_t p) const { return pixels_[static_cast<size_t>(p)].inside; }
  /// Bytes from each of the pixels [first, first + count) to the next, if they are evenly spaced and no tap of theirs is in the padding; else -1.
  int64_t even_pitch(int64_t first, int count) const {
    const int64_t* at = offsets_.data() + first;
    const int64_t pitch = count > 1 ? at[1] - at[0] : 0;
    for (int i = 0; i < count; ++i) {
      if (!inside(first + i) || (i > 0 && at[i] - at[i - 1] != pitch)) return -1;
    }
    return pitch;
  }
  /// Pixels [first, first + count) under all taps, taps outermost; `to` has room for kSlack more.
  static constexpr int kSlack = 8;
  [[gnu::always_inline]] void pointers(int64_t first, int count, const uint8_t* outside, const uint8_t** to) const {
    bool all_inside = true;
    for (int i = 0; i < count; ++i) all_inside = all_inside && inside(first + i);
    for (int64_t kh = 0; kh < d_.kernel_h; ++kh) {
      for (int64_t kw = 0; kw < d_.kernel_w; ++kw, to += count) {
        if (!all_inside) {
          for (int i = 0; i < count; ++i) to[i] = at(first + i, kh, kw, outside);
          continue;
        }
        const uint8_t* base = base_ + tap(kh, kw);
        const int64_t* offsets = offsets_.data() + first;
        for (int i = 0; i < count; i += kSlack) {
          SYSTOLE_UNROLL for (int k = 0; k < kSlack; ++k) to[i + k] = base + offsets[i + k];  // in the vectors of the caller's instruction set
        }
      }
    }
  }

 private:
  struct Pixel {
    int32_t row, column;
    bool inside;
  };
  int64_t tap(int64_t kh, int64_t kw) const { return kh * d_.dilation_h * d_.a_row_pitch + kw * d_.dilation_w * d_.a_pixel_pitch; }

  const isa::MatrixDesc& d_;
  const uint8_t* base_;
  int64_t in_rows_;
  std::vector<Pixel> pixels_;
  std::vector<int64_t> offsets_;
};

}  // namespace systole
