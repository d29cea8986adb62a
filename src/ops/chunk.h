// How much of a batch the lowering of a training step takes at once where a whole tensor does not fit: neither graphs nor operators know the machine.
#pragma once
#include <cstdint>

namespace systole {

/// Elements of a chunk's tensors: what a scratchpad of a few MiB holds beside sums.
inline constexpr int64_t kChunkElements = int64_t{1} << 19;

}  // namespace systole
