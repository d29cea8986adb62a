// Weights of few bits that share scales in groups (DequantizeLinear of constants, axis, block_size): kept as codes where a
// contraction reads them, so that DRAM holds and delivers those; floats for every other reader.
#pragma once
#include <memory>
#include <optional>

#include "graph/graph.h"

namespace systole {

struct GroupedWeights {
  TensorPtr codes;   ///< [R, C], integers of at most 8 bits
  TensorPtr scales;  ///< f32 (f16 where that is exact), [R / rows, C / columns]: one for each group
  TensorPtr zeros;   ///< like the scales, of the codes' type
  int64_t rows = 1, columns = 1;  ///< of a group

  Tensor to_floats() const;
  /// The same matrix under exchanged axes.
  GroupedWeights transposed() const;
  /// With one scale for each column of each group: columns = 1.
  GroupedWeights per_column() const;
};

/// Of a DequantizeLinear node whose inputs are these constants (zeros may be null); nothing where its result is no float matrix
/// of at most 8 bits per code.
std::optional<GroupedWeights> grouped_weights(const OnnxOp& op, const TensorPtr& codes, const TensorPtr& scales, const TensorPtr& zeros);

}  // namespace systole
