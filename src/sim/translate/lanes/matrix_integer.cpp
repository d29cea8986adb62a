// MX on integers: rows of A (integers.h) or tiles by panels of B, zero points by correction:
// sum (a - za)(b - zb) = sum a (b - zb) - za sum (b - zb).
#include <cstring>
#include <optional>

#include "sim/translate/lanes/integers.h"
#include "sim/translate/lanes/matrix.h"
#include "sim/translate/lanes/pixel_runs.h"
#include "sim/translate/lanes/tile_source.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {
namespace {

/// So many take less time without tiles, where B is in the same order for both.
constexpr int64_t kFewPixels = kIntegerDepth == kTileDepth ? 3 : 0;

class IntegerMatrix final : public Kernel {
 public:
  IntegerMatrix(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed, uint64_t a_version)
      : op_(op), d_(*op.desc), acc_(memory, op, columns), packed_(std::move(packed)), pixels_(op_, memory.scratchpad.data()), depth_(integer_depth(d_)), zero_(integer_zero(d_)) {
    if (has_tile_kernels() && acc_.pixels() > kFewPixels) source_.emplace(d_, pixels_, acc_.pixels(), depth_, a_version), zero_ = d_.a_zero;
    tile_rows_ = source_ ? kBlockRows : acc_.outputs() <= 16 ? kIntegerNarrowRows : kIntegerRows;
    tiles_ = (acc_.pixels() + tile_rows_ - 1) / tile_rows_;
    panels_ = (acc_.outputs() + kIntegerColumns - 1) / kIntegerColumns;
    if (!source_ && kNativeLanes == 16 && tiles_ > 2) find_runs(memory);
  }
  WorkClass work_class() const override { return WorkClass::kMatrixInteger; }
  WorkShape shape() const override { return shape_of(op_); }
  int64_t pieces() const override { return walk_ ? walk_->pieces() : tiles_ * panels_; }
  double cost_ns() const override { return static_cast<double>(acc_.pixels() * panels_ * kIntegerColumns * depth_) / 150; }

  void run(int64_t begin, int64_t end) const override { source_ ? run_tiles(begin, end) : walk_ ? run_pieces(begin, end) : run_copied(begin, end); }

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

  LANES void multiply_block(const TileRows* rows, int64_t first, int count, int64_t panel) const {
    alignas(64) int32_t sums[kBlockRows * kIntegerColumns], start[kIntegerColumns];
    const int64_t column = panel * kIntegerColumns, left = acc_.outputs() - column;
    TileProduct p{rows, packed_->bytes.data() + column * depth_, source_->segments(), source_->steps(), (count + kTileRows - 1) / kTileRows, left <= kTileColumns ? 1 : 2, {}};
    const bool straight = !acc_.keeps() && acc_.whole_vectors() && count % kTileRows == 0 && left >= p.column_tiles * kTileColumns;
    for (int c = 0; straight && c < p.column_tiles; ++c) store(start + c * kTileColumns, start_of(first, column + c * kTileColumns));
    for (int r = 0; r < p.row_tiles; ++r)
      for (int c = 0; c < p.column_tiles; ++c) {
        TileSums& s = p.sums[r][c];
        if (straight) s = {start + c * kTileColumns, 0, acc_.sixteen(first + r * kTileRows, column + c * kTileColumns), 4 * acc_.pixel_pitch()};
        else s = {nullptr, 0, sums + r * kTileRows * kIntegerColumns + c * kTileColumns, 4 * kIntegerColumns};
      }
    multiply_tiles(d_.a_signed ? TileArithmetic::kSigned : TileArithmetic::kUnsigned, p);
    if (!straight) finish(sums, first, count, column);
  }

  /// Rows of taps that come in fours are read where they lie; others are copied, since what reads them goes on to the next four.
  void find_runs(const Memory& memory) {
    const bool fours = d_.channels % kIntegerDepth == 0;
    PixelRuns runs(op_, memory.scratchpad.data(), {.element_bytes = 1, .outside = static_cast<uint8_t>(d_.a_zero), .copied = !fours});
    if (runs.suit() && (fours || runs.segments() == d_.kernel_h)) walk_.emplace(std::move(runs), tile_rows_);
  }
  /// Pieces of runs: a few pixels at a time by all panels.
  void run_pieces(int64_t begin, int64_t end) const {
    const PixelRuns& runs = walk_->runs();
    walk_->visit(begin, end, [&](const uint8_t* const* segments, int64_t pixel, int64_t first, int64_t count) {
      const IntegerPoints a{segments, runs.segments(), depth_ / runs.segments(), runs.pitch(), first, count};
      for (int64_t panel = 0; panel < panels_; ++panel) multiply_panel(a, pixel, panel);
    });
  }
  /// Tiles whose rows of A are copied pixel by pixel.
  void run_copied(int64_t begin, int64_t end) const {
    thread_local std::vector<uint8_t> rows;
    const int64_t row_bytes = integer_row_bytes(depth_);
    rows.resize(static_cast<size_t>(row_bytes * tile_rows_) + 64);
    const uint8_t* at = rows.data();
    IntegerPoints a{&at, 1, depth_, row_bytes, 0, 0};
    for (int64_t piece = begin, read = -1; piece < end; ++piece) {
      const int64_t tile = piece / panels_, panel = piece - tile * panels_, first = tile * acc_.pixels() / tiles_;
      if (read != tile) {
        read = tile, a.count = (tile + 1) * acc_.pixels() / tiles_ - first;
        read_integers(d_, pixels_, first, a.count, rows.data());
      }
      multiply_panel(a, first, panel);
    }
  }
  /// Straight into the accumulators where those have all columns.
  LANES void multiply_panel(const IntegerPoints& a, int64_t pixel, int64_t panel) const {
    alignas(64) int32_t start[kIntegerColumns] = {};
    const int64_t column = panel * kIntegerColumns, left = acc_.outputs() - column, width = left <= 16 ? 16 : kIntegerColumns;
    const uint8_t* b = packed_->bytes.data() + column * depth_;
    if (!acc_.whole_vectors() || left < width) {
      thread_local std::vector<int32_t> sums;
      sums.resize(static_cast<size_t>(a.count * kIntegerColumns));
      multiply_points({start, false, {sums.data(), sums.data() + 16}, kIntegerColumns}, a, b, width == 16, d_.a_signed);
      return finish(sums.data(), pixel, static_cast<int>(a.count), column);
    }
    IntegerSums straight{start, acc_.keeps(), {}, acc_.pixel_pitch()};
    for (int64_t o = 0; o < width; o += 16) {
      store(start + o, start_of(pixel, column + o));
      straight.to[o / 16] = reinterpret_cast<int32_t*>(acc_.sixteen(pixel, column + o));
    }
    multiply_points(straight, a, b, width == 16, d_.a_signed);
  }

  /// What sixteen columns' sums begin with: zero points, and bias where there is one.
  LANES_INLINE Ints start_of(int64_t first, int64_t o) const {
    const Ints start = multiply_low(set_ints(-zero_), load_ints(packed_->column_sums.data() + o));
    return acc_.keeps() ? start : add(start, initial_sums(acc_, first, o));
  }
  LANES void finish(const int32_t* sums, int64_t first, int count, int64_t column) const {
    for (int64_t o = column; o < std::min(column + kIntegerColumns, acc_.outputs()); o += 16) {
      const Ints start = start_of(first, o);
      const int32_t* from = sums + (o - column);
      if (acc_.keeps() || !acc_.whole_vectors()) {
        for (int r = 0; r < count; ++r, from += kIntegerColumns) {
          const Ints sum = add(start, load_ints(from));
          store_sums(acc_, first + r, o, acc_.keeps() ? add(sum, initial_sums(acc_, first + r, o)) : sum);
        }
        continue;
      }
      const int n = lanes_of(acc_.outputs() - o);
      uint32_t* to = acc_.sixteen(first, o);
      for (int r = 0; r < count; ++r, from += kIntegerColumns, to += acc_.pixel_pitch()) store(to, add(start, load_ints(from)), n);
    }
  }

  const isa::MatrixOp op_;
  const isa::MatrixDesc& d_;
  const Accumulators acc_;
  std::shared_ptr<const PackedB> packed_;
  const PixelMap pixels_;
  int64_t depth_, tile_rows_ = 0, tiles_, panels_;
  int32_t zero_;  ///< A's zero point as the kernel sees its bytes
  std::optional<TileSource> source_;  ///< where tiles multiply
  std::optional<RunWalk> walk_;       ///< where rows of A need no copy for each pixel
};

}  // namespace

IntegerStretch integer_stretch(const isa::MatrixDesc& d) {
  const auto whole = [](int64_t k, int64_t unit) { return IntegerStretch{k, (k + unit - 1) / unit * unit}; };
  const int64_t row = int64_t{d.kernel_w} * d.channels;
  if (has_tile_kernels()) return whole(d.kernel_h * row, kTileStep);
  return whole(kNativeLanes == 16 ? row : d.kernel_h * row, kIntegerDepth);
}

/// [panel of 32 columns][k / unit][column][unit], unit kIntegerDepth or that of tiles; a last panel with 16 columns or fewer is 16 wide.
void pack_integer_b(const isa::MatrixOp& op, int64_t columns, const uint8_t* b, PackedB& out) {
  const isa::MatrixDesc& d = *op.desc;
  const int64_t k = int64_t{d.kernel_h} * d.kernel_w * d.channels, depth = integer_depth(d), n = op.n, unit = has_tile_kernels() ? kTileDepth : kIntegerDepth, panels = (n + kIntegerColumns - 1) / kIntegerColumns;
  out.bytes.resize(static_cast<size_t>(panels * kIntegerColumns * depth));
  out.column_sums.assign(static_cast<size_t>(panels * kIntegerColumns), 0);
  const uint8_t turn = d.b_signed ? 0 : 0x80;
  const IntegerStretch stretch = integer_stretch(d);
  for (int64_t o = 0; o < n; ++o) {
    const int64_t panel = o / kIntegerColumns, width = n - panel * kIntegerColumns <= 16 ? 16 : kIntegerColumns;
    const uint8_t* from = b + o / columns * d.b_tile_pitch + o % columns * d.b_column_pitch;
    uint8_t* const to = out.bytes.data() + panel * depth * kIntegerColumns + o % kIntegerColumns * unit;
    int32_t sum = 0;
    for (int64_t first = 0; first < k; first += stretch.k) {
      uint8_t* together = to + first / stretch.k * stretch.padded * width;
      for (int64_t left = stretch.k; left > 0; left -= unit, together += width * unit) {
        for (int64_t i = 0; i < std::min(unit, left); ++i, from += d.b_row_pitch) together[i] = *from ^ turn, sum += static_cast<int8_t>(together[i]);
      }
    }
    out.column_sums[static_cast<size_t>(o)] = sum;
  }
}

std::unique_ptr<Kernel> integer_matrix(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed, uint64_t a_version) {
  return std::make_unique<IntegerMatrix>(memory, op, columns, std::move(packed), a_version);
}

}  // namespace systole::SYSTOLE_LANES
#endif
