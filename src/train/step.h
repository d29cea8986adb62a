// The programs of a training run: forward and backward, update, and evaluation.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "runtime/compiled.h"
#include "train/loss.h"
#include "train/model.h"
#include "train/optimizer.h"

namespace systole {

struct StepOptions {
  std::string npu = "edge", precision = "auto", loss = "cross-entropy";
  OptimizerOptions optimizer;
  int64_t class_axis = 1;   ///< of the output, for cross-entropy
  bool cache = true;
  bool reference = false;  ///< evaluate the primitives by their definition
};

/// What training changes: weights, states of the optimiser, running statistics.
struct TrainingState {
  std::vector<Tensor> weights, states, statistics;
};

class TrainingPrograms {
 public:
  TrainingPrograms(const TrainableModel& model, const StepOptions& options);

  TrainingState initial_state() const;
  struct StepResult {
    double loss = 0;
    Tensor logits;
    std::vector<Tensor> gradients;  ///< of the weights that learn
  };
  /// One update. `scale`: one over the rows or elements that count; `step` from 1.
  StepResult step(TrainingState& state, const Tensor& data, const Tensor& targets, float scale, double rate, int64_t step);
  /// The output for a batch, by the running statistics.
  Tensor evaluate(const TrainingState& state, const Tensor& data) const;

  const Compiled& forward_backward() const { return forward_backward_; }
  const Compiled& update() const { return update_; }
  const Compiled& evaluation() const { return evaluation_; }

 private:
  const TrainableModel& model_;
  const StepOptions options_;
  std::vector<size_t> learning_;  ///< of the parameters
  Compiled forward_backward_, update_, evaluation_;
};

}  // namespace systole
