#include "sim/translate/lanes/float_rows.h"

#include <algorithm>
#include <cstring>

#include "sim/translate/lanes/matrix.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {
namespace {

constexpr int64_t kFewestInPlace = 8;  ///< channels: a picture's three gained nothing in place

LANES_INLINE void widen_bf16(float* to, const uint8_t* from, int64_t n) {
  int64_t c = 0;
  for (; c + 16 <= n; c += 16) store(to + c, shift_left<16>(load_halves(from + 2 * c)));
  if (c < n) store(to + c, shift_left<16>(load_halves(from + 2 * c, lanes_of(n - c))), lanes_of(n - c));
}

/// A tap of a picture's one to four channels.
template <int kChannels>
void widen_tap(const uint8_t* from, float* to) {
  constexpr int kEven = (kChannels + 1) / 2 * 2;
  uint16_t halves[kEven] = {};
  std::memcpy(halves, from, 2 * kChannels);
  uint32_t wide[kEven];
  for (int c = 0; c < kEven; ++c) wide[c] = static_cast<uint32_t>(halves[c]) << 16;
  std::memcpy(to, wide, sizeof wide);
}

/// Pixels of one to four channels: a row of taps at once where it lies together (`joined`), which may write up to 15 floats more, else tap by tap.
template <int kChannels>
LANES void widen_few(const isa::MatrixDesc& d, const PixelMap& pixels, bool joined, int64_t first, int count, const PixelPlaces& places, float* to, int64_t pitch) {
  constexpr int kEven = (kChannels + 1) / 2 * 2, kTaps = 16 / kEven;
  for (int i = 0; i < count; ++i) {
    float* row = to + i * pitch;
    const bool together = joined && (places.step == 0 || pixels.inside(first + i));
    for (int64_t kh = 0; kh < d.kernel_h; ++kh, row += d.kernel_w * kEven) {
      if (!together) {
        for (int64_t kw = 0; kw < d.kernel_w; ++kw) widen_tap<kChannels>(places.at(kh * d.kernel_w + kw, i), row + kw * kEven);
        continue;
      }
      const uint8_t* from = places.at(kh * d.kernel_w, i);
      for (int64_t kw = 0; kw < d.kernel_w; kw += kTaps) {
        store(row + kw * kEven, spread_halves<kChannels>(from + 2 * kChannels * kw, kChannels * static_cast<int>(std::min<int64_t>(kTaps, d.kernel_w - kw))));
      }
    }
  }
}

}  // namespace

FloatRows::FloatRows(const isa::MatrixDesc& d, const PixelMap& pixels, int64_t tile_rows, bool quads)
    : quads_(quads), d_(d), pixels_(pixels), format_(static_cast<MacFormat>(d.format)), tile_rows_(tile_rows), depth_(dot_blocks(d) * kDotBlock) {
  in_order_ = format_ == MacFormat::kBF16 && d_.a_channel_pitch == 2;
  in_place_ = kReadsInPlace && in_order_ && (quads ? d_.channels % 4 == 0 : d_.channels % 2 == 0 && d_.channels >= kFewestInPlace && integers_beside_floats());
  joined_ = in_order_ && d_.a_pixel_pitch == 2 * d_.channels && d_.dilation_w == 1;
  if (in_order_) outside_.assign(2 * d_.channels, 0);
  if (quads && !in_place_) copies_.emplace(d, pixels, 0, 2 * depth_, 0);
}

DotRows FloatRows::read(int64_t first, int count) const {
  thread_local std::vector<int64_t> buffer;
  if (in_place_) return {.count = count, .pairs = d_.channels / 2, .segments = int64_t{d_.kernel_h} * d_.kernel_w, .places = find(first, count, buffer), .quads = quads_};
  if (copies_) return copy(first, count);
  thread_local std::vector<float> wide;
  wide.resize(static_cast<size_t>(parts_of(format_) * part_pitch()) + 16);
  if (in_order_) widen_in_order(first, count, wide.data());
  else for (int i = 0; i < count; ++i) widen_parts(first + i, wide.data() + i * depth_);
  return {.count = count, .pairs = int64_t{d_.kernel_h} * d_.kernel_w * even_channels(d_) / 2, .wide = wide.data(), .pitch = depth_};
}

DotRows FloatRows::copy(int64_t first, int count) const {
  thread_local TileSource::Rows rows;
  thread_local std::vector<int64_t> taps;
  thread_local int64_t offsets[kTileRows];
  copies_->read(first, count, rows);
  taps.clear();
  for (const TileRows& r : rows.list) taps.push_back(static_cast<int64_t>(reinterpret_cast<uintptr_t>(r.first)));
  for (int i = 0; i < count; ++i) offsets[i] = i * rows.list[0].pitch;
  return {.count = count, .pairs = copies_->steps() * kTileStep / 4, .segments = copies_->segments(), .places = {0, taps.data(), offsets, 0}, .quads = true};
}

LANES void FloatRows::widen_in_order(int64_t first, int count, float* to) const {
  const int64_t channels = d_.channels, even = even_channels(d_);
  thread_local std::vector<int64_t> buffer;
  const PixelPlaces places = find(first, count, buffer);
  if (channels <= 4) {
    const auto widen = channels == 1 ? widen_few<1> : channels == 2 ? widen_few<2> : channels == 3 ? widen_few<3> : widen_few<4>;
    return widen(d_, pixels_, joined_, first, count, places, to, depth_);
  }
  for (int64_t t = 0; t < int64_t{d_.kernel_h} * d_.kernel_w; ++t, to += even) {
    for (int i = 0; i < count; ++i) {
      widen_bf16(to + i * depth_, places.at(t, i), channels);
      if (channels != even) to[i * depth_ + channels] = 0;
    }
  }
}

/// A pixel's taps as fp32 parts, zeros where there is nothing. Beyond the last tap nothing is read.
LANES void FloatRows::widen_parts(int64_t pixel, float* to) const {
  const int64_t channels = d_.channels, even = even_channels(d_), element = operand_bytes(format_);
  int64_t k = 0;
  for (int64_t kh = 0; kh < d_.kernel_h; ++kh) {
    for (int64_t kw = 0; kw < d_.kernel_w; ++kw, k += even) {
      const uint8_t* from = pixels_.at(pixel, kh, kw, nullptr);
      for (int q = 0; q < parts_of(format_); ++q) {
        float* row = to + q * part_pitch() + k;
        if (!from) {
          std::fill_n(row, even, 0.0f);
          continue;
        }
        if (d_.a_channel_pitch != element) {
          for (int64_t c = 0; c < channels; ++c) row[c] = operand_part(format_, from + c * d_.a_channel_pitch, q);
        } else {
          for (int64_t c = 0; c < channels; c += 16) {
            const int n = lanes_of(channels - c);
            store(row + c, part_of(load_operands(format_, from + c * element, n), q), n);
          }
        }
        if (channels != even) row[channels] = 0;
      }
    }
  }
}

LANES void FloatRows::split(const PixelPlaces& places, int count, int64_t k, int64_t length, float* to, int64_t pitch) const {
  const Ints high = set_ints(static_cast<int32_t>(0xFFFF0000u));
  for (int64_t at = k; at < k + length;) {
    const int64_t tap = at / d_.channels, channel = at - tap * d_.channels, end = std::min(at + d_.channels - channel, k + length);
    for (int i = 0; i < count; ++i) {
      const uint8_t* from = places.at(tap, i) + 2 * channel;
      float* row = to + i * pitch;
      int64_t c = at - k;
      for (; c + kDotBlock <= end - k && c % kDotBlock == 0; c += kDotBlock, from += 2 * kDotBlock) {
        const Ints pairs = load_ints(from);
        store(row + c, shift_left<16>(pairs));
        store(row + c + kDotBlock / 2, both(pairs, high));
      }
      for (; c < end - k; c += 16, from += 32) {  // half a block
        const Ints pairs = load_ints(from, 8);
        float* half = row + c / kDotBlock * kDotBlock + c % kDotBlock / 2;
        store(half, shift_left<16>(pairs), 8);
        store(half + kDotBlock / 2, both(pairs, high), 8);
      }
    }
    at = end;
  }
}

}  // namespace systole::SYSTOLE_LANES
#endif
