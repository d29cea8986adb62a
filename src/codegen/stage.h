// Operands of vector instructions: a box of a tensor that is resident, or that is loaded into the ring when it changes.
#pragma once
#include "codegen/emitter.h"

namespace systole {

/// A box of a tensor: lowest index and extent per dimension.
struct Box {
  std::vector<int64_t> lo, extent;
  bool operator==(const Box&) const = default;
};

/// Where a box lies in the scratchpad: address of its lowest element, strides in bytes, and its lowest index.
struct Tile {
  uint64_t address = 0;
  std::vector<int64_t> strides, lo;
};

/// One input over a whole step. A tile stays until another box is asked for.
class StagedInput {
 public:
  StagedInput(Emitter& emitter, ValueId value) : e_(emitter), value_(value) {}
  ~StagedInput() { release(); }
  StagedInput(const StagedInput&) = delete;
  StagedInput& operator=(const StagedInput&) = delete;

  /// The box in the scratchpad; emits the load when it is not there yet. Throws RingFull.
  Tile get(const Box& box);
  void release();

 private:
  Emitter& e_;
  ValueId value_;
  Box box_;
  int64_t address_ = -1;
};

/// Output side: a resident destination, or a staging buffer that `store` writes back.
class StagedOutput {
 public:
  StagedOutput(Emitter& emitter, ValueId value) : e_(emitter), value_(value) {}
  Tile get(const Box& box);
  void store(const Box& box);

 private:
  Emitter& e_;
  ValueId value_;
  int64_t address_ = -1;
};

/// Bytes that reading this box would stage (0 when resident).
int64_t staged_bytes(const Emitter& e, ValueId value, const Box& box);

/// The part of input k of a map that the loops [lo, lo + extent) touch, clipped to the tensor.
Box input_box(const Map& map, size_t k, const Shape& shape, const std::vector<int64_t>& lo, const std::vector<int64_t>& extent);

/// Emits one vector instruction (or several, when its loops exceed six) for the loops [lo, lo + extent) of `map`.
struct AccumulatorTile {
  int input = -1;            ///< which input is the accumulator block; -1: none
  int64_t first = 0;         ///< first accumulator element
  int64_t pixels = 0;        ///< M of the block
  int64_t block_cols = 0;    ///< columns of pixels in the block
  std::vector<int64_t> lo;   ///< loops of the block's first element
};
void emit_vector(Emitter& e, const Node& node, const std::vector<Tile>& inputs, const Tile& output, const std::vector<int64_t>& lo, const std::vector<int64_t>& extent, const AccumulatorTile& acc);

}  // namespace systole
