// MX on floats: rows of A widened to fp32 parts tile by tile, B packed as bf16 parts, dot32 blocks over all of K.
#include <cstring>
#include <optional>

#include "sim/functional/flush_mode.h"
#include "sim/translate/lanes/dot32.h"
#include "sim/translate/lanes/matrix.h"
#include "sim/translate/lanes/tile_source.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {
namespace {

int64_t even_channels(const isa::MatrixDesc& d) { return (int64_t{d.channels} + 1) / 2 * 2; }
int64_t blocks_of(const isa::MatrixDesc& d) { return (int64_t{d.kernel_h} * d.kernel_w * even_channels(d) + kDotBlock - 1) / kDotBlock; }
/// Bytes of one panel of one part.
int64_t panel_bytes(int64_t blocks) { return blocks * kDotBlock * kDotColumns * 2; }

constexpr int64_t kFewPixels = 2;  ///< so many take less time without tiles

class FloatMatrix final : public Kernel {
 public:
  FloatMatrix(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed, uint64_t a_version)
      : op_(op), d_(*op.desc), pixels_(op_, memory.scratchpad.data()), format_(static_cast<MacFormat>(d_.format)), acc_(memory, op, columns), packed_(std::move(packed)), blocks_(blocks_of(d_)), depth_(blocks_ * kDotBlock) {
    if (has_tile_kernels() && acc_.pixels() > kFewPixels) source_.emplace(d_, pixels_, acc_.pixels(), 2 * depth_, a_version);
    panels_ = (acc_.outputs() + kDotColumns - 1) / kDotColumns;
    pairs_ = int64_t{d_.kernel_h} * d_.kernel_w * even_channels(d_) / 2;
    in_order_ = format_ == MacFormat::kBF16 && d_.a_channel_pitch == 2;
    if (in_order_) outside_.assign(2 * d_.channels, 0);
    in_stretches_ = kSplits && in_order_ && d_.channels % 16 == 0 && !source_;
    narrow_ = acc_.outputs() <= kDotColumns / 2;
    together_ = acc_.pixels() == 1 ? 4 : 1;
    tile_rows_ = source_ ? kBlockRows : narrow_ ? kDotNarrowRows : kDotRows;
    tiles_ = (acc_.pixels() + tile_rows_ - 1) / tile_rows_;
    in_stretches_ = in_stretches_ && acc_.pixels() > 2 * tile_rows_;
    groups_ = acc_.pixels() <= 2 * tile_rows_ ? (panels_ + together_ - 1) / together_ : 1;
  }
  WorkClass work_class() const override { return WorkClass::kMatrixFloat; }
  /// A tile's panels are one piece, so that A is widened once; few tiles are cut by panels too.
  int64_t pieces() const override { return tiles_ * groups_; }
  double cost_ns() const override { return static_cast<double>(acc_.pixels() * panels_ * kDotColumns * depth_ * passes_of(format_)) / 40; }

  void run(int64_t begin, int64_t end) const override { source_ ? run_tiles(begin, end) : run_rows(begin, end); }

 private:
  /// Blocks of kBlockRows pixels, the last one with what is left.
  void run_tiles(int64_t begin, int64_t end) const {
    const TileRows* rows = nullptr;
    for (int64_t piece = begin, at = -1; piece < end; ++piece) {
      const int64_t tile = piece / groups_, first = tile * kBlockRows;
      const int count = static_cast<int>(std::min<int64_t>(kBlockRows, acc_.pixels() - first));
      if (tile != at) {
        at = tile;
        rows = source_->rows(tile);
      }
      const int64_t share = (panels_ + groups_ - 1) / groups_, last = std::min(panels_, (piece % groups_ + 1) * share);
      for (int64_t panel = piece % groups_ * share; panel < last; ++panel) multiply_block(rows, first, count, panel);
    }
  }

  LANES void multiply_block(const TileRows* rows, int64_t first, int count, int64_t panel) const {
    alignas(64) float sums[kBlockRows * kDotColumns];
    const int64_t column = panel * kDotColumns, left = acc_.outputs() - column;
    TileProduct p{rows, nullptr, source_->segments(), source_->steps(), (count + kTileRows - 1) / kTileRows, narrow_ ? 1 : 2, {}};
    const bool straight = acc_.whole_vectors() && count % kTileRows == 0 && left >= p.column_tiles * kTileColumns;
    for (int r = 0; r < p.row_tiles; ++r)
      for (int c = 0; c < p.column_tiles; ++c) {
        TileSums& s = p.sums[r][c];
        const int64_t pixel = first + r * kTileRows, o = column + c * kTileColumns;
        if (straight) {
          s = {nullptr, 0, acc_.sixteen(pixel, o), 4 * acc_.pixel_pitch()};
          if (acc_.keeps()) s.from = s.to, s.from_pitch = s.to_pitch;
          else s.from = acc_.bias(o);
          continue;
        }
        float* at = sums + r * kTileRows * kDotColumns + c * kTileColumns;
        for (int i = 0; i < std::min<int>(kTileRows, count - r * kTileRows); ++i) store(at + i * kDotColumns, o < acc_.outputs() ? initial_sums(acc_, pixel + i, o) : set_ints(0));
        s = {at, 4 * kDotColumns, at, 4 * kDotColumns};
      }
    const Pass* passes = passes_in(format_);
    for (int64_t q = 0; q < passes_of(format_); ++q) {
      p.a = rows + passes[q].a_part * source_->segments() * p.row_tiles;
      p.b = packed_->bytes.data() + (passes[q].b_part * panels_ + panel) * panel_bytes(blocks_);
      multiply_tiles(TileArithmetic::kDot32, p);
      for (auto& list : p.sums) for (TileSums& s : list) s.from = s.to, s.from_pitch = s.to_pitch;  // the next pass goes on
    }
    finish(p, first, count, column, straight);
  }

  /// Canonical NaNs, and sums that lie apart into the accumulators.
  LANES void finish(const TileProduct& p, int64_t first, int count, int64_t column, bool straight) const {
    for (int r = 0; r < p.row_tiles; ++r)
      for (int c = 0; c < p.column_tiles && column + c * kTileColumns < acc_.outputs(); ++c) {
        const TileSums& s = p.sums[r][c];
        auto* at = static_cast<uint8_t*>(s.to);
        for (int i = 0; i < std::min<int>(kTileRows, count - r * kTileRows); ++i, at += s.to_pitch) {
          const Floats v = load_floats(at);
          if (!straight) store_sums(acc_, first + r * kTileRows + i, column + c * kTileColumns, as_ints(canonical(v)));
          else if (any(unordered(v))) store(at, canonical(v));
        }
      }
  }

  void run_rows(int64_t begin, int64_t end) const {
    if (in_stretches_) return run_stretches(begin, end);
    if (format_ != MacFormat::kBF16) return multiply_rows(begin, end);
    const FlushMode flush;  // widening bf16 is no arithmetic
    multiply_rows(begin, end);
  }
  void multiply_rows(int64_t begin, int64_t end) const {
    thread_local std::vector<float> a;
    a.resize(static_cast<size_t>(parts_of(format_) * tile_rows_ * depth_));
    for (int64_t piece = begin, at = -1; piece < end; ++piece) {
      const int64_t tile = piece / groups_, first = tile * acc_.pixels() / tiles_;
      const int count = static_cast<int>((tile + 1) * acc_.pixels() / tiles_ - first);
      if (tile != at) {
        at = tile;
        if (in_order_) widen_tile(first, count, a.data());
        else for (int i = 0; i < count; ++i) widen(first + i, a.data() + i * depth_);
      }
      const int64_t share = (panels_ + groups_ - 1) / groups_, last = std::min(panels_, (piece % groups_ + 1) * share);
      for (int64_t panel = piece % groups_ * share; panel < last; panel += together_) multiply(a.data(), first, count, panel, static_cast<int>(std::min<int64_t>(together_, last - panel)));
    }
  }

  // Stretches of K, so that what a kernel reads stays in the first-level cache: a stretch of B for a few tiles, a stretch of A for
  // all panels. dot32 adds block after block, so that sums may rest in between.
  static constexpr int64_t kStretch = 256, kTogether = 8, kMostSums = 1 << 13;

  void run_stretches(int64_t begin, int64_t end) const {
    const FlushMode flush;
    const int64_t width = narrow_ ? kDotColumns / 2 : kDotColumns, of_tile = tile_rows_ * width * panels_, together = std::clamp<int64_t>(kMostSums / of_tile, 1, kTogether);
    thread_local std::vector<float> sums;
    thread_local std::vector<const uint8_t*> rows[kTogether];
    alignas(64) float a[kDotNarrowRows * kStretch];
    sums.resize(static_cast<size_t>(together * of_tile));
    for (int64_t at = begin; at < end; at += together) {
      const int64_t tiles = std::min(together, end - at);
      for (int64_t t = 0; t < tiles; ++t) start_tile(first_of(at + t), count_of(at + t), sums.data() + t * of_tile, rows[t]);
      for (int64_t k = 0; k < 2 * pairs_; k += kStretch) {
        const int64_t length = std::min(kStretch, 2 * pairs_ - k);
        for (int64_t t = 0; t < tiles; ++t) {
          const int count = count_of(at + t);
          split_stretch(rows[t].data(), count, k, length, a);
          for (int64_t panel = 0; panel < panels_; ++panel) {
            const uint8_t* b = packed_->bytes.data() + panel * panel_bytes(blocks_) + k * width * 2;
            multiply_dot32(sums.data() + t * of_tile + panel * tile_rows_ * width, a, kStretch, count, b, 0, 1, length / 2, narrow_, true);
          }
        }
      }
      for (int64_t t = 0; t < tiles; ++t) end_tile(first_of(at + t), count_of(at + t), sums.data() + t * of_tile);
    }
  }
  int64_t first_of(int64_t tile) const { return tile * acc_.pixels() / tiles_; }
  int count_of(int64_t tile) const { return static_cast<int>(first_of(tile + 1) - first_of(tile)); }

  /// Sums as [panel][row][width], and where the tile's pixels lie.
  LANES void start_tile(int64_t first, int count, float* sums, std::vector<const uint8_t*>& rows) const {
    const int64_t width = narrow_ ? kDotColumns / 2 : kDotColumns;
    rows.resize(static_cast<size_t>(int64_t{d_.kernel_h} * d_.kernel_w * count + PixelMap::kSlack));
    pixels_.pointers(first, count, outside_.data(), rows.data());
    for (int64_t o = 0; o < panels_ * width; o += 16) {
      float* to = sums + o / width * tile_rows_ * width + o % width;
      for (int r = 0; r < count; ++r) store(to + r * width, o < acc_.outputs() ? initial_sums(acc_, first + r, o) : set_ints(0));
    }
  }
  LANES void end_tile(int64_t first, int count, const float* sums) const {
    const int64_t width = narrow_ ? kDotColumns / 2 : kDotColumns;
    for (int64_t o = 0; o < acc_.outputs(); o += 16) {
      const float* from = sums + o / width * tile_rows_ * width + o % width;
      for (int r = 0; r < count; ++r) store_sums(acc_, first + r, o, as_ints(canonical(load_floats(from + r * width))));
    }
  }

  /// Channels [k, k + length) of all taps of a tile's pixels as fp32, `kStretch` from row to row, the even ones of each block first.
  LANES void split_stretch(const uint8_t* const* rows, int count, int64_t k, int64_t length, float* to) const {
    const Ints high = set_ints(static_cast<int32_t>(0xFFFF0000u));
    for (int64_t at = k; at < k + length;) {
      const int64_t tap = at / d_.channels, channel = at - tap * d_.channels, end = std::min(at + d_.channels - channel, k + length);
      for (int i = 0; i < count; ++i) {
        const uint8_t* from = rows[tap * count + i] + 2 * channel;
        float* row = to + i * kStretch;
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

  LANES void multiply(const float* a, int64_t first, int count, int64_t panel, int panels) const {
    alignas(64) float sums[kDotRows * kDotColumns];  // or 12 narrow rows, or four panels of one row
    const int64_t column = panel * kDotColumns, width = narrow_ ? kDotColumns / 2 : int64_t{panels} * kDotColumns, n = std::min(column + width, acc_.outputs());
    for (int r = 0; r < count; ++r)
      for (int64_t o = column; o < column + width; o += 16) {
        store(sums + r * width + (o - column), o < n ? initial_sums(acc_, first + r, o) : set_ints(0));
      }
    multiply_passes(sums, a, count, panel, panels);
    for (int r = 0; r < count; ++r)
      for (int64_t o = column; o < n; o += 16) store_sums(acc_, first + r, o, as_ints(canonical(load_floats(sums + r * width + (o - column)))));
  }

  void multiply_passes(float* sums, const float* a, int count, int64_t panel, int panels) const {
    const Pass* passes = passes_in(format_);
    auto all = [&] {
      for (int64_t q = 0; q < passes_of(format_); ++q) {
        const uint8_t* b = packed_->bytes.data() + (passes[q].b_part * panels_ + panel) * panel_bytes(blocks_);
        multiply_dot32(sums, a + passes[q].a_part * tile_rows_ * depth_, depth_, count, b, panel_bytes(blocks_), panels, pairs_, narrow_);
      }
    };
    if (format_ == MacFormat::kBF16) return all();
    const FlushMode flush;  // splitting into parts, which comes before it, keeps subnormals
    all();
  }

  /// A tile's pixels of bf16 whose channels lie together.
  LANES void widen_tile(int64_t first, int count, float* to) const {
    thread_local std::vector<const uint8_t*> rows;
    const int64_t taps = int64_t{d_.kernel_h} * d_.kernel_w, channels = d_.channels, even = even_channels(d_);
    rows.resize(static_cast<size_t>(taps * count + PixelMap::kSlack));
    pixels_.pointers(first, count, outside_.data(), rows.data());
    const uint8_t* const* from = rows.data();
    if (channels <= 4) return widen_few(from, count, taps, to);
    for (int64_t t = 0; t < taps; ++t, to += even) {
      for (int i = 0; i < count; ++i, ++from) {
        widen_bf16(to + i * depth_, *from, channels);
        if (channels != even) to[i * depth_ + channels] = 0;
      }
    }
  }

  /// Up to four channels: a picture's.
  void widen_few(const uint8_t* const* from, int count, int64_t taps, float* to) const {
    (d_.channels == 1 ? widen_exactly<1> : d_.channels == 2 ? widen_exactly<2> : d_.channels == 3 ? widen_exactly<3> : widen_exactly<4>)(from, count, taps, to, depth_);
  }
  template <int kChannels>
  static void widen_exactly(const uint8_t* const* from, int count, int64_t taps, float* to, int64_t pitch) {
    constexpr int kEven = (kChannels + 1) / 2 * 2;
    for (int64_t t = 0; t < taps; ++t, to += kEven) {
      for (int i = 0; i < count; ++i, ++from) {
        uint16_t halves[kEven] = {};
        std::memcpy(halves, *from, 2 * kChannels);
        uint32_t wide[kEven];
        for (int c = 0; c < kEven; ++c) wide[c] = static_cast<uint32_t>(halves[c]) << 16;
        std::memcpy(to + i * pitch, wide, sizeof wide);
      }
    }
  }

  /// Pixel p's taps as fp32 parts, a tile's rows x depth apart, zeros where there is nothing. Beyond the last tap nothing is read.
  LANES void widen(int64_t p, float* to) const {
    const int64_t channels = d_.channels, even = even_channels(d_), element = operand_bytes(format_);
    const int parts = parts_of(format_);
    int64_t k = 0;
    for (int64_t kh = 0; kh < d_.kernel_h; ++kh) {
      for (int64_t kw = 0; kw < d_.kernel_w; ++kw, k += even) {
        const uint8_t* from = pixels_.at(p, kh, kw, nullptr);
        for (int q = 0; q < parts; ++q) {
          float* row = to + q * tile_rows_ * depth_ + k;
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

  LANES_INLINE static void widen_bf16(float* to, const uint8_t* from, int64_t n) {
    int64_t c = 0;
    for (; c + 16 <= n; c += 16) store(to + c, shift_left<16>(load_halves(from + 2 * c)));
    if (c < n) store(to + c, shift_left<16>(load_halves(from + 2 * c, lanes_of(n - c))), lanes_of(n - c));
  }

  const isa::MatrixOp op_;
  const isa::MatrixDesc& d_;
  const PixelMap pixels_;
  MacFormat format_;
  const Accumulators acc_;
  std::shared_ptr<const PackedB> packed_;
  bool narrow_;
  bool in_order_;      ///< bf16 whose channels lie together
  bool in_stretches_;  ///< multiplied stretch by stretch of K
  std::vector<uint8_t> outside_;
  int64_t blocks_, pairs_, depth_, panels_, together_, tile_rows_, tiles_, groups_;
  std::optional<TileSource> source_;  ///< where tiles multiply
};

}  // namespace

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

/// Sixteen columns of all k, in pairs, as parts; `to` is their place in part 0, others `part_bytes` on.
LANES void pack_sixteen(const isa::MatrixDesc& d, const ColumnReader& reader, int64_t first, int count, int64_t width, int64_t part_bytes, uint8_t* to) {
  const auto format = static_cast<MacFormat>(d.format);
  const Ints high = set_ints(static_cast<int32_t>(0xFFFF0000u));
  const int64_t taps = int64_t{d.kernel_h} * d.kernel_w, channels = d.channels;
  for (int64_t t = 0; t < taps; ++t) {
    for (int64_t c = 0; c < channels; c += 2, to += width * 4) {
      const int64_t k = t * channels + c;
      const Floats even = reader.read(first, k, count), odd = c + 1 < channels ? reader.read(first, k + 1, count) : set(0.0f);
      for (int q = 0; q < parts_of(format); ++q) {
        const bool whole = format == MacFormat::kBF16;
        const Ints a = as_ints(whole ? even : part_of(even, q)), b = as_ints(whole ? odd : part_of(odd, q));
        store(to + q * part_bytes, either(shift_right<16>(a), both(b, high)));
      }
    }
  }
}

}  // namespace

/// [part][panel of 32 columns][k / 2][column][2] as bf16, k padded as dot32 asks; 16 columns where there are no more.
void pack_float_b(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out) {
  const isa::MatrixDesc& d = *op.desc;
  const auto format = static_cast<MacFormat>(d.format);
  const int64_t taps = int64_t{d.kernel_h} * d.kernel_w, even = even_channels(d), blocks = blocks_of(d), n = op.n, panels = (n + kDotColumns - 1) / kDotColumns;
  const int64_t width = n <= kDotColumns / 2 ? kDotColumns / 2 : kDotColumns, part_bytes = panels * panel_bytes(blocks);
  out.bytes.resize(static_cast<size_t>(parts_of(format) * part_bytes));
  for (int64_t at = 0; at < parts_of(format) * panels; ++at) {  // what K and n leave empty
    const int64_t used = taps * even / 2 * width * 4;
    std::fill_n(out.bytes.data() + at * panel_bytes(blocks) + used, panel_bytes(blocks) - used, 0);
    if (at % panels == panels - 1 && n % width != 0) std::fill_n(out.bytes.data() + at * panel_bytes(blocks), used, 0);
  }
  const ColumnReader reader(d, b);
  for (int64_t o = 0; columns % 16 == 0 && o < n; o += 16) {
    uint8_t* to = out.bytes.data() + o / kDotColumns * panel_bytes(blocks) + o % kDotColumns * 4;
    pack_sixteen(d, reader, o / columns * d.b_tile_pitch + o % columns * d.b_column_pitch, lanes_of(n - o), width, part_bytes, to);
  }
  for (int64_t o = 0; columns % 16 != 0 && o < n; ++o) {
    for (int64_t i = 0; i < taps * d.channels; ++i) {
      const int64_t k = i / d.channels * even + i % d.channels;
      for (int q = 0; q < parts_of(format); ++q) {
        const uint8_t* from = b + o / columns * d.b_tile_pitch + i * d.b_row_pitch + o % columns * d.b_column_pitch;
        const auto bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(operand_part(format, from, q)) >> 16);
        uint8_t* pair = out.bytes.data() + q * part_bytes + o / kDotColumns * panel_bytes(blocks) + (k / 2 * width + o % kDotColumns) * 4;
        std::memcpy(pair + k % 2 * 2, &bits, 2);
        if (i % d.channels == d.channels - 1 && d.channels % 2) std::memset(pair + 2, 0, 2);
      }
    }
  }
}

std::unique_ptr<Kernel> float_matrix(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed, uint64_t a_version) {
  return std::make_unique<FloatMatrix>(memory, op, columns, std::move(packed), a_version);
}

}  // namespace systole::SYSTOLE_LANES
#endif
