// An inference model as something that learns: its weights become inputs of the graph.
#pragma once
#include <string>
#include <vector>

#include "systole/systole.h"
#include "train/builder.h"
#include "train/fake_quantise.h"
#include "train/head.h"

namespace systole {

/// A weight. It is held in the order in which the NPU reads and makes it (convolutions: [KH, KW, C, Co]).
struct Weight {
  std::string name;           ///< of the initializer
  ValueId constant;           ///< in the file's graph
  std::vector<int64_t> perm;  ///< held = transpose(file, perm); empty: the same
  bool frozen = false;
};

/// Batch statistics of one BatchNormalization, and what it keeps of them.
struct RunningStatistics {
  ValueId mean_constant, variance_constant;  ///< in the file's graph
  double momentum = 0.9;                     ///< running = momentum running + (1 - momentum) batch
};

/// A forward graph whose inputs are those of the model, then the parameters in order, then mean and variance of each statistic.
struct ForwardGraph {
  Graph graph;
  ValueId logits = kNoValue;
  std::vector<ValueId> parameters;
  std::vector<ValueId> running;       ///< inputs: mean, variance, mean, variance, ...
  std::vector<ValueId> batch_statistics;  ///< training only: the same of this batch
  struct Mask {
    ValueId input;  ///< 0, or 1 / (1 - ratio), for each element
    double ratio;
  };
  std::vector<Mask> masks;  ///< training only: of Dropout; inputs after the parameters
};

class TrainableModel {
 public:
  /// Reads a model, its batch set to `batch`; float, or QDQ, which then learns with its quantisation. A Softmax at the end is left out where `logits` asks for
  /// what it reads. `options`: dimensions, and further inputs that never change. `freeze`: beginnings of weights' names that stay as they are.
  /// `head`: the output that the loss looks at, and a last layer of its own width. Other outputs stay in what is written. Fails (kUnsupported, kBadInput) saying why.
  TrainableModel(const std::string& path, int64_t batch, bool logits, const std::vector<std::string>& freeze, const CompileOptions& options = {}, const Head& head = {});

  const std::vector<Weight>& parameters() const { return parameters_; }
  const std::vector<RunningStatistics>& statistics() const { return statistics_; }
  /// Name, type and shape, of a whole batch, of each input.
  std::vector<Value> inputs() const;
  bool quantised() const { return !stored_.empty(); }
  Shape logits_shape() const { return file_.value(file_.outputs[0]).shape; }
  /// Weights as the file has them, in the order in which they are held; then means and variances.
  std::vector<Tensor> initial_parameters() const;
  std::vector<Tensor> initial_statistics() const;

  ForwardGraph forward(bool training) const;
  /// The file's graph with these weights, as an ONNX model.
  void write(const std::vector<Tensor>& parameters, const std::vector<Tensor>& statistics, const std::string& doc, const std::string& path) const;

 private:
  /// The constant of the file that `v` is, or a view of (as operators in parts read theirs); kNoValue where there is none.
  ValueId weight_behind(ValueId v) const;
  void find_parameters(const std::vector<std::string>& freeze);
  Graph file_;   ///< with shapes; the last Softmax left out
  Graph whole_;  ///< as it will be written
  size_t values_before_ = 0;  ///< of file_, before operators were written out as others
  std::map<ValueId, StoredCodes> stored_;  ///< of weights that the file holds as codes
  std::vector<Weight> parameters_;
  std::vector<RunningStatistics> statistics_;
};

}  // namespace systole
