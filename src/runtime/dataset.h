// Samples of a data set as tensors for one input of a model.
#pragma once
#include <vector>

#include "systole/systole.h"

namespace systole {

struct Dataset {
  std::vector<Tensor> inputs;
  std::vector<int64_t> labels;  ///< empty, or labels_each per input, one after another
  std::vector<float> numbers;   ///< the same where labels are floats; those that are not all whole have no `labels`
  int64_t labels_each = 1;      ///< more than one: a label per pixel or token
};
/// Fails with the path and what is wrong with it. Labels of [N, ...], and floats that are not whole, are refused unless `any_labels`.
Dataset load_dataset(const DataOptions& options, const TensorInfo& info, bool any_labels = false);

/// Top-1 of a row of scores; the first of equals.
int64_t top_one(const Tensor& scores);

}  // namespace systole
