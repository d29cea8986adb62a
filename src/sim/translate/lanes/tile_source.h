// Rows of A as multiply_tiles, and products of pairs, read them: where they lie in the scratchpad if they come in whole steps, else copied, padding and parts included.
#pragma once
#include <vector>

#include "machine/cost.h"
#include "sim/translate/lanes/lanes.h"
#include "sim/translate/matrix_tiles.h"
#include "sim/translate/pixels.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {

/// An int8 pixel's taps one after the other, `row_pitch` bytes from a row of them to the next, the zero point where there is padding; may write
/// up to 63 bytes more.
void read_row(const isa::MatrixDesc& d, const PixelMap& pixels, int64_t pixel, uint8_t* to, int64_t row_pitch);

/// n numbers as bf16 parts, `part_pitch` bytes from part to part. The caller does not hold FlushMode: parts keep subnormals.
void split_channels(MacFormat format, const uint8_t* from, int64_t n, uint8_t* to, int64_t part_pitch);

class TileSource {
 public:
  /// `depth_bytes`: of a row as B is packed against it, in whole steps. `version`: see matrix_kernel.
  TileSource(const isa::MatrixDesc& d, const PixelMap& map, int64_t pixels, int64_t depth_bytes, uint64_t version);
  int64_t segments() const { return segments_; }
  int64_t steps() const { return steps_; }
  /// [part][segment][row tile] of the pixels [tile x kBlockRows, ...): valid until this thread asks again. Rows that were copied are
  /// kept for the instructions after this one that read the same.
  const TileRows* rows(int64_t tile) const;

  struct Rows {
    std::vector<TileRows> list;
    std::vector<uint8_t> bytes;
    std::vector<int64_t> offsets;
  };
  /// The same of pixels [first, first + count), kept by `rows`.
  void read(int64_t first, int count, Rows& rows) const;

 private:
  /// What a thread copied last, by tile.
  struct Kept {
    uint64_t run = 0, version = 0;
    std::vector<char> there;
    std::vector<Rows> tiles;
  };
  void read_steps(int64_t first, int count, Rows& rows) const;
  void copy_taps(int64_t first, int count, int64_t offset, int64_t tap_pitch, Rows& rows) const;
  void read_whole(int64_t first, int count, Rows& rows) const;
  void copy_halves_of(int64_t first, int count, Rows& rows) const;
  void read_parts(int64_t pixel, uint8_t* to, int64_t part_pitch) const;
  void pick_channels(const uint8_t* from, uint8_t* to, int64_t part_pitch) const;
  void clear_last(uint8_t* to, int64_t part_pitch) const;

  const isa::MatrixDesc& d_;
  const PixelMap& pixels_;
  MacFormat format_;
  bool in_steps_;  ///< a tap's channels are whole steps
  int64_t count_, parts_, segments_, steps_, pitch_;
  uint64_t version_;
  std::vector<uint8_t> outside_;
};

}  // namespace systole::SYSTOLE_LANES
#endif
