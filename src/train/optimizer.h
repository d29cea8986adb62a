// Optimisers and learning-rate schedules. An update is a graph of its own, in fp32, so that master weights keep their digits.
#pragma once
#include <string>
#include <vector>

#include "train/builder.h"

namespace systole {

struct OptimizerOptions {
  std::string name = "adamw";  ///< sgd, adam, adamw, lamb, adafactor
  double momentum = 0.9, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0;
  bool nesterov = false;
  double clip_norm = 0;        ///< of all gradients together; 0: none
};

/// Inputs: learning rate, correction 1, correction 2 and, where asked for, a factor of the gradients (each [1]); weights; gradients; states, weight by weight;
/// random bytes (u8) for each weight in `narrow` (none where empty), which is bf16 and rounded stochastically: a step of less than a last place is taken as
/// often as it is large. Outputs: weights, then states, then the weights `copied` once more, rounded to nearest of `copy_type`. Fails (kBadInput) on an unknown
/// name.
Graph update_graph(const OptimizerOptions& options, const std::vector<Shape>& weights, bool factor = false, const std::vector<bool>& narrow = {}, const std::vector<size_t>& copied = {}, DType copy_type = DType::kBF16);
/// States of a weight: momentum, moments, or Adafactor's sums over columns and rows ([rows, 1] and [1, columns] of a weight seen as [rows,
/// columns]; of a vector the second moments alone).
std::vector<Shape> states_of(const OptimizerOptions& options, const Shape& weight);
/// 1 / (1 - beta^t) of both moments at step t = 1, 2, ...; of adafactor what its second moments keep, 1 - t^-0.8, and 1 less that.
std::pair<float, float> corrections(const OptimizerOptions& options, int64_t step);

struct RateSchedule {
  std::string name = "constant";  ///< constant, step (x 0.1 at a half and three quarters), cosine (to 0)
  double rate = 1e-3;
  int64_t warm_up = 0, steps = 1;
  /// At step 0, 1, ... Fails (kBadInput) on an unknown name.
  double at(int64_t step) const;
};

}  // namespace systole
