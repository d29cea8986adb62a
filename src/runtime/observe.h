// Runs a graph of ONNX operators with some of its inner values as outputs.
#pragma once
#include <memory>
#include <vector>

#include "passes/pipeline.h"
#include "runtime/plan.h"

namespace systole {

class Observer {
 public:
  /// `values` follow the graph's own outputs.
  Observer(Graph graph, const std::vector<ValueId>& values, std::shared_ptr<const PlanContext> context);
  /// Own outputs first, then the observed values.
  std::vector<Tensor> run(const std::vector<HostValue>& inputs);
  std::vector<Tensor> run(const std::vector<Tensor>& inputs) { return run(std::vector<HostValue>(inputs.begin(), inputs.end())); }
  const std::vector<Plan::Boundary>& inputs() const { return plan_->inputs(); }

 private:
  std::unique_ptr<Plan> plan_;
};

/// Sets the shape of every value that a node of the graph makes, found by lowering it. Fails (kUnsupported) where a shape
/// follows from data.
void infer_shapes(Graph& graph);

/// Error of `got` against `want`.
struct Difference {
  double cosine = 1, max_abs = 0, sqnr_db = 0;
};
Difference difference_of(const Tensor& got, const Tensor& want);

/// A context on the machine that the options name.
std::shared_ptr<const PlanContext> context_of(const std::string& npu, const FrontResult& front);

}  // namespace systole
