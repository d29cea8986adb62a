// Counts that follow from a descriptor alone, used by the compiler's estimates and by the timing model.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "isa/sequencer.h"

namespace systole::isa {

/// Vectors of `lanes` elements that a vector instruction reads. Lanes run along the last kept loop, or along the last
/// reduced one when that needs fewer vectors; trailing loops join where every scratchpad stream is contiguous over them
/// (the accumulators deliver several column tiles at once).
int64_t vector_count(const VectorDesc& desc, const std::array<Space, kVectorInputs + 1>& spaces, int64_t lanes);

/// Whether the micro-program reduces what it reads: the reduction takes its operand from the stream, and the mov in front of it no slot.
bool reduces_stream(const VectorProgram& program);

/// Issue slots and table look-ups per vector: of the micro-program before the reduction, plus what follows it spread out.
struct ProgramSlots {
  int64_t slots, table_ops;
};
ProgramSlots slots_of(const VectorProgram& program);

/// A copy as runs of contiguous bytes on both sides.
struct CopyRuns {
  int64_t runs, run_bytes;
  int64_t bytes() const { return runs * run_bytes; }
};
CopyRuns runs_of(const CopyDesc& desc);

/// Bytes [lo, hi) that one side of a copy reaches.
std::pair<int64_t, int64_t> copied_bytes(const CopyOp& op, bool target);

/// What the order of a copy is chosen by.
struct CopyWidths {
  int64_t port_bytes, burst_bytes, dram_bytes_per_cycle;
};

/// How a DMA engine walks one side of a copy: the descriptor's loops in order, down to runs of contiguous bytes. Where the sides are
/// contiguous along different loops it goes through the transposer, in squares as wide as the port, if the slower side then takes
/// fewer cycles (words of the port, bursts of DRAM).
class CopyWalk {
 public:
  CopyWalk(const CopyOp& op, bool target, const CopyWidths& widths);

  bool squares() const { return side_ > 0; }
  /// Words of the port's width that the side reads or writes (writes have byte enables).
  int64_t words() const { return words_; }
  /// f(offset, bytes, stride, count) for each row of runs, in order: `count` runs, `stride` apart; offsets are from the side's address.
  template <class F>
  void for_each_row(F&& f) const {
    std::array<int64_t, kCopyDims> index{};
    const size_t outer = squares() || loops_ == 0 ? loops_ : loops_ - 1;  // the innermost loop is a row
    for (int64_t offset = 0;;) {
      if (squares()) visit_squares(offset, f);
      else if (outer < loops_) f(offset, run_bytes_, stride_[outer], extent_[outer]);
      else f(offset, run_bytes_, 0, 1);
      size_t k = outer;
      for (;; ) {
        if (k == 0) return;
        --k;
        offset += stride_[k];
        if (++index[k] < extent_[k]) break;
        offset -= stride_[k] * extent_[k], index[k] = 0;
      }
    }
  }

 private:
  struct Axis {
    int64_t extent = 1, stride = 0;
  };
  template <class F>
  void visit_squares(int64_t offset, F& f) const {
    for (int64_t a = 0; a < outer_.extent; a += side_) {
      for (int64_t b = 0; b < inner_.extent; b += side_) {
        // Rows of the square: along the loop in which this side is contiguous.
        const bool run_is_outer = outer_.stride == element_bytes_;
        const int64_t rows = std::min(side_, (run_is_outer ? inner_.extent - b : outer_.extent - a)), run = std::min(side_, (run_is_outer ? outer_.extent - a : inner_.extent - b));
        f(offset + a * outer_.stride + b * inner_.stride, run * element_bytes_, (run_is_outer ? inner_ : outer_).stride, rows);
      }
    }
  }

  size_t loops_ = 0;
  std::array<int64_t, kCopyDims> extent_{}, stride_{};
  int64_t element_bytes_ = 1, run_bytes_ = 0, side_ = 0, words_ = 0;
  Axis outer_, inner_;  ///< of the squares: the source's contiguous loop, the target's
};

}  // namespace systole::isa
