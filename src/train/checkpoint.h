// The state of a training run in one file, written whole or not at all.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "numerics/tensor.h"

namespace systole {

struct Checkpoint {
  std::string run;           ///< what is trained how: another run's checkpoint does not fit
  int64_t step = 0;          ///< updates done
  std::vector<Tensor> tensors;  ///< weights, states, statistics
};

void write_checkpoint(const Checkpoint& checkpoint, const std::string& path);
/// Nothing where there is no file. Fails (kBadInput) on a damaged one, kMismatch on one of another run.
std::optional<Checkpoint> read_checkpoint(const std::string& path, const std::string& run);

}  // namespace systole
