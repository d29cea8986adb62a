// Inner kernels of contractions on tile registers (AMX): 32 x 32 outputs are four tiles of 16 x 16, 64 bytes of every row a step.
// Without such registers the same kernels run on an emulation, which is the definition that hardware is held against.
#pragma once
#include <cstdint>

namespace systole {

inline constexpr int kTileRows = 16, kTileColumns = 16, kTileStep = 64, kTileDepth = 4;  ///< rows; columns; bytes of a row of A, and of B that lie together
inline constexpr int kBlockRows = 2 * kTileRows;                         ///< pixels of a block

/// Sixteen rows of A, `pitch` bytes apart, each read for 64 bytes a step.
struct TileRows {
  const uint8_t* first;
  int64_t pitch;
};
/// Sixteen rows of results, `pitch` bytes apart: where sums start from (null: zero) and where they go.
struct TileSums {
  const void* from;
  int64_t from_pitch;
  void* to;
  int64_t to_pitch;
};

/// One block. A: [segment][row_tiles], each read for `steps` x 64 bytes. B: [segment][step][16][columns][4 bytes] for 16 x column_tiles
/// columns, as the kernels without tiles pack it. sums: [row_tiles][2].
struct TileProduct {
  const TileRows* a;
  const uint8_t* b;
  int64_t segments, steps;
  int row_tiles, column_tiles;
  TileSums sums[2][2];
};

/// What a step adds: bytes of A, signed or not, by signed bytes of B in int32, or one block of dot32.
enum class TileArithmetic { kUnsigned, kSigned, kDot32 };

void multiply_tiles(TileArithmetic arithmetic, const TileProduct& product);

/// Whether multiply_tiles runs on registers of this host, or on an emulation that a test asked for.
bool has_tile_kernels();
/// Tests: as if this host had tile registers. Results are the same, and slow.
void emulate_tiles(bool on);

}  // namespace systole
