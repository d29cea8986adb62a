// Rows of A of an integer contraction, and the inner kernel that multiplies them by packed B, exact in int32.
#pragma once
#include <vector>

#include "isa/sequencer.h"
#include "sim/translate/lanes/lanes.h"
#include "sim/translate/pixels.h"

#ifdef SYSTOLE_X86
namespace systole::SYSTOLE_LANES {

inline constexpr int kIntegerRows = kNativeLanes == 16 ? 12 : 6;  ///< pixels of a tile
inline constexpr int kIntegerColumns = 32;                        ///< columns of a panel of packed B
inline constexpr int kIntegerDepth = kNativeLanes == 16 ? 4 : 2;  ///< k packed together

/// What a thread holds of one tile.
struct IntegerTile {
  int count = 0;
  std::vector<uint8_t> bytes;  ///< of rows that were copied
  PixelPlaces places = {};
  std::vector<int64_t> offsets;

  /// Rows are in `bytes`, so many from one to the next.
  void find_bytes(int64_t pitch) {
    static constexpr int64_t kOneTap[1] = {0};
    offsets.resize(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) offsets[static_cast<size_t>(i)] = i * pitch;
    places = {reinterpret_cast<uintptr_t>(bytes.data()), kOneTap, offsets.data(), 0};
  }
};

/// Where the sums of a tile start and where they go: sixteen columns each, `pitch` numbers from row to row.
struct IntegerSums {
  const int32_t* start;  ///< of 32 columns, the same for all rows
  bool keeps;            ///< and what is there already
  int32_t* to[2];
  int64_t pitch;
};

/// sums += rows of the tile, `depth` bytes of A in each of `segments`, by a panel of B: [k / kIntegerDepth][32, or 16 where narrow][kIntegerDepth].
/// `turn`: signed bytes become unsigned ones 128 higher on the way.
void multiply_rows(const IntegerSums& sums, const IntegerTile& tile, int64_t segments, int64_t depth, const uint8_t* b, bool narrow, bool turn = false);

class IntegerRows {
 public:
  /// `depth`: k as B is packed.
  IntegerRows(const isa::MatrixDesc& d, const PixelMap& pixels, int64_t depth);
  /// A's zero point as `multiply` sees its bytes.
  int zero() const;
  /// Pixels [first, first + count), at most kIntegerRows.
  void read(int64_t first, int count, IntegerTile& tile) const;
  /// multiply_rows for the tile that was read.
  void multiply(const IntegerSums& sums, const IntegerTile& tile, const uint8_t* b, bool narrow) const;

 private:
  const isa::MatrixDesc& d_;
  const PixelMap& pixels_;
  int64_t depth_;
  std::vector<uint8_t> outside_;  ///< a pixel of zero points, where A is read in place
};

}  // namespace systole::SYSTOLE_LANES
#endif
