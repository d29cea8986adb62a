// MX on integers: A as bytes, straight from the scratchpad where channels come in fours, else gathered pixel by pixel;
// zero points by correction: sum (a - za)(b - zb) = sum a (b - zb) - za sum (b - zb).
#include <cstring>
#include <optional>

#include "sim/translate/kernel.h"
#include "sim/translate/matrix_int8.h"
#include "sim/translate/matrix_kernels.h"
#include "sim/translate/matrix_parts.h"
#include "sim/translate/tile_source.h"

namespace systole {
#ifdef SYSTOLE_HAS_AVX512
namespace {

constexpr int64_t kFewPixels = 3;  ///< so many take less time without tiles

/// Of B as it is packed: whole fours, or whole steps of tiles.
int64_t depth_of(const isa::MatrixDesc& d) {
  const int64_t unit = has_tile_kernels() ? kTileStep : kInt8Depth;
  return (int64_t{d.kernel_h} * d.kernel_w * d.channels + unit - 1) / unit * unit;
}
/// A's zero point as that of the bytes the kernel sees: signed values have their top bit turned.
int byte_zero(const isa::MatrixDesc& d) { return d.a_zero + (d.a_signed ? 128 : 0); }
bool reads_directly(const isa::MatrixDesc& d) { return d.channels % kInt8Depth == 0 && d.a_channel_pitch == 1; }

class IntegerMatrix final : public Kernel {
 public:
  IntegerMatrix(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed, uint64_t a_version)
      : op_(op), d_(*op.desc), acc_(memory, op, columns), packed_(std::move(packed)), pixels_(op_, memory.scratchpad.data()), depth_(depth_of(d_)), direct_(reads_directly(d_)),
        zero_(byte_zero(d_)) {
    if (has_tile_kernels() && acc_.pixels() > kFewPixels) source_.emplace(d_, pixels_, acc_.pixels(), depth_, a_version), zero_ = d_.a_zero;
    const int64_t rows = source_ ? kBlockRows : kInt8Rows;
    tiles_ = (acc_.pixels() + rows - 1) / rows;
    panels_ = (acc_.outputs() + kInt8Columns - 1) / kInt8Columns;
    if (direct_) outside_.assign(d_.channels, static_cast<uint8_t>(d_.a_zero));
  }
  WorkClass work_class() const override { return WorkClass::kMatrixInteger; }
  int64_t pieces() const override { return tiles_ * panels_; }
  double cost_ns() const override { return static_cast<double>(acc_.pixels() * panels_ * kInt8Columns * depth_) / 150; }

  void run(int64_t begin, int64_t end) const override { source_ ? run_tiles(begin, end) : run_rows(begin, end); }

 private:
  /// Blocks of kBlockRows pixels, the last one with what is left.
  void run_tiles(int64_t begin, int64_t end) const {
    const TileRows* rows = nullptr;
    for (int64_t piece = begin, at = -1; piece < end; ++piece) {
      const int64_t tile = piece / panels_, panel = piece - tile * panels_, first = tile * kBlockRows;
      const int count = static_cast<int>(std::min<int64_t>(kBlockRows, acc_.pixels() - first));
      if (at != tile) {
        at = tile;
        rows = source_->rows(tile);
      }
      multiply_block(rows, first, count, panel);
    }
  }

  SYSTOLE_AVX512 void multiply_block(const TileRows* rows, int64_t first, int count, int64_t panel) const {
    alignas(64) int32_t sums[kBlockRows * kInt8Columns], start[kInt8Columns];
    const int64_t column = panel * kInt8Columns, left = acc_.outputs() - column;
    TileProduct p{rows, packed_->bytes.data() + column * depth_, source_->segments(), source_->steps(), (count + kTileRows - 1) / kTileRows, left <= kTileColumns ? 1 : 2, {}};
    const bool straight = !acc_.keeps() && acc_.whole_vectors() && count % kTileRows == 0 && left >= p.column_tiles * kTileColumns;
    for (int c = 0; straight && c < p.column_tiles; ++c) _mm512_store_si512(start + c * kTileColumns, start_x16(first, column + c * kTileColumns));
    for (int r = 0; r < p.row_tiles; ++r)
      for (int c = 0; c < p.column_tiles; ++c) {
        TileSums& s = p.sums[r][c];
        if (straight) s = {start + c * kTileColumns, 0, acc_.sixteen(first + r * kTileRows, column + c * kTileColumns), 4 * acc_.pixel_pitch()};
        else s = {nullptr, 0, sums + r * kTileRows * kInt8Columns + c * kTileColumns, 4 * kInt8Columns};
      }
    multiply_tiles(d_.a_signed ? TileArithmetic::kSigned : TileArithmetic::kUnsigned, p);
    if (!straight) finish(sums, first, count, column);
  }

  void run_rows(int64_t begin, int64_t end) const {
    thread_local std::vector<uint8_t> gathered;
    thread_local std::vector<const uint8_t*> rows;
    alignas(64) int32_t sums[kInt8Rows * kInt8Columns];
    const int64_t taps = int64_t{d_.kernel_h} * d_.kernel_w, segments = direct_ ? taps : 1, quads = (direct_ ? d_.channels : depth_) / kInt8Depth;
    rows.resize(static_cast<size_t>(taps * kInt8Rows + PixelMap::kSlack));
    for (int64_t piece = begin, at = -1; piece < end; ++piece) {
      const int64_t tile = piece / panels_, panel = piece - tile * panels_, first = tile * acc_.pixels() / tiles_;
      const int count = static_cast<int>((tile + 1) * acc_.pixels() / tiles_ - first);
      if (at != tile) {
        at = tile;
        direct_ ? pixels_.pointers(first, count, outside_.data(), rows.data()) : gather(first, count, gathered, rows);
      }
      const int64_t left = acc_.outputs() - panel * kInt8Columns;
      multiply_int8(sums, rows.data(), count, segments, quads, packed_->bytes.data() + panel * depth_ * kInt8Columns, left <= 16, d_.a_signed);
      finish(sums, first, count, panel * kInt8Columns);
    }
  }

  void gather(int64_t first, int count, std::vector<uint8_t>& bytes, std::vector<const uint8_t*>& rows) const {
    bytes.resize(static_cast<size_t>(depth_ * count) + 64);
    for (int i = 0; i < count; ++i) {
      uint8_t* to = bytes.data() + i * depth_;
      rows[static_cast<size_t>(i)] = to;
      read_row(d_, pixels_, first + i, to);
    }
  }

  /// What sixteen columns' sums begin with: zero points, and bias where there is one.
  SYSTOLE_AVX512_INLINE __m512i start_x16(int64_t first, int64_t o) const {
    const __m512i start = _mm512_mullo_epi32(_mm512_set1_epi32(-zero_), _mm512_loadu_si512(packed_->column_sums.data() + o));
    return acc_.keeps() ? start : _mm512_add_epi32(start, acc_.initial_x16(first, o));
  }
  SYSTOLE_AVX512 void finish(const int32_t* sums, int64_t first, int count, int64_t column) const {
    for (int64_t o = column; o < std::min(column + kInt8Columns, acc_.outputs()); o += 16) {
      const __m512i start = start_x16(first, o);
      const int32_t* from = sums + (o - column);
      if (acc_.keeps() || !acc_.whole_vectors()) {
        for (int r = 0; r < count; ++r, from += kInt8Columns) {
          const __m512i sum = _mm512_add_epi32(start, _mm512_load_si512(from));
          acc_.store_x16(first + r, o, acc_.keeps() ? _mm512_add_epi32(sum, acc_.initial_x16(first + r, o)) : sum);
        }
        continue;
      }
      const __mmask16 mask = Accumulators::mask(acc_.outputs() - o);
      uint32_t* to = acc_.sixteen(first, o);
      for (int r = 0; r < count; ++r, from += kInt8Columns, to += acc_.pixel_pitch()) _mm512_mask_storeu_epi32(to, mask, _mm512_add_epi32(start, _mm512_load_si512(from)));
    }
  }

  const isa::MatrixOp op_;
  const isa::MatrixDesc& d_;
  const Accumulators acc_;
  std::shared_ptr<const PackedB> packed_;
  const PixelMap pixels_;
  int64_t depth_, tiles_, panels_;
  bool direct_;
  int32_t zero_;  ///< A's zero point as the kernel sees its bytes
  std::optional<TileSource> source_;  ///< where tiles multiply
  std::vector<uint8_t> outside_;
};

}  // namespace

bool integer_matrix_runs(const isa::MatrixOp& op) {
  const isa::MatrixDesc& d = *op.desc;
  return byte_zero(d) >= 0 && byte_zero(d) <= 255 && d.b_zero == (d.b_signed ? 0 : 128);
}

/// [panel of 32 columns][k / 4][column][4]; a last panel with 16 columns or fewer is 16 wide.
void pack_integer_b(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out) {
  const isa::MatrixDesc& d = *op.desc;
  const int64_t k = int64_t{d.kernel_h} * d.kernel_w * d.channels, depth = depth_of(d), n = op.n, panels = (n + kInt8Columns - 1) / kInt8Columns;
  out.bytes.assign(static_cast<size_t>(panels * kInt8Columns * depth), 0);
  out.column_sums.assign(static_cast<size_t>(panels * kInt8Columns), 0);
  const uint8_t turn = d.b_signed ? 0 : 0x80;
  for (int64_t o = 0; o < n; ++o) {
    const int64_t panel = o / kInt8Columns, width = n - panel * kInt8Columns <= 16 ? 16 : kInt8Columns;
    const uint8_t* from = b + o / columns * d.b_tile_pitch + o % columns * d.b_column_pitch;
    uint8_t* to = out.bytes.data() + panel * depth * kInt8Columns + o % kInt8Columns * kInt8Depth;
    int32_t sum = 0;
    for (int64_t i = 0; i < k; ++i) {
      const uint8_t v = from[i * d.b_row_pitch] ^ turn;
      to[i / kInt8Depth * width * kInt8Depth + i % kInt8Depth] = v;
      sum += static_cast<int8_t>(v);
    }
    out.column_sums[static_cast<size_t>(o)] = sum;
  }
}

std::unique_ptr<Kernel> integer_matrix(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed, uint64_t a_version) {
  return std::make_unique<IntegerMatrix>(memory, op, columns, std::move(packed), a_version);
}
#endif

}  // namespace systole
