// Where the pixels of a matrix instruction's block lie in the scratchpad.
#pragma once
#include <algorithm>
#include <array>

#include "isa/sequencer.h"

namespace systole {

/// Start positions of up to kMax consecutive output pixels in the input image, and the bytes under each tap of them.
class PixelRun {
 public:
  static constexpr int kMax = 16;
  PixelRun(const isa::MatrixOp& op, const uint8_t* scratchpad) : op_(op), d_(*op.desc), base_(scratchpad + op.a) {}

  /// Positions on output pixels [first, first + count).
  void move_to(int64_t first, int count) {
    count_ = count;
    int64_t r = first / op_.out_columns, c = first % op_.out_columns;
    inside_ = true;
    const int64_t reach_h = int64_t{d_.kernel_h - 1} * d_.dilation_h, reach_w = int64_t{d_.kernel_w - 1} * d_.dilation_w;
    for (int i = 0; i < count; ++i) {
      const size_t at = static_cast<size_t>(i);
      row_[at] = r * d_.stride_h + op_.row_origin, column_[at] = c * d_.stride_w + op_.column_origin;
      offset_[at] = row_[at] * d_.a_row_pitch + column_[at] * d_.a_pixel_pitch;
      inside_ = inside_ && row_[at] >= 0 && row_[at] + reach_h < op_.in_rows && column_[at] >= 0 && column_[at] + reach_w < d_.in_columns;
      if (++c == op_.out_columns) c = 0, ++r;
    }
  }
  /// Whether no tap of any pixel is in the padding.
  bool inside() const { return inside_; }
  int count() const { return count_; }

  /// Bytes of pixel i under tap (kh, kw), or `outside` in the padding.
  const uint8_t* at(int i, int64_t kh, int64_t kw, const uint8_t* outside) const {
    const size_t k = static_cast<size_t>(i);
    const int64_t r = row_[k] + kh * d_.dilation_h, c = column_[k] + kw * d_.dilation_w;
    if (r < 0 || r >= op_.in_rows || c < 0 || c >= d_.in_columns) return outside;
    return base_ + offset_[k] + kh * d_.dilation_h * d_.a_row_pitch + kw * d_.dilation_w * d_.a_pixel_pitch;
  }
  /// All pixels under one tap; `to` has room for kMax.
  void pointers(int64_t kh, int64_t kw, const uint8_t* outside, const uint8_t** to) const {
    if (inside_) {
      const uint8_t* tap = base_ + kh * d_.dilation_h * d_.a_row_pitch + kw * d_.dilation_w * d_.a_pixel_pitch;
      for (int i = 0; i < count_; ++i) to[i] = tap + offset_[static_cast<size_t>(i)];
      return;
    }
    for (int i = 0; i < count_; ++i) to[i] = at(i, kh, kw, outside);
  }

 private:
  const isa::MatrixOp& op_;
  const isa::MatrixDesc& d_;
  const uint8_t* base_;
  std::array<int64_t, kMax> row_{}, column_{}, offset_{};
  int count_ = 0;
  bool inside_ = false;
};

}  // namespace systole
