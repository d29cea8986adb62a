// Rows of A of a float contraction as multiply_dot32 takes them: where they lie, copied as bf16 parts, or widened to fp32 parts.
#pragma once
#include <optional>
#include <vector>

#include "isa/sequencer.h"
#include "sim/translate/lanes/dot32.h"
#include "sim/translate/lanes/tile_source.h"
#include "sim/translate/matrix_parts.h"
#include "sim/translate/pixels.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {

/// k under one tap: B is packed in pairs, an odd last channel with a zero.
inline int64_t even_channels(const isa::MatrixDesc& d) { return (int64_t{d.channels} + 1) / 2 * 2; }
inline int64_t dot_blocks(const isa::MatrixDesc& d) { return (int64_t{d.kernel_h} * d.kernel_w * even_channels(d) + kDotBlock - 1) / kDotBlock; }

class FloatRows {
 public:
  /// `tile_rows`: pixels read at once, at most. `quads`: in_quads of the instruction.
  FloatRows(const isa::MatrixDesc& d, const PixelMap& pixels, int64_t tile_rows, bool quads);
  /// Part 0 of pixels [first, first + count); valid until this thread reads again.
  DotRows read(int64_t first, int count) const;
  /// Part q of what was read.
  DotRows part(DotRows rows, int q) const {
    if (rows.wide) rows.wide += q * part_pitch();
    else rows.places.taps += q * rows.segments;
    return rows;
  }

  // A tile in stretches of k (kSplits), of bf16 in order.
  bool in_order() const { return in_order_; }
  /// Where pixels [first, first + count) lie.
  PixelPlaces find(int64_t first, int count, std::vector<int64_t>& buffer) const { return pixels_.places(first, count, outside_.data(), buffer); }
  /// k [k, k + length) of `count` pixels that were found as fp32, `pitch` from row to row, the even ones of each block first. Channels come in sixteens.
  void split(const PixelPlaces& places, int count, int64_t k, int64_t length, float* to, int64_t pitch) const;

 private:
  DotRows copy(int64_t first, int count) const;
  int64_t part_pitch() const { return tile_rows_ * depth_; }
  void widen_in_order(int64_t first, int count, float* to) const;
  void widen_parts(int64_t pixel, float* to) const;

  bool quads_;
  const isa::MatrixDesc& d_;
  const PixelMap& pixels_;
  MacFormat format_;
  int64_t tile_rows_, depth_;
  bool in_order_;  ///< bf16 whose channels lie together
  bool in_place_;  ///< and whole pairs of them, or fours, read by multiply_dot32 itself
  bool joined_;    ///< and those of a row of taps
  std::vector<uint8_t> outside_;
  std::optional<TileSource> copies_;  ///< of rows that products of pairs cannot read in place
};

}  // namespace systole::SYSTOLE_LANES
#endif
