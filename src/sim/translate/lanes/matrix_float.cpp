// MX on floats: rows of A (float_rows.h) or tiles by panels of B, packed as bf16 parts: dot32 blocks over all of K.
#include <cstring>
#include <optional>

#include "sim/functional/flush_mode.h"
#include "sim/translate/lanes/float_rows.h"
#include "sim/translate/lanes/matrix.h"
#include "sim/translate/lanes/pixel_runs.h"
#include "sim/translate/lanes/tile_source.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {
namespace {

constexpr int64_t kFewPixels = 2;  ///< so many take less time without tiles

class FloatMatrix final : public Kernel {
 public:
  FloatMatrix(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed, uint64_t a_version)
      : op_(op), d_(*op.desc), pixels_(op_, memory.scratchpad.data()), format_(static_cast<MacFormat>(d_.format)), acc_(memory, op, columns), packed_(std::move(packed)), narrow_(acc_.outputs() <= kDotColumns / 2), blocks_(dot_blocks(d_)),
        tile_rows_(has_tile_kernels() && acc_.pixels() > kFewPixels ? kBlockRows : narrow_ ? kDotNarrowRows : kDotRows), rows_(d_, pixels_, tile_rows_, quads_) {
    if (tile_rows_ == kBlockRows) source_.emplace(d_, pixels_, acc_.pixels(), 2 * blocks_ * kDotBlock, a_version);
    panels_ = (acc_.outputs() + kDotColumns - 1) / kDotColumns;
    together_ = acc_.pixels() == 1 ? kDotPanels : 1;
    tiles_ = (acc_.pixels() + tile_rows_ - 1) / tile_rows_;
    in_stretches_ = kSplits && rows_.in_order() && d_.channels % 16 == 0 && !source_ && acc_.pixels() > 2 * tile_rows_;
    groups_ = acc_.pixels() <= 2 * tile_rows_ ? (panels_ + together_ - 1) / together_ : 1;
    const bool shared = parts_of(format_) == 1 || d_.kernel_h * d_.kernel_w > 1;  // parts that one tap reads are split tile by tile
    if (!kReadsInPlace || source_ || groups_ > 1 || !shared || !(quads_ || integers_beside_floats())) return;
    PixelRuns runs(op_, memory.scratchpad.data(), {.element_bytes = operand_bytes(format_), .split = format_, .multiple = 2});
    if (runs.suit() && (!quads_ || runs.channels() % 4 == 0)) walk_.emplace(std::move(runs), quads_ && narrow_ ? kQuadNarrowRows : tile_rows_);
  }
  WorkClass work_class() const override { return WorkClass::kMatrixFloat; }
  WorkShape shape() const override { return shape_of(op_); }
  /// A tile's panels are one piece, so that A is widened once; few tiles are cut by panels too.
  int64_t pieces() const override { return walk_ ? walk_->pieces() : tiles_ * groups_; }
  double cost_ns() const override { return static_cast<double>(acc_.pixels() * panels_ * kDotColumns * blocks_ * kDotBlock * passes_of(format_)) / 40; }

  void run(int64_t begin, int64_t end) const override { source_ ? run_tiles(begin, end) : walk_ ? run_pieces(begin, end) : run_widened(begin, end); }

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
    TileProduct p{rows, nullptr, source_->segments(), source_->steps(), (count + kTileRows - 1) / kTileRows, panel_width(acc_.outputs(), panel) / kTileColumns, {}};
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

  void run_widened(int64_t begin, int64_t end) const {
    if (in_stretches_) return run_stretches(begin, end);
    if (format_ != MacFormat::kBF16) return multiply_rows(begin, end);
    const FlushMode flush;  // widening bf16 is no arithmetic
    multiply_rows(begin, end);
  }
  /// Pieces of runs: a few pixels at a time by all panels.
  void run_pieces(int64_t begin, int64_t end) const {
    const PixelRuns& runs = walk_->runs();
    const auto multiply = [&](const uint8_t* const* segments, int64_t pixel, int64_t first, int64_t count) {
      const DotPoints a{segments, runs.segments(), runs.channels() / 2, runs.pitch(), first, count, quads_};
      for (int64_t panel = 0; panel < panels_; ++panel) multiply_panel(a, pixel, panel);
    };
    if (runs.parts() == 1) {
      const FlushMode flush;
      return walk_->visit(begin, end, multiply);
    }
    walk_->visit(begin, end, [&](auto... of) {
      const FlushMode flush;  // not of the visit, which splits rows
      multiply(of...);
    });
  }
  void multiply_panel(const DotPoints& a, int64_t pixel, int64_t panel) const {
    if constexpr (kReadsInPlace) {
      const int64_t column = panel * kDotColumns, width = panel_width(acc_.outputs(), panel);
      if (acc_.whole_vectors() && acc_.outputs() - column >= width) return multiply_point_passes(sums_in_place(pixel, column, width), a, panel, width < kDotColumns);
      thread_local std::vector<float> sums;
      sums.resize(static_cast<size_t>(a.count * width));
      start(sums.data(), pixel, static_cast<int>(a.count), column, width);
      multiply_point_passes(at_rest(sums.data(), width), a, panel, width < kDotColumns);
      finish(sums.data(), pixel, static_cast<int>(a.count), column, width);
    }
  }
  void multiply_point_passes(const DotSums& from, const DotPoints& a, int64_t panel, bool narrow) const {
    auto b = [&](int part) { return packed_->bytes.data() + (part * panels_ + panel) * panel_bytes(blocks_); };
    if (walk_->runs().parts() == 1) return multiply_points(from, a, b(0), narrow);
    DotSums sums = from;
    DotPoints part = a;
    for (int64_t q = 0; q < passes_of(format_); ++q, go_on(sums)) {
      part.at = a.at + passes_in(format_)[q].a_part * a.segments;
      multiply_points(sums, part, b(passes_in(format_)[q].b_part), narrow);
    }
  }
  /// The next pass starts where this one ended.
  static void go_on(DotSums& sums) { std::copy_n(sums.to, 2 * kDotPanels, sums.from), sums.from_pitch = sums.to_pitch; }
  void multiply_rows(int64_t begin, int64_t end) const {
    DotRows a{};
    for (int64_t piece = begin, at = -1; piece < end; ++piece) {
      const int64_t tile = piece / groups_;
      if (tile != at) {
        at = tile;
        a = rows_.read(first_of(tile), count_of(tile));
      }
      const int64_t share = (panels_ + groups_ - 1) / groups_, last = std::min(panels_, (piece % groups_ + 1) * share);
      for (int64_t panel = piece % groups_ * share; panel < last;) {
        const bool narrow = panel_width(acc_.outputs(), panel) < kDotColumns;
        int64_t end_panel = std::min(panel + together_, last);
        if (!narrow && panel_width(acc_.outputs(), end_panel - 1) < kDotColumns) --end_panel;  // the narrow one alone
        multiply(a, first_of(tile), panel, static_cast<int>(end_panel - panel), narrow);
        panel = end_panel;
      }
    }
  }

  // Stretches of K, so that what a kernel reads stays in the first-level cache: a stretch of B for a few tiles, a stretch of A for
  // all panels. dot32 adds block after block, so that sums may rest in between.
  static constexpr int64_t kStretch = 256, kTogether = 8, kMostSums = 1 << 13;

  void run_stretches(int64_t begin, int64_t end) const {
    const FlushMode flush;
    const int64_t of_panel = tile_rows_ * kDotColumns, of_tile = of_panel * panels_, together = std::clamp<int64_t>(kMostSums / of_tile, 1, kTogether), k_end = int64_t{d_.kernel_h} * d_.kernel_w * d_.channels;
    thread_local std::vector<float> sums;
    thread_local std::vector<int64_t> buffers[kTogether];
    PixelPlaces places[kTogether];
    alignas(64) float a[kDotNarrowRows * kStretch];
    sums.resize(static_cast<size_t>(together * of_tile));
    for (int64_t at = begin; at < end; at += together) {
      const int64_t tiles = std::min(together, end - at);
      for (int64_t t = 0; t < tiles; ++t) {
        places[t] = rows_.find(first_of(at + t), count_of(at + t), buffers[t]);
        start_tile(first_of(at + t), count_of(at + t), sums.data() + t * of_tile);
      }
      for (int64_t k = 0; k < k_end; k += kStretch) {
        const int64_t length = std::min(kStretch, k_end - k);
        for (int64_t t = 0; t < tiles; ++t) {
          const int count = count_of(at + t);
          rows_.split(places[t], count, k, length, a, kStretch);
          const DotRows stretch{.count = count, .pairs = length / 2, .wide = a, .pitch = kStretch, .split = true};
          for (int64_t panel = 0; panel < panels_; ++panel) {
            const int64_t width = panel_width(acc_.outputs(), panel);
            multiply_dot32(at_rest(sums.data() + t * of_tile + panel * of_panel, width), stretch, packed_->bytes.data() + panel * panel_bytes(blocks_) + k * width * 2, 0, 1, width < kDotColumns);
          }
        }
      }
      for (int64_t t = 0; t < tiles; ++t) end_tile(first_of(at + t), count_of(at + t), sums.data() + t * of_tile);
    }
  }
  int64_t first_of(int64_t tile) const { return tile * acc_.pixels() / tiles_; }
  int count_of(int64_t tile) const { return static_cast<int>(first_of(tile + 1) - first_of(tile)); }

  /// Sums as [panel][row][width].
  LANES void start_tile(int64_t first, int count, float* sums) const {
    for (int64_t panel = 0; panel < panels_; ++panel, sums += tile_rows_ * kDotColumns) start(sums, first, count, panel * kDotColumns, panel_width(acc_.outputs(), panel));
  }
  LANES void end_tile(int64_t first, int count, const float* sums) const {
    for (int64_t panel = 0; panel < panels_; ++panel, sums += tile_rows_ * kDotColumns) finish(sums, first, count, panel * kDotColumns, panel_width(acc_.outputs(), panel));
  }

  /// Sums of whole rows of `width` columns, zero where there are none.
  LANES void start(float* sums, int64_t first, int count, int64_t column, int64_t width) const {
    for (int r = 0; r < count; ++r, sums += width)
      for (int64_t o = 0; o < width; o += 16) store(sums + o, column + o < acc_.outputs() ? initial_sums(acc_, first + r, column + o) : set_ints(0));
  }
  LANES void finish(const float* sums, int64_t first, int count, int64_t column, int64_t width) const {
    for (int r = 0; r < count; ++r, sums += width)
      for (int64_t o = 0; o < width && column + o < acc_.outputs(); o += 16) store_sums(acc_, first + r, column + o, load_ints(sums + o));
  }
  /// Sums that start and end in rows of `width` columns.
  static DotSums at_rest(float* sums, int64_t width) {
    DotSums s{{}, width, {}, width};
    for (int64_t o = 0; o < width; o += 16) s.from[o / 16] = s.to[o / 16] = sums + o;
    return s;
  }

  /// Columns of `panels` panels, straight into the accumulators where those have them all.
  LANES void multiply(const DotRows& a, int64_t first, int64_t panel, int panels, bool narrow) const {
    const int64_t column = panel * kDotColumns, width = narrow ? kDotColumns / 2 : int64_t{panels} * kDotColumns;
    if (!acc_.whole_vectors() || acc_.outputs() - column < width) {
      alignas(64) float sums[std::max(kDotRows, kDotPanels) * kDotColumns];  // or narrow rows, or the panels of one row
      start(sums, first, a.count, column, width);
      multiply_passes(at_rest(sums, width), a, panel, panels, narrow);
      return finish(sums, first, a.count, column, width);
    }
    multiply_passes(sums_in_place(first, column, width), a, panel, panels, narrow);
  }
  /// Sums in the accumulators of pixels from `first` on, which have all of these columns.
  DotSums sums_in_place(int64_t first, int64_t column, int64_t width) const {
    static constexpr float kZeros[16] = {};
    DotSums s{{}, acc_.keeps() ? acc_.pixel_pitch() : 0, {}, acc_.pixel_pitch()};
    for (int64_t o = 0; o < width; o += 16) {
      s.to[o / 16] = reinterpret_cast<float*>(acc_.sixteen(first, column + o));
      const uint8_t* bias = acc_.bias(column + o);
      s.from[o / 16] = acc_.keeps() ? s.to[o / 16] : bias ? reinterpret_cast<const float*>(bias) : kZeros;
    }
    return s;
  }

  void multiply_passes(DotSums sums, DotRows a, int64_t panel, int panels, bool narrow) const {
    auto multiply_part = [&](int64_t b_part) {
      multiply_dot32(sums, a, packed_->bytes.data() + (b_part * panels_ + panel) * panel_bytes(blocks_), panel_bytes(blocks_), panels, narrow);
    };
    if (format_ == MacFormat::kBF16) return multiply_part(0);
    const FlushMode flush;  // splitting into parts, which came before it, keeps subnormals
    const DotRows parts = a;
    for (int64_t q = 0; q < passes_of(format_); ++q) {
      a = rows_.part(parts, passes_in(format_)[q].a_part);
      multiply_part(passes_in(format_)[q].b_part);
      go_on(sums);
    }
  }

  const isa::MatrixOp op_;
  const isa::MatrixDesc& d_;
  const PixelMap pixels_;
  MacFormat format_;
  const Accumulators acc_;
  std::shared_ptr<const PackedB> packed_;
  bool narrow_;        ///< all there is are 16 columns
  bool quads_ = in_quads(op_);
  bool in_stretches_;  ///< multiplied stretch by stretch of K
  int64_t blocks_, tile_rows_, panels_, together_, tiles_, groups_;
  std::optional<RunWalk> walk_;  ///< where multiply_points takes runs
  const FloatRows rows_;
  std::optional<TileSource> source_;  ///< where tiles multiply
};

}  // namespace

std::unique_ptr<Kernel> float_matrix(Memory& memory, const isa::MatrixOp& op, int64_t columns, std::shared_ptr<const PackedB> packed, uint64_t a_version) {
  return std::make_unique<FloatMatrix>(memory, op, columns, std::move(packed), a_version);
}

}  // namespace systole::SYSTOLE_LANES
#endif
