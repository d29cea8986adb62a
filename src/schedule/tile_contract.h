// Tiling of one contract: which part of A, B and the output is on chip at a time, searched with the cost functions that
// the timing model uses (machine/cost.h).
#pragma once
#include <vector>

#include "graph/primitives.h"
#include "machine/cost.h"
#include "machine/machine.h"

namespace systole {

/// What the search needs to know about a contract and the map that drains it.
struct ContractShape {
  const Contract* contract = nullptr;
  int64_t images = 1, in_h = 1, in_w = 1, in_c = 1, out_h = 1, out_w = 1;
  int64_t groups = 1, k_channels = 1, columns = 1;  ///< per group; depthwise: columns = all channels, k_channels = 1
  int64_t multiplier = 1;                           ///< depthwise outputs per channel
  int64_t a_bytes = 1, out_bytes = 1;               ///< bytes of an element
  bool a_turned = false;                            ///< pixels, not channels, lie side by side in DRAM
  bool a_resident = false, out_resident = false, weights_dynamic_resident = false;
  bool weights_streamed = false;                    ///< of a run-time tensor in DRAM
  int64_t weight_column_bytes = 0;                  ///< that DRAM delivers for the weights of one column, where it is not their size
  int64_t panel_columns = 1;                        ///< a panel is a multiple of this
  int64_t drain_slots = 1, extra_bytes = 0;         ///< staged bytes per output element that the drain reads besides
  bool tiles_in_groups = true;                      ///< MX waits for a tile that shares a lock group with the one in use
  int64_t block_overhead_cycles = 4;                ///< dispatch and start-up that does not overlap, per block

  int64_t taps() const { return contract->kernel_h * contract->kernel_w; }
  int64_t k() const { return taps() * k_channels; }
  /// Of the pointers, not of the contracts.
  bool operator==(const ContractShape&) const = default;
};

struct ContractTile {
  int64_t rows = 1, cols = 1;              ///< output pixels whose input is on chip
  int64_t depth = 1;                       ///< of its channels at a time; if not all, a tile is one block and stays in the accumulators meanwhile
  bool by_taps = false;                    ///< a kernel's taps one after the other, each with what it sees of A; a tile is one block then too
  bool weights_in_parts = false;           ///< the weights of as many channels come with them, not those of all before
  int64_t weight_columns = 1, panel = 1;   ///< output channels whose weights are on chip; columns per packed panel
  int64_t block_rows = 1, block_cols = 1, block_columns = 1;  ///< one accumulator block
  bool weights_outer = true;
  int64_t cost = 0, staged_bytes = 0;
};

/// Bytes of A under `rows` x `cols` output pixels (and `channels` of it), or what one tap of the kernel sees of them.
int64_t input_tile_bytes(const ContractShape& s, int64_t rows, int64_t cols, int64_t channels, bool one_tap);

/// Parts of A that a block takes one after the other.
int64_t parts_of(const ContractShape& s, const ContractTile& t);

/// Candidates, best first. `ring_bytes` bounds what is staged at a time. Empty when not even one pixel fits.
std::vector<ContractTile> search_tiles(const Machine& machine, const ContractShape& shape, int64_t ring_bytes);

/// Searches that remember: a network's layers repeat.
class TileSearch {
 public:
  explicit TileSearch(const Machine& machine) : machine_(machine) {}
  /// As search_tiles; good until the next call.
  const std::vector<ContractTile>& find(const ContractShape& shape, int64_t ring_bytes);

 private:
  struct Known {
    Contract contract;
    ContractShape shape;  ///< without its pointer
    int64_t ring_bytes;
    std::vector<ContractTile> tiles;
  };
  const Machine& machine_;
  std::vector<Known> known_;
};

}  // namespace systole
