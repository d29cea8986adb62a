// Samples of a data set as tensors for one input of a model.
#pragma once
#include <vector>

#include "systole/systole.h"

namespace systole {

struct Dataset {
  std::vector<Tensor> inputs;
  std::vector<int64_t> labels;  ///< empty, or one per input
};
/// Fails with the path and what is wrong with it.
Dataset load_dataset(const DataOptions& options, const TensorInfo& info);

/// Top-1 of a row of scores; the first of equals.
int64_t top_one(const Tensor& scores);

}  // namespace systole
