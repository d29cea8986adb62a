#include "sim/translate/lanes/tile_source.h"

#include <cstring>

#include "sim/translate/lanes/matrix.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {
namespace {

LANES void copy_channels(const isa::MatrixDesc& d, uint8_t* to, const uint8_t* from, int64_t n) {
  if (!from) {
    std::memset(to, d.a_zero, static_cast<size_t>(n));
  } else if (d.a_channel_pitch != 1) {
    for (int64_t c = 0; c < n; ++c) to[c] = from[c * d.a_channel_pitch];
  } else {
    copy_bytes(to, from, n);
  }
}

void clear_halves(uint8_t* to, int64_t n) {
  if (n > 0) std::memset(to, 0, static_cast<size_t>(2 * n));
}

/// Rows an odd number of lines apart do not meet in the same sets of a cache.
int64_t odd_lines(int64_t bytes) { return bytes % (2 * kTileStep) == 0 ? bytes + kTileStep : bytes; }

}  // namespace

LANES void split_channels(MacFormat format, const uint8_t* from, int64_t n, uint8_t* to, int64_t part_pitch) {
  for (int64_t c = 0; c < n; c += 16) {
    const int here = lanes_of(n - c);
    const Floats v = load_operands(format, from + c * operand_bytes(format), here);
    for (int q = 0; q < parts_of(format); ++q) store_halves(to + q * part_pitch + 2 * c, shift_right<16>(as_ints(part_of(v, q))), here);
  }
}

LANES void read_row(const isa::MatrixDesc& d, const PixelMap& pixels, int64_t pixel, uint8_t* to, int64_t row_pitch) {
  const int64_t channels = d.channels, run = d.kernel_w * channels;
  const bool joined = d.a_channel_pitch == 1 && d.a_pixel_pitch == d.channels && d.dilation_w == 1 && pixels.inside(pixel);
  if (joined) {  // a row of taps at once
    const uint8_t* from = pixels.at(pixel, 0, 0, nullptr);
    for (int64_t kh = 0; kh < d.kernel_h; ++kh, to += row_pitch, from += int64_t{d.dilation_h} * d.a_row_pitch) copy_bytes(to, from, run);
    return;
  }
  for (int64_t kh = 0; kh < d.kernel_h; ++kh, to += row_pitch) {
    for (int64_t kw = 0; kw < d.kernel_w; ++kw) copy_channels(d, to + kw * channels, pixels.at(pixel, kh, kw, nullptr), channels);
  }
}

TileSource::TileSource(const isa::MatrixDesc& d, const PixelMap& map, int64_t pixels, int64_t depth_bytes, uint64_t version)
    : d_(d), pixels_(map), format_(static_cast<MacFormat>(d.format)), count_(pixels), version_(version) {
  const int64_t element = operand_bytes(format_), channel_bytes = d.channels * element, taps = int64_t{d.kernel_h} * d.kernel_w;
  parts_ = format_ == MacFormat::kInt8 ? 1 : parts_of(format_);
  in_steps_ = parts_ == 1 && d.a_channel_pitch == element && channel_bytes % kTileStep == 0;
  segments_ = in_steps_ ? taps : 1, steps_ = (in_steps_ ? channel_bytes : depth_bytes) / kTileStep;
  pitch_ = odd_lines(steps_ * kTileStep);
  outside_.assign(static_cast<size_t>(channel_bytes), format_ == MacFormat::kInt8 ? static_cast<uint8_t>(d.a_zero) : 0);
}

const TileRows* TileSource::rows(int64_t tile) const {
  constexpr int64_t kMostKeptBytes = 1 << 21;  // what a level-2 cache holds
  thread_local Kept kept;
  const int64_t first = tile * kBlockRows;
  const bool keeps = version_ != 0 && count_ * parts_ * segments_ * pitch_ <= kMostKeptBytes;
  const size_t slot = keeps ? static_cast<size_t>(tile) : 0;
  if (!keeps || kept.version != version_ || kept.run != current_run()) {
    kept.run = current_run(), kept.version = keeps ? version_ : 0;
    kept.there.assign(static_cast<size_t>(keeps ? (count_ + kBlockRows - 1) / kBlockRows : 1), 0);
    if (kept.tiles.size() < kept.there.size()) kept.tiles.resize(kept.there.size());
  }
  Rows& rows = kept.tiles[slot];
  if (!kept.there[slot]) read(first, static_cast<int>(std::min<int64_t>(kBlockRows, count_ - first)), rows);
  kept.there[slot] = 1;
  return rows.list.data();
}

void TileSource::read(int64_t first, int count, Rows& rows) const {
  const int64_t row_tiles = (count + kTileRows - 1) / kTileRows;
  rows.list.resize(static_cast<size_t>(parts_ * segments_ * row_tiles));
  rows.bytes.resize(static_cast<size_t>(parts_ * segments_ * row_tiles * kTileRows * pitch_ + kTileStep));
  in_steps_ ? read_steps(first, count, rows) : read_whole(first, count, rows);
}

void TileSource::read_steps(int64_t first, int count, Rows& rows) const {
  const int64_t row_tiles = (count + kTileRows - 1) / kTileRows;
  for (int64_t g = 0; g < row_tiles; ++g) {
    const int64_t pixel = first + g * kTileRows;
    const int here = static_cast<int>(std::min<int64_t>(kTileRows, count - g * kTileRows));
    const int64_t even = here == kTileRows ? pixels_.even_pitch(pixel, here) : -1;
    if (even < 0) copy_taps(pixel, here, g * kTileRows * pitch_, row_tiles * kTileRows * pitch_, rows);
    int64_t s = 0;
    for (int64_t kh = 0; kh < d_.kernel_h; ++kh) {
      for (int64_t kw = 0; kw < d_.kernel_w; ++kw, ++s) {
        TileRows& at = rows.list[static_cast<size_t>(s * row_tiles + g)];
        if (even >= 0) at = {pixels_.at(pixel, kh, kw, nullptr), even};
        else at = {rows.bytes.data() + (s * row_tiles + g) * kTileRows * pitch_, pitch_};
      }
    }
  }
}

/// All taps of up to sixteen pixels, from `offset` in the rows' bytes, `tap_pitch` apart.
LANES void TileSource::copy_taps(int64_t first, int count, int64_t offset, int64_t tap_pitch, Rows& rows) const {
  const PixelPlaces places = pixels_.places(first, count, outside_.data(), rows.offsets);
  for (int64_t s = 0; s < segments_; ++s, offset += tap_pitch) {
    uint8_t* to = rows.bytes.data() + offset;
    for (int i = 0; i < count; ++i, to += pitch_) {
      const uint8_t* from = places.at(s, i);
      for (int64_t c = 0; c < steps_ * kTileStep; c += kTileStep) store(to + c, load_ints(from + c));
    }
  }
}

void TileSource::read_whole(int64_t first, int count, Rows& rows) const {
  const int64_t row_tiles = (count + kTileRows - 1) / kTileRows, part_pitch = row_tiles * kTileRows * pitch_;
  const bool halves_as_they_are = format_ == MacFormat::kBF16 && d_.a_channel_pitch == 2;
  if (halves_as_they_are) copy_halves_of(first, count, rows);
  for (int i = 0; i < count && !halves_as_they_are; ++i) {
    uint8_t* to = rows.bytes.data() + i * pitch_;
    format_ == MacFormat::kInt8 ? read_row(d_, pixels_, first + i, to, int64_t{d_.kernel_w} * d_.channels) : read_parts(first + i, to, part_pitch);
  }
  for (int64_t i = 0; i < parts_ * row_tiles; ++i) rows.list[static_cast<size_t>(i)] = {rows.bytes.data() + i * kTileRows * pitch_, pitch_};
}

/// bf16 whose channels lie together: all taps of up to kBlockRows pixels.
LANES void TileSource::copy_halves_of(int64_t first, int count, Rows& rows) const {
  const int64_t taps = int64_t{d_.kernel_h} * d_.kernel_w, channels = d_.channels, even = (channels + 1) / 2 * 2, whole = channels / 32 * 32;
  const PixelPlaces places = pixels_.places(first, count, outside_.data(), rows.offsets);
  for (int i = 0; i < count; ++i) {
    uint8_t* to = rows.bytes.data() + i * pitch_;
    for (int64_t t = 0; t < taps; ++t, to += 2 * even) {
      const uint8_t* from = places.at(t, i);
      for (int64_t c = 0; c < whole; c += 32) store(to + 2 * c, load_ints(from + 2 * c));
      copy_bytes(to + 2 * whole, from + 2 * whole, 2 * (channels - whole));
      if (channels != even) clear_halves(to + 2 * channels, 1);
    }
    clear_halves(to, steps_ * kTileStep / 2 - taps * even);
  }
}

/// A float pixel's taps as parts, channels in pairs, zeros where there is nothing.
LANES void TileSource::read_parts(int64_t pixel, uint8_t* to, int64_t part_pitch) const {
  const int64_t channels = d_.channels, even = (channels + 1) / 2 * 2;
  int64_t k = 0;
  for (int64_t kh = 0; kh < d_.kernel_h; ++kh) {
    for (int64_t kw = 0; kw < d_.kernel_w; ++kw, k += even) {
      const uint8_t* from = pixels_.at(pixel, kh, kw, nullptr);
      if (!from) {
        for (int64_t q = 0; q < parts_; ++q) clear_halves(to + q * part_pitch + 2 * k, even);
      } else {
        d_.a_channel_pitch == operand_bytes(format_) ? split_channels(format_, from, channels, to + 2 * k, part_pitch) : pick_channels(from, to + 2 * k, part_pitch);
        if (channels != even) clear_last(to + 2 * (k + channels), part_pitch);
      }
    }
  }
  for (int64_t q = 0; q < parts_; ++q) clear_halves(to + q * part_pitch + 2 * k, steps_ * kTileStep / 2 - k);
}

void TileSource::clear_last(uint8_t* to, int64_t part_pitch) const {
  for (int64_t q = 0; q < parts_; ++q) std::memset(to + q * part_pitch, 0, 2);
}

/// Channels that lie apart, one by one.
void TileSource::pick_channels(const uint8_t* from, uint8_t* to, int64_t part_pitch) const {
  for (int q = 0; q < parts_; ++q) {
    for (int64_t c = 0; c < d_.channels; ++c) {
      const auto half = static_cast<uint16_t>(std::bit_cast<uint32_t>(operand_part(format_, from + c * d_.a_channel_pitch, q)) >> 16);
      std::memcpy(to + q * part_pitch + 2 * c, &half, 2);
    }
  }
}

}  // namespace systole::SYSTOLE_LANES
#endif
