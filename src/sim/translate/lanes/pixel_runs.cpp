#include "sim/translate/lanes/pixel_runs.h"

#include <algorithm>
#include <cstring>

#include "sim/translate/lanes/tile_source.h"
#include "sim/translate/pixels.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {
namespace {

constexpr int64_t kSlack = 64;        ///< bytes that kernels may read, and copies write, behind a row
constexpr int64_t kFewestInARun = 4;  ///< pixels

/// Pixels of kFrom 16-bit channels, zeros behind them up to kTo. Writes up to 63 bytes more.
template <int kFrom, int kTo>
LANES void spread(uint8_t* to, const uint8_t* from, int64_t pixels) {
  constexpr int kAtOnce = 32 / kTo;
  int64_t i = 0;
  for (; i < pixels; i += kAtOnce) store_spread<kFrom, kTo>(to + 2 * kTo * i, from + 2 * kFrom * i, kFrom * static_cast<int>(std::min<int64_t>(kAtOnce, pixels - i)));
}

}  // namespace

PixelRuns::PixelRuns(const isa::MatrixOp& op, const uint8_t* scratchpad, const RowNeeds& needs) : d_(*op.desc), needs_(needs), in_rows_(op.in_rows), row_origin_(op.row_origin), first_column_(op.column_origin) {
  if (!rows_fit(op)) return;  // nor does it suit
  tap_channels_ = d_.depthwise ? op.n : d_.channels;
  parts_ = parts_of(needs.split);
  padded_channels_ = (tap_channels_ + needs.multiple - 1) / needs.multiple * needs.multiple;
  columns_ = (int64_t{op.out_columns} - 1) * d_.stride_w + int64_t{d_.kernel_w - 1} * d_.dilation_w + 1;
  const bool columns_outside = first_column_ < 0 || first_column_ + columns_ > d_.in_columns;
  copies_ = (columns_outside && needs.edges) || padded_channels_ != tap_channels_ || needs.copied || parts_ > 1;
  leaves_out_ = columns_outside && !copies_;
  const int64_t own_bytes = padded_channels_ * (parts_ > 1 ? 2 : needs.element_bytes);  // of a pixel, without what lies between it and the next
  pixel_bytes_ = copies_ ? own_bytes : int64_t{d_.a_pixel_pitch};
  row_bytes_ = (columns_ - 1) * pixel_bytes_ + std::max(pixel_bytes_, own_bytes);
  base_ = scratchpad + op.a;
  const int64_t last_row = row_origin_ + (int64_t{op.out_rows} - 1) * d_.stride_h + int64_t{d_.kernel_h - 1} * d_.dilation_h;
  const bool rows_outside = row_origin_ < 0 || last_row >= in_rows_;
  const int64_t row_step = int64_t{d_.stride_h} * d_.a_row_pitch;
  pitch_ = d_.stride_w * pixel_bytes_;
  if (!copies_ && !rows_outside && !leaves_out_ && (op.out_rows == 1 || op.out_columns == 1 || row_step == op.out_columns * pitch_)) {
    runs_ = 1, pixels_ = int64_t{op.out_rows} * op.out_columns;
    if (op.out_columns == 1) pitch_ = row_step, along_rows_ = false;
  } else {
    runs_ = op.out_rows, pixels_ = op.out_columns;
    if (rows_outside || leaves_out_) outside_.assign(static_cast<size_t>(row_bytes_ + kSlack), needs.outside);
  }
  const bool together = needs.joined && d_.dilation_w == 1 && pixel_bytes_ == own_bytes;
  segments_ = together ? d_.kernel_h : int64_t{d_.kernel_h} * d_.kernel_w;
  channels_ = together ? d_.kernel_w * padded_channels_ : padded_channels_;
  suit_ = d_.a_channel_pitch == static_cast<uint32_t>(needs.element_bytes) && pixels_ >= kFewestInARun;
}

PixelRuns::Reader::Buffers& PixelRuns::Reader::buffers() {
  static thread_local Buffers kept;
  return kept;
}

PixelRuns::Reader::Reader(const PixelRuns& runs) : runs_(runs), buffers_(buffers()) {
  buffers_.segments.resize(static_cast<size_t>(runs_.parts_ * runs_.segments_));
  if (!runs_.copies_) return;
  const auto slots = static_cast<size_t>(runs_.d_.kernel_h - 1) * runs_.d_.dilation_h + 1;
  buffers_.rows.resize(slots * slot_bytes());
  buffers_.holds.assign(slots, -1);
}

const uint8_t* const* PixelRuns::Reader::read(int64_t run) {
  const isa::MatrixDesc& d = runs_.d_;
  const int64_t taps = runs_.segments_ / d.kernel_h;
  size_t s = 0;
  for (int64_t kh = 0; kh < d.kernel_h; ++kh) {
    const uint8_t* at = row(run * d.stride_h + runs_.row_origin_ + kh * d.dilation_h);
    const int64_t part_bytes = at == runs_.outside_.data() ? 0 : runs_.row_bytes_;
    for (int64_t kw = 0; kw < taps; ++kw, ++s) {
      for (int64_t q = 0; q < runs_.parts_; ++q) buffers_.segments[static_cast<size_t>(q * runs_.segments_) + s] = at + q * part_bytes + kw * d.dilation_w * runs_.pixel_bytes_;
    }
  }
  return buffers_.segments.data();
}

const uint8_t* PixelRuns::Reader::row(int64_t in_row) {
  if (in_row < 0 || in_row >= runs_.in_rows_) return runs_.outside_.data();
  if (!runs_.copies_) return runs_.base_ + in_row * runs_.d_.a_row_pitch + runs_.first_column_ * runs_.d_.a_pixel_pitch;
  const size_t slot = static_cast<size_t>(in_row) % buffers_.holds.size();
  uint8_t* to = buffers_.rows.data() + slot * slot_bytes();
  if (buffers_.holds[slot] != in_row) copy_row(in_row, to), buffers_.holds[slot] = in_row;
  return to;
}

size_t PixelRuns::Reader::slot_bytes() const { return static_cast<size_t>(runs_.parts_ * runs_.row_bytes_ + kSlack); }

/// `count` pixels as parts, zeros behind the channels of each.
void PixelRuns::Reader::split_pixels(const uint8_t* from, int64_t count, uint8_t* to) const {
  const int64_t channels = runs_.tap_channels_, bytes = runs_.pixel_bytes_, left = bytes - 2 * channels;
  const bool together = left == 0 && runs_.d_.a_pixel_pitch == channels * runs_.needs_.element_bytes;
  if (together) return split_channels(runs_.needs_.split, from, count * channels, to, runs_.row_bytes_);
  for (int64_t i = 0; i < count; ++i, from += runs_.d_.a_pixel_pitch, to += bytes) {
    split_channels(runs_.needs_.split, from, channels, to, runs_.row_bytes_);
    for (int64_t q = 0; q < runs_.parts_; ++q) std::memset(to + q * runs_.row_bytes_ + 2 * channels, 0, static_cast<size_t>(left));
  }
}

void PixelRuns::Reader::copy_row(int64_t in_row, uint8_t* to) const {
  const isa::MatrixDesc& d = runs_.d_;
  const int64_t left = std::clamp<int64_t>(-runs_.first_column_, 0, runs_.columns_), end = std::clamp<int64_t>(int64_t{d.in_columns} - runs_.first_column_, left, runs_.columns_);
  const int64_t from_bytes = runs_.tap_channels_ * runs_.needs_.element_bytes, bytes = runs_.pixel_bytes_;
  uint8_t* behind = to + end * bytes;
  for (int64_t q = 0; q < runs_.parts_; ++q) {
    std::memset(to + q * runs_.row_bytes_, runs_.needs_.outside, static_cast<size_t>(left * bytes));
    std::memset(behind + q * runs_.row_bytes_, runs_.needs_.outside, static_cast<size_t>((runs_.columns_ - end) * bytes));
  }
  const uint8_t* from = runs_.base_ + in_row * d.a_row_pitch + (runs_.first_column_ + left) * d.a_pixel_pitch;
  to += left * bytes;
  if (left == end) {
  } else if (runs_.parts_ > 1) {
    split_pixels(from, end - left, to);
  } else if (from_bytes == bytes && d.a_pixel_pitch == bytes) {
    std::memcpy(to, from, static_cast<size_t>((end - left) * bytes));
  } else if (from_bytes == 6 && bytes == 8 && d.a_pixel_pitch == 6) {
    spread<3, 4>(to, from, end - left);
  } else if (from_bytes == 2 && bytes == 4 && d.a_pixel_pitch == 2) {
    spread<1, 2>(to, from, end - left);
  } else {
    for (int64_t i = left; i < end; ++i, from += d.a_pixel_pitch, to += bytes) {
      std::memcpy(to, from, static_cast<size_t>(from_bytes));
      std::memset(to + from_bytes, 0, static_cast<size_t>(bytes - from_bytes));
    }
  }
}

}  // namespace systole::SYSTOLE_LANES
#endif
