// One block on `Tiles`, compiled with TILE_CODE's instruction set; matrix_tiles.cpp includes it for registers and for their emulation,
// which has to run where no such instructions are.
template <int kTile>
TILE_INLINE void begin(const TileSums& s) {
  s.from ? Tiles::load<kTile>(s.from, s.from_pitch) : Tiles::zero<kTile>();
}

template <TileArithmetic kKind, int kRows, int kColumns>
TILE_CODE void block(const TileProduct& p) {
  Tiles::configure();
  begin<0>(p.sums[0][0]);
  if constexpr (kColumns == 2) begin<1>(p.sums[0][1]);
  if constexpr (kRows == 2) begin<2>(p.sums[1][0]);
  if constexpr (kRows == 2 && kColumns == 2) begin<3>(p.sums[1][1]);
  const uint8_t* b = p.b;
  for (int64_t s = 0; s < p.segments; ++s) {
    const TileRows* a = p.a + s * kRows;
    for (int64_t at = 0; at < p.steps * kTileStep; at += kTileStep, b += kTileRows * kTileStep * kColumns) {
      Tiles::load<4>(a[0].first + at, a[0].pitch);
      Tiles::load<6>(b, kTileStep * kColumns);
      Tiles::multiply<kKind, 0, 0>();
      if constexpr (kColumns == 2) Tiles::load<7>(b + kTileStep, kTileStep * kColumns), Tiles::multiply<kKind, 0, 1>();
      if constexpr (kRows == 2) Tiles::load<5>(a[1].first + at, a[1].pitch), Tiles::multiply<kKind, 1, 0>();
      if constexpr (kRows == 2 && kColumns == 2) Tiles::multiply<kKind, 1, 1>();
    }
  }
  Tiles::store<0>(p.sums[0][0].to, p.sums[0][0].to_pitch);
  if constexpr (kColumns == 2) Tiles::store<1>(p.sums[0][1].to, p.sums[0][1].to_pitch);
  if constexpr (kRows == 2) Tiles::store<2>(p.sums[1][0].to, p.sums[1][0].to_pitch);
  if constexpr (kRows == 2 && kColumns == 2) Tiles::store<3>(p.sums[1][1].to, p.sums[1][1].to_pitch);
}

template <TileArithmetic kKind>
constexpr BlockShapes kShapes = {{{block<kKind, 1, 1>, block<kKind, 1, 2>}, {block<kKind, 2, 1>, block<kKind, 2, 2>}}};
constexpr BlockShapes kBlocks[3] = {kShapes<TileArithmetic::kUnsigned>, kShapes<TileArithmetic::kSigned>, kShapes<TileArithmetic::kDot32>};
