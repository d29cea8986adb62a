#include "sim/translate/matrix_tiles.h"

#include <cstring>
#include <random>
#include <vector>

#include "numerics/dot32.h"
#include "sim/translate/host.h"

#ifdef SYSTOLE_X86
#include <immintrin.h>
#endif

namespace systole {
#ifdef SYSTOLE_X86
namespace {

#define SYSTOLE_AMX __attribute__((target("amx-tile,amx-int8,amx-bf16,avx512f")))
#define SYSTOLE_AMX_INLINE __attribute__((target("amx-tile,amx-int8,amx-bf16,avx512f"), always_inline)) static inline

/// The registers of this host. Intrinsics want literal numbers: sums are tiles 0 to 3, A is 4 and 5, B 6 and 7.
struct Registers {
  template <int kTile>
  SYSTOLE_AMX_INLINE void zero() {
    if constexpr (kTile == 0) _tile_zero(0);
    if constexpr (kTile == 1) _tile_zero(1);
    if constexpr (kTile == 2) _tile_zero(2);
    if constexpr (kTile == 3) _tile_zero(3);
  }
  template <int kTile>
  SYSTOLE_AMX_INLINE void load(const void* from, int64_t pitch) {
    if constexpr (kTile == 0) _tile_loadd(0, from, pitch);
    if constexpr (kTile == 1) _tile_loadd(1, from, pitch);
    if constexpr (kTile == 2) _tile_loadd(2, from, pitch);
    if constexpr (kTile == 3) _tile_loadd(3, from, pitch);
    if constexpr (kTile == 4) _tile_loadd(4, from, pitch);
    if constexpr (kTile == 5) _tile_loadd(5, from, pitch);
    if constexpr (kTile == 6) _tile_loadd(6, from, pitch);
    if constexpr (kTile == 7) _tile_loadd(7, from, pitch);
  }
  template <int kTile>
  SYSTOLE_AMX_INLINE void store(void* to, int64_t pitch) {
    if constexpr (kTile == 0) _tile_stored(0, to, pitch);
    if constexpr (kTile == 1) _tile_stored(1, to, pitch);
    if constexpr (kTile == 2) _tile_stored(2, to, pitch);
    if constexpr (kTile == 3) _tile_stored(3, to, pitch);
  }
  /// Tile 2 r + c += tile 4 + r by tile 6 + c.
  template <TileArithmetic kKind, int kRow, int kColumn>
  SYSTOLE_AMX_INLINE void multiply() {
    constexpr int kTile = 2 * kRow + kColumn;
    if constexpr (kKind == TileArithmetic::kUnsigned) {
      if constexpr (kTile == 0) _tile_dpbusd(0, 4, 6);
      if constexpr (kTile == 1) _tile_dpbusd(1, 4, 7);
      if constexpr (kTile == 2) _tile_dpbusd(2, 5, 6);
      if constexpr (kTile == 3) _tile_dpbusd(3, 5, 7);
    } else if constexpr (kKind == TileArithmetic::kSigned) {
      if constexpr (kTile == 0) _tile_dpbssd(0, 4, 6);
      if constexpr (kTile == 1) _tile_dpbssd(1, 4, 7);
      if constexpr (kTile == 2) _tile_dpbssd(2, 5, 6);
      if constexpr (kTile == 3) _tile_dpbssd(3, 5, 7);
    } else {
      if constexpr (kTile == 0) _tile_dpbf16ps(0, 4, 6);
      if constexpr (kTile == 1) _tile_dpbf16ps(1, 4, 7);
      if constexpr (kTile == 2) _tile_dpbf16ps(2, 5, 6);
      if constexpr (kTile == 3) _tile_dpbf16ps(3, 5, 7);
    }
  }
  /// Eight tiles of 16 x 64 bytes. Threads keep the shapes they have, so most calls only look.
  SYSTOLE_AMX static void configure() {
    struct alignas(64) Shapes {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    static constexpr Shapes kShapes;
    Shapes now;
    _tile_storeconfig(&now);
    if (std::memcmp(&now, &kShapes, sizeof now) != 0) _tile_loadconfig(&kShapes);
    asm volatile("" ::: "memory");  // GCC 12's tile loads do not say that they read memory
  }
};

/// The definition: the same operations, one element after the other.
struct Emulation {
  using Tile = uint32_t[kTileRows][kTileStep / 4];
  static thread_local Tile tiles[8];
  template <int kTile>
  static void zero() {
    std::memset(tiles[kTile], 0, sizeof(Tile));
  }
  template <int kTile>
  static void load(const void* from, int64_t pitch) {
    for (int r = 0; r < kTileRows; ++r) std::memcpy(tiles[kTile][r], static_cast<const uint8_t*>(from) + r * pitch, kTileStep);
  }
  template <int kTile>
  static void store(void* to, int64_t pitch) {
    for (int r = 0; r < kTileRows; ++r) std::memcpy(static_cast<uint8_t*>(to) + r * pitch, tiles[kTile][r], kTileStep);
  }
  static uint32_t integer(TileArithmetic kind, const uint8_t* row, int column, const Tile& b, uint32_t sum) {
    for (int k = 0; k < kTileStep; ++k) {
      const int32_t x = kind == TileArithmetic::kSigned ? static_cast<int8_t>(row[k]) : row[k];
      sum += static_cast<uint32_t>(x * static_cast<int8_t>(b[k / 4][column] >> (k % 4 * 8)));
    }
    return sum;
  }
  static uint32_t dot32(const uint8_t* row, int column, const Tile& b, uint32_t sum) {
    float x[kDotBlock], y[kDotBlock];
    for (int k = 0; k < kDotBlock; ++k) {
      uint16_t v;
      std::memcpy(&v, row + 2 * k, 2);
      x[k] = bf16_to_f32(v), y[k] = bf16_to_f32(static_cast<uint16_t>(b[k / 2][column] >> (k % 2 * 16)));
    }
    return std::bit_cast<uint32_t>(dot32_block(x, y, std::bit_cast<float>(sum)));
  }
  template <TileArithmetic kKind, int kRow, int kColumn>
  static void multiply() {
    for (int r = 0; r < kTileRows; ++r) {
      const auto* row = reinterpret_cast<const uint8_t*>(tiles[4 + kRow][r]);
      for (int c = 0; c < kTileColumns; ++c) {
        uint32_t& sum = tiles[2 * kRow + kColumn][r][c];
        sum = kKind == TileArithmetic::kDot32 ? dot32(row, c, tiles[6 + kColumn], sum) : integer(kKind, row, c, tiles[6 + kColumn], sum);
      }
    }
  }
  static void configure() {}
};
thread_local Emulation::Tile Emulation::tiles[8];

using Block = void (*)(const TileProduct&);
struct BlockShapes {
  Block by_shape[2][2];
};
namespace registers {
using Tiles = Registers;
#define TILE_CODE SYSTOLE_AMX
#define TILE_INLINE SYSTOLE_AMX_INLINE
#include "sim/translate/tile_block.inl"
#undef TILE_CODE
#undef TILE_INLINE
}  // namespace registers
namespace emulation {
using Tiles = Emulation;
#define TILE_CODE
#define TILE_INLINE inline
#include "sim/translate/tile_block.inl"
#undef TILE_CODE
#undef TILE_INLINE
}  // namespace emulation

/// Hardware against the definition, on numbers of all sizes: large and tiny sums, subnormals, infinities.
bool agrees() {
  std::mt19937 random(1);
  std::vector<uint16_t> a(kTileRows * 64), b(kTileRows * 64);
  std::vector<uint32_t> start(kTileRows * kTileColumns), sums[2] = {start, start};
  for (int trial = 0; trial < 12; ++trial) {
    const TileArithmetic kind = trial % 3 == 0 ? TileArithmetic::kUnsigned : trial % 6 == 1 ? TileArithmetic::kSigned : TileArithmetic::kDot32;
    const int span[4] = {255, 30, 8, 3}, first[4] = {0, 112, 58, 124};  // of exponents
    auto number = [&] { return static_cast<uint16_t>((random() & 0x807F) | static_cast<uint32_t>(first[trial % 4] + static_cast<int>(random()) % span[trial % 4]) << 7); };
    for (auto* list : {&a, &b}) for (uint16_t& v : *list) v = number();
    for (uint32_t& v : start) v = static_cast<uint32_t>(number()) << 16;
    const TileRows rows[2] = {{reinterpret_cast<const uint8_t*>(a.data()), 128}, {reinterpret_cast<const uint8_t*>(a.data()) + 64, 128}};
    TileProduct p{rows, reinterpret_cast<const uint8_t*>(b.data()), 2, 1, 1, 1, {}};
    for (int side = 0; side < 2; ++side) {
      p.sums[0][0] = {start.data(), kTileStep, sums[side].data(), kTileStep};
      (side ? registers::kBlocks : emulation::kBlocks)[static_cast<size_t>(kind)].by_shape[0][0](p);
    }
    for (size_t i = 0; i < start.size(); ++i) {
      const float x = std::bit_cast<float>(sums[0][i]), y = std::bit_cast<float>(sums[1][i]);
      if (sums[0][i] != sums[1][i] && !(kind == TileArithmetic::kDot32 && x != x && y != y)) return false;
    }
  }
  return true;
}

bool g_emulated = false;

}  // namespace

void emulate_tiles(bool on) { g_emulated = on; }

bool has_tile_kernels() {
  if (g_emulated) return has_kernels();
  if (host_isa() != HostIsa::kAmx || kernel_isa() != KernelIsa::kAvx512) return false;
  static const bool same = agrees();
  return same;
}

void multiply_tiles(TileArithmetic arithmetic, const TileProduct& p) {
  (g_emulated ? emulation::kBlocks : registers::kBlocks)[static_cast<size_t>(arithmetic)].by_shape[p.row_tiles - 1][p.column_tiles - 1](p);
}
#else
void emulate_tiles(bool) {}
bool has_tile_kernels() { return false; }
void multiply_tiles(TileArithmetic, const TileProduct&) {}
#endif

}  // namespace systole
