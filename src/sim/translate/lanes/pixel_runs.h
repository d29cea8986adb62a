// Runs of pixels whose taps are evenly spaced: rows of A where they lie, or copied once with padding around them and, where kernels
// read several channels at a time, zeros behind the channels of each pixel.
#pragma once
#include <algorithm>
#include <utility>
#include <vector>

#include "isa/sequencer.h"
#include "sim/translate/lanes/lanes.h"
#include "sim/translate/matrix_parts.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {

/// f(rows, tiles) for so many pixels: whole tiles of `most` rows, and what is left as two that are alike.
template <class F>
void in_tiles(int64_t count, int64_t most, F f) {
  const int64_t whole = count / most, rest = count % most, full = rest > 0 && whole > 0 ? whole - 1 : whole, left = count - full * most;
  if (full > 0) f(most, full);
  if (left > most) f((left + 1) / 2, 1), f(left / 2, 1);
  else if (left > 0) f(left, 1);
}

/// What a kernel asks of rows.
struct RowNeeds {
  int64_t element_bytes;  ///< of A
  MacFormat split = MacFormat::kBF16;  ///< of several parts: rows are copied as those, in bf16
  int64_t multiple = 1;  ///< channels of a pixel come in so many
  uint8_t outside = 0;   ///< bytes where there is padding
  bool joined = true;    ///< taps of a row count as one segment where they lie together
  bool copied = false;   ///< in any case: kernels read a few bytes behind a segment
  bool edges = true;     ///< with padding left and right of them; else kernels leave out columns that are not there (column_edges)
};

class PixelRuns {
 public:
  PixelRuns(const isa::MatrixOp& op, const uint8_t* scratchpad, const RowNeeds& needs);
  /// Whether the kernel's pixels can be had like this, in runs that are worth it.
  bool suit() const { return suit_; }
  int64_t runs() const { return runs_; }
  int64_t pixels() const { return pixels_; }      ///< of a run
  int64_t pitch() const { return pitch_; }        ///< bytes from pixel to pixel
  bool along_rows() const { return along_rows_; } ///< which are columns of A, the stride apart
  int64_t segments() const { return segments_; }
  int64_t channels() const { return channels_; }  ///< of a segment, zeros behind them included
  int64_t parts() const { return parts_; }
  /// Where kernels have to leave out columns: the one that a run's first pixel sees first, those that there are, and a row of what is outside.
  struct ColumnEdges {
    int64_t first = 0, count = 0;
    const uint8_t* outside = nullptr;  ///< null: none are left out
  };
  ColumnEdges column_edges() const { return leaves_out_ ? ColumnEdges{first_column_, d_.in_columns, outside_.data()} : ColumnEdges(); }

  class Reader;
  /// f(segments, pixel of the block that the run begins with, first, last) for the pixels of pieces [begin, end), so many of which are a run.
  template <class F>
  void visit_pieces(Reader& reader, int64_t begin, int64_t end, int64_t of_a_run, F f) const {
    for (int64_t piece = begin, next; piece < end; piece = next) {
      const int64_t run = piece / of_a_run;
      next = std::min(end, (run + 1) * of_a_run);
      f(reader.read(run), run * pixels_, piece % of_a_run * pixels_ / of_a_run, (next - run * of_a_run) * pixels_ / of_a_run);
    }
  }

  /// Reads runs in order, for one thread at a time. What it copied is good for as long as A does not change.
  class Reader {
   public:
    explicit Reader(const PixelRuns& runs);
    /// Where the first pixel of a run lies, by part and segment; valid until the next one is read.
    const uint8_t* const* read(int64_t run);

   private:
    const uint8_t* row(int64_t in_row);
    void copy_row(int64_t in_row, uint8_t* to) const;
    void split_pixels(const uint8_t* from, int64_t count, uint8_t* to) const;
    size_t slot_bytes() const;
    struct Buffers {
      std::vector<uint8_t> rows;
      std::vector<int64_t> holds;  ///< the row of A that each slot has
      std::vector<const uint8_t*> segments;
    };
    static Buffers& buffers();
    const PixelRuns& runs_;
    Buffers& buffers_;
  };

 private:
  const isa::MatrixDesc& d_;
  const uint8_t* base_ = nullptr;  ///< of A's first row, at the first column that any pixel reads
  RowNeeds needs_;
  int64_t in_rows_, row_origin_, first_column_, columns_ = 0;  ///< columns that a run reads
  int64_t parts_ = 1, tap_channels_ = 0, padded_channels_ = 0, pixel_bytes_ = 0, row_bytes_ = 0;
  int64_t runs_ = 0, pixels_ = 0, pitch_ = 0, segments_ = 0, channels_ = 0;
  bool copies_ = false, leaves_out_ = false, along_rows_ = true, suit_ = false;
  std::vector<uint8_t> outside_;  ///< a row of padding
};

/// Runs in pieces that threads may share, and those in as many pixels as stay in the first-level cache for all panels of B.
class RunWalk {
 public:
  /// `tile_rows`: pixels of a tile of the inner kernel.
  RunWalk(PixelRuns runs, int64_t tile_rows)
      : runs_(std::move(runs)), of_a_run_(std::max<int64_t>(1, runs_.pixels() / (kTiles * tile_rows))), together_(std::clamp<int64_t>(kBytes / std::max<int64_t>(1, runs_.pitch() * runs_.parts()) / tile_rows, 1, 64) * tile_rows) {}
  const PixelRuns& runs() const { return runs_; }
  int64_t pieces() const { return runs_.runs() * of_a_run_; }
  /// f(segments, pixel of the block, pixel of the run, count).
  template <class F>
  void visit(int64_t begin, int64_t end, F f) const {
    PixelRuns::Reader reader(runs_);
    runs_.visit_pieces(reader, begin, end, of_a_run_, [&](const uint8_t* const* segments, int64_t run_begin, int64_t first, int64_t last) {
      for (int64_t at = first; at < last; at += together_) f(segments, run_begin + at, at, std::min(together_, last - at));
    });
  }

 private:
  static constexpr int64_t kTiles = 2;            ///< of a run, at least, are a piece
  static constexpr int64_t kBytes = 16 * 1024;    ///< of A
  PixelRuns runs_;
  int64_t of_a_run_, together_;
};

}  // namespace systole::SYSTOLE_LANES
#endif
