// The programs of a training run: forward and backward, update, and evaluation.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "runtime/compiled.h"
#include "train/copies.h"
#include "train/loss.h"
#include "train/model.h"
#include "train/optimizer.h"
#include "train/recompute.h"

namespace systole {

struct StepOptions {
  std::string npu = "edge", precision = "auto", loss = "cross-entropy";
  OptimizerOptions optimizer;
  int64_t class_axis = 1;   ///< of the output, for cross-entropy
  int64_t labels_each = 1;  ///< per sample, for ctc
  uint64_t seed = 1;        ///< of dropout and stochastic rounding
  std::string weights = "fp32";  ///< or bf16: matrices without fp32 masters, rounded stochastically
  RecomputeOptions recompute;
  float loss_scale = 65536; ///< of fp16 at the start: gradients are computed times this, halved where one overflows, doubled after 200 good steps
  int64_t accumulate = 1;   ///< batches whose gradients are added before an update
  bool cache = true;
  bool reference = false;  ///< evaluate the primitives by their definition
};

/// What training changes: weights, states of the optimiser, running statistics.
struct TrainingState {
  std::vector<Tensor> weights, states, statistics;
  std::vector<Tensor> scaling;  ///< fp16 alone: [2], the loss scale and the good steps since it changed
  std::vector<Tensor> copies;   ///< of weights, rounded (train/copies.h): no state of its own; see TrainingPrograms::make_copies
};

class TrainingPrograms {
 public:
  TrainingPrograms(const TrainableModel& model, const StepOptions& options);

  TrainingState initial_state() const;
  /// Makes the copies of the weights, after they came from somewhere else than a step.
  void make_copies(TrainingState& state) const;
  struct Batch {
    std::vector<Tensor> data;  ///< per input of the model
    Tensor targets;
  };
  struct StepResult {
    double loss = 0;
    bool skipped = false;           ///< fp16: a gradient overflowed, nothing was updated
    std::vector<Tensor> logits;     ///< of each batch
    std::vector<Tensor> gradients;  ///< of the weights that learn
  };
  /// One update from the gradients of all batches, added up in order in fp32. `scale`: one over the rows or elements that count
  /// in all of them; `step` from 1. Running statistics take those of the last batch.
  StepResult step(TrainingState& state, const std::vector<Batch>& batches, float scale, double rate, int64_t step);
  StepResult step(TrainingState& state, const Tensor& data, const Tensor& targets, float scale, double rate, int64_t number) { return step(state, std::vector<Batch>{{{data}, targets}}, scale, rate, number); }
  /// The output for a batch, by the running statistics.
  Tensor evaluate(const TrainingState& state, const std::vector<Tensor>& data) const;
  Tensor evaluate(const TrainingState& state, const Tensor& data) const { return evaluate(state, std::vector<Tensor>{data}); }

  const std::string& precision() const { return options_.precision; }
  const Compiled& forward_backward() const { return forward_backward_; }
  const Compiled& update() const { return update_; }
  /// Null without accumulation.
  const Compiled& addition() const { return addition_; }
  const Compiled& evaluation() const { return evaluation_; }
  const Recomputed& recomputed() const { return recomputed_; }

 private:
  const TrainableModel& model_;
  const StepOptions options_;
  std::vector<size_t> learning_;  ///< of the parameters
  struct MaskShape {
    Shape shape;
    double ratio;
  };
  std::vector<MaskShape> masks_;  ///< of Dropout
  std::vector<bool> narrow_;  ///< by parameter: whether it is kept in bf16
  void find_narrow(ForwardGraph& forward);
  DType copy_type() const;
  Graph whole_update(const std::vector<Shape>& shapes) const;
  std::vector<WeightInput> step_inputs_, evaluation_inputs_;
  std::vector<size_t> copied_;  ///< weights of which a program reads a copy
  std::vector<HostValue> read_weights(const TrainingState& state, const std::vector<WeightInput>& inputs) const;
  Recomputed recomputed_;
  Compiled forward_backward_, addition_, update_, evaluation_;
};

}  // namespace systole
