#include "sim/translate/tile_source.h"

#include <cstring>

#include "sim/translate/kernel.h"
#include "sim/translate/matrix_parts.h"

#ifdef SYSTOLE_HAS_AVX512
namespace systole {
namespace {

/// Copies n bytes, in vectors of which the last is masked.
SYSTOLE_AVX512 void copy_bytes(uint8_t* to, const uint8_t* from, int64_t n) {
  for (int64_t c = 0; c < n; c += 64) {
    const __mmask64 mask = n - c >= 64 ? ~__mmask64{0} : (__mmask64{1} << (n - c)) - 1;
    _mm512_mask_storeu_epi8(to + c, mask, _mm512_maskz_loadu_epi8(mask, from + c));
  }
}

void copy_channels(const isa::MatrixDesc& d, uint8_t* to, const uint8_t* from, int64_t n) {
  if (!from) {
    std::memset(to, d.a_zero, static_cast<size_t>(n));
  } else if (d.a_channel_pitch != 1) {
    for (int64_t c = 0; c < n; ++c) to[c] = from[c * d.a_channel_pitch];
  } else {
    copy_bytes(to, from, n);
  }
}

__mmask32 mask32(int64_t left) { return left >= 32 ? ~__mmask32{0} : left <= 0 ? 0 : (__mmask32{1} << left) - 1; }
SYSTOLE_AVX512_INLINE void clear_halves(uint8_t* to, int64_t n) {
  for (int64_t c = 0; c < n; c += 32) _mm512_mask_storeu_epi16(to + 2 * c, mask32(n - c), _mm512_setzero_si512());
}

/// Sixteen fp32 whose significands are bf16's, as bf16.
SYSTOLE_AVX512_INLINE __m256i halves(__m512 v) { return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(v), 16)); }

SYSTOLE_AVX512 void split_channels(MacFormat format, const uint8_t* from, int64_t n, uint8_t* to, int64_t part_pitch) {
  for (int64_t c = 0; c < n; c += 16) {
    const __mmask16 mask = Accumulators::mask(n - c);
    const __m512 v = operand_x16(format, mask, from + c * operand_bytes(format));
    for (int q = 0; q < parts_of(format); ++q) _mm256_mask_storeu_epi16(to + q * part_pitch + 2 * c, mask, halves(bf16_part_x16(v, q)));
  }
}

/// Rows an odd number of lines apart do not meet in the same sets of a cache.
int64_t odd_lines(int64_t bytes) { return bytes % (2 * kTileStep) == 0 ? bytes + kTileStep : bytes; }

}  // namespace

void read_row(const isa::MatrixDesc& d, const PixelMap& pixels, int64_t pixel, uint8_t* to) {
  const bool joined = d.a_channel_pitch == 1 && d.a_pixel_pitch == d.channels && d.dilation_w == 1 && pixels.inside(pixel);
  const int64_t run = joined ? int64_t{d.kernel_w} * d.channels : d.channels, runs = joined ? 1 : d.kernel_w;
  for (int64_t kh = 0; kh < d.kernel_h; ++kh) {
    for (int64_t kw = 0; kw < runs; ++kw, to += run) copy_channels(d, to, pixels.at(pixel, kh, kw, nullptr), run);
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
SYSTOLE_AVX512 void TileSource::copy_taps(int64_t first, int count, int64_t offset, int64_t tap_pitch, Rows& rows) const {
  rows.pixels.resize(static_cast<size_t>(segments_ * count + PixelMap::kSlack));
  pixels_.pointers(first, count, outside_.data(), rows.pixels.data());
  const uint8_t* const* from = rows.pixels.data();
  for (int64_t s = 0; s < segments_; ++s, offset += tap_pitch) {
    uint8_t* to = rows.bytes.data() + offset;
    for (int i = 0; i < count; ++i, to += pitch_, ++from) {
      for (int64_t c = 0; c < steps_ * kTileStep; c += kTileStep) _mm512_storeu_si512(to + c, _mm512_loadu_si512(*from + c));
    }
  }
}

void TileSource::read_whole(int64_t first, int count, Rows& rows) const {
  const int64_t row_tiles = (count + kTileRows - 1) / kTileRows, part_pitch = row_tiles * kTileRows * pitch_;
  const bool halves_as_they_are = format_ == MacFormat::kBF16 && d_.a_channel_pitch == 2;
  if (halves_as_they_are) copy_halves_of(first, count, rows);
  for (int i = 0; i < count && !halves_as_they_are; ++i) {
    uint8_t* to = rows.bytes.data() + i * pitch_;
    format_ == MacFormat::kInt8 ? read_row(d_, pixels_, first + i, to) : read_parts(first + i, to, part_pitch);
  }
  for (int64_t i = 0; i < parts_ * row_tiles; ++i) rows.list[static_cast<size_t>(i)] = {rows.bytes.data() + i * kTileRows * pitch_, pitch_};
}

/// bf16 whose channels lie together: all taps of up to kBlockRows pixels.
SYSTOLE_AVX512 void TileSource::copy_halves_of(int64_t first, int count, Rows& rows) const {
  const int64_t taps = int64_t{d_.kernel_h} * d_.kernel_w, channels = d_.channels, even = (channels + 1) / 2 * 2, whole = channels / 32 * 32;
  const __mmask32 last = mask32(channels - whole), room = mask32(even - whole);
  rows.pixels.resize(static_cast<size_t>(taps * count + PixelMap::kSlack));
  pixels_.pointers(first, count, outside_.data(), rows.pixels.data());
  for (int i = 0; i < count; ++i) {
    uint8_t* to = rows.bytes.data() + i * pitch_;
    const uint8_t* const* from = rows.pixels.data() + i;
    for (int64_t t = 0; t < taps; ++t, from += count, to += 2 * even) {
      for (int64_t c = 0; c < whole; c += 32) _mm512_storeu_si512(to + 2 * c, _mm512_loadu_si512(*from + 2 * c));
      if (room) _mm512_mask_storeu_epi16(to + 2 * whole, room, _mm512_maskz_loadu_epi16(last, *from + 2 * whole));
    }
    clear_halves(to, steps_ * kTileStep / 2 - taps * even);
  }
}

/// A float pixel's taps as parts, channels in pairs, zeros where there is nothing.
SYSTOLE_AVX512 void TileSource::read_parts(int64_t pixel, uint8_t* to, int64_t part_pitch) const {
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

}  // namespace systole
#endif
