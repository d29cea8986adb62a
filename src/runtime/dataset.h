// Samples of a data set as tensors for the inputs of a model.
#pragma once
#include <vector>

#include "systole/systole.h"

namespace systole {

struct Dataset {
  std::vector<std::vector<Tensor>> samples;  ///< of each, a tensor per input
  std::vector<int64_t> labels;  ///< empty, or labels_each per sample, one after another
  std::vector<float> numbers;   ///< the same where labels are floats; those that are not all whole have no `labels`
  int64_t labels_each = 1;      ///< more than one: a label per pixel or token
};
/// One input takes any form of data; several take an .npz with an array [N, ...] of each one's name. Fails with the path and what is wrong with it. Labels of
/// [N, ...], and floats that are not whole, are refused unless `any_labels`.
Dataset load_dataset(const DataOptions& options, const std::vector<TensorInfo>& inputs, bool any_labels = false);

/// Random samples: normal floats, tokens 0 and 1.
std::vector<std::vector<Tensor>> random_samples(const std::vector<TensorInfo>& inputs, int64_t count, uint64_t seed);

/// Top-1 of a row of scores; the first of equals.
int64_t top_one(const Tensor& scores);

}  // namespace systole
