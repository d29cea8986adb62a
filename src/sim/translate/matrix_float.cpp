// MX on floats: rows of A widened to fp32 parts tile by tile, B packed as bf16 parts, dot32 blocks over all of K.
#include <cstring>
#include <optional>

#include "sim/functional/flush_mode.h"
#include "sim/translate/kernel.h"
#include "sim/translate/matrix_dot32.h"
#include "sim/translate/matrix_kernels.h"
#include "sim/translate/matrix_parts.h"
#include "sim/translate/tile_source.h"

namespace systole {
#ifdef SYSTOLE_HAS_AVX512
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
    narrow_ = acc_.outputs() <= kDotColumns / 2;
    together_ = acc_.pixels() == 1 ? 4 : 1;
    tile_rows_ = source_ ? kBlockRows : narrow_ ? kDotNarrowRows : kDotRows;
    tiles_ = (acc_.pixels() + tile_rows_ - 1) / tile_rows_;
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

  SYSTOLE_AVX512 void multiply_block(const TileRows* rows, int64_t first, int count, int64_t panel) const {
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
        for (int i = 0; i < std::min<int>(kTileRows, count - r * kTileRows); ++i) _mm512_store_ps(at + i * kDotColumns, o < acc_.outputs() ? _mm512_castsi512_ps(acc_.initial_x16(pixel + i, o)) : _mm512_setzero_ps());
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
  SYSTOLE_AVX512 void finish(const TileProduct& p, int64_t first, int count, int64_t column, bool straight) const {
    for (int r = 0; r < p.row_tiles; ++r)
      for (int c = 0; c < p.column_tiles && column + c * kTileColumns < acc_.outputs(); ++c) {
        const TileSums& s = p.sums[r][c];
        auto* at = static_cast<uint8_t*>(s.to);
        for (int i = 0; i < std::min<int>(kTileRows, count - r * kTileRows); ++i, at += s.to_pitch) {
          const __m512 v = _mm512_loadu_ps(at);
          if (!straight) acc_.store_x16(first + r * kTileRows + i, column + c * kTileColumns, _mm512_castps_si512(canonical_x16(v)));
          else if (_mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q)) _mm512_storeu_ps(at, canonical_x16(v));
        }
      }
  }

  void run_rows(int64_t begin, int64_t end) const {
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

  SYSTOLE_AVX512 void multiply(const float* a, int64_t first, int count, int64_t panel, int panels) const {
    alignas(64) float sums[kDotRows * kDotColumns];  // or 12 narrow rows, or four panels of one row
    const int64_t column = panel * kDotColumns, width = narrow_ ? kDotColumns / 2 : int64_t{panels} * kDotColumns, n = std::min(column + width, acc_.outputs());
    for (int r = 0; r < count; ++r)
      for (int64_t o = column; o < column + width; o += 16) {
        _mm512_store_ps(sums + r * width + (o - column), o < n ? _mm512_castsi512_ps(acc_.initial_x16(first + r, o)) : _mm512_setzero_ps());
      }
    multiply_passes(sums, a, count, panel, panels);
    for (int r = 0; r < count; ++r)
      for (int64_t o = column; o < n; o += 16) acc_.store_x16(first + r, o, _mm512_castps_si512(canonical_x16(_mm512_load_ps(sums + r * width + (o - column)))));
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
  SYSTOLE_AVX512 void widen_tile(int64_t first, int count, float* to) const {
    thread_local std::vector<const uint8_t*> rows;
    const int64_t taps = int64_t{d_.kernel_h} * d_.kernel_w, channels = d_.channels, even = even_channels(d_);
    rows.resize(static_cast<size_t>(taps * count + PixelMap::kSlack));
    pixels_.pointers(first, count, outside_.data(), rows.data());
    const uint8_t* const* from = rows.data();
    for (int64_t t = 0; t < taps; ++t, to += even) {
      for (int i = 0; i < count; ++i, ++from) {
        widen_bf16(to + i * depth_, *from, channels);
        if (channels != even) to[i * depth_ + channels] = 0;
      }
    }
  }

  /// Pixel p's taps as fp32 parts, a tile's rows x depth apart, zeros where there is nothing. Beyond the last tap nothing is read.
  SYSTOLE_AVX512 void widen(int64_t p, float* to) const {
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
              const __mmask16 mask = Accumulators::mask(channels - c);
              const __m512 v = operand_x16(format_, mask, from + c * element);
              _mm512_mask_storeu_ps(row + c, mask, bf16_part_x16(v, q));
            }
          }
          if (channels != even) row[channels] = 0;
        }
      }
    }
  }

  SYSTOLE_AVX512_INLINE static void widen_bf16(float* to, const uint8_t* from, int64_t n) {
    int64_t c = 0;
    for (; c + 16 <= n; c += 16) {
      const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 2 * c));
      _mm512_storeu_si512(to + c, _mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
    }
    if (c < n) _mm512_mask_storeu_ps(to + c, Accumulators::mask(n - c), operand_x16(MacFormat::kBF16, Accumulators::mask(n - c), from + 2 * c));
  }

  const isa::MatrixOp op_;
  const isa::MatrixDesc& d_;
  const PixelMap pixels_;
  MacFormat format_;
  const Accumulators acc_;
  std::shared_ptr<const PackedB> packed_;
  bool narrow_;
  bool in_order_;  ///< bf16 whose channels lie together
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
  SYSTOLE_AVX512_INLINE __m512 read(int64_t first, int64_t k, int64_t count) const {
    const uint8_t* from = b_ + first + k * d_.b_row_pitch;
    const __mmask16 mask = Accumulators::mask(count);
    if (d_.b_column_pitch == static_cast<uint32_t>(element_)) return operand_x16(format_, mask, from);
    const __m512i lanes = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi32(static_cast<int32_t>(d_.b_column_pitch)));
    const __m512i bits = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), mask, lanes, from, 1);  // 16-bit operands: two bytes more than they have
    if (format_ == MacFormat::kF32) return _mm512_castsi512_ps(bits);
    if (format_ == MacFormat::kBF16) return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(bits));
  }

 private:
  const isa::MatrixDesc& d_;
  const uint8_t* b_;
  MacFormat format_;
  int64_t element_;
};

/// Sixteen columns of all k, in pairs, as parts; `to` is their place in part 0, others `part_bytes` on.
SYSTOLE_AVX512 void pack_sixteen(const isa::MatrixDesc& d, const ColumnReader& reader, int64_t first, int64_t count, int64_t width, int64_t part_bytes, uint8_t* to) {
  const auto format = static_cast<MacFormat>(d.format);
  const __m512i high = _mm512_set1_epi32(static_cast<int32_t>(0xFFFF0000u));
  const int64_t taps = int64_t{d.kernel_h} * d.kernel_w, channels = d.channels;
  for (int64_t t = 0; t < taps; ++t) {
    for (int64_t c = 0; c < channels; c += 2, to += width * 4) {
      const int64_t k = t * channels + c;
      const __m512 even = reader.read(first, k, count), odd = c + 1 < channels ? reader.read(first, k + 1, count) : _mm512_setzero_ps();
      for (int q = 0; q < parts_of(format); ++q) {
        const bool whole = format == MacFormat::kBF16;
        const __m512i a = _mm512_castps_si512(whole ? even : bf16_part_x16(even, q)), b = _mm512_castps_si512(whole ? odd : bf16_part_x16(odd, q));
        _mm512_storeu_si512(to + q * part_bytes, _mm512_or_si512(_mm512_srli_epi32(a, 16), _mm512_and_si512(b, high)));
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
    pack_sixteen(d, reader, o / columns * d.b_tile_pitch + o % columns * d.b_column_pitch, std::min<int64_t>(16, n - o), width, part_bytes, to);
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
#endif

}  // namespace systole
