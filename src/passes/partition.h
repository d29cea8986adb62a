// Which node runs where: the NPU takes what lowers to primitives, the host the rest, each with its reason. Operators are
// expanded and branches of known conditions inlined on the way, so the result's graph is what really runs.
#pragma once
#include <string>
#include <variant>
#include <vector>

#include "graph/graph.h"
#include "ops/lowering.h"

namespace systole {

/// Nodes that run together on the NPU, as an ONNX graph of their own.
struct Region {
  Graph graph;
  std::vector<ValueId> inputs, outputs;  ///< the whole graph's values, in the order of graph.inputs and graph.outputs
  std::vector<DType> output_types = {};  ///< in which the outputs go to the host
};

/// One node that the host runs.
struct HostStep {
  size_t node;  ///< of Partition::graph
  std::string reason;
};

struct Partition {
  Graph graph;                                     ///< after expansion and inlining; folded values are constants
  std::vector<std::variant<Region, HostStep>> steps;  ///< in order
  /// Nodes whose shapes depend on values that only a run knows: compiled then, for the shapes that are found.
  std::vector<Region> tail;                        ///< none or one
  bool whole = false;                              ///< everything is one region, already lowered:
  Graph primitives;
  size_t npu_nodes = 0, host_nodes = 0;
  std::shared_ptr<ConstantForms> forms;            ///< for lowering the regions
};

/// Fails (kUnsupported) listing the nodes that neither side can run. `bound`: the graph is a later part whose inputs have been
/// bound to values where that helps; what is an input still will not be known any better. `forms`: of an earlier lowering of the same.
Partition partition(Graph graph, FloatPolicy policy, bool bound = false, std::shared_ptr<ConstantForms> forms = nullptr);

/// The fused primitives of what a partition runs on the NPU, a graph per program; what is compiled later is not among them.
std::vector<Graph> fused_programs(Partition partition, FloatPolicy policy);

/// Inputs of a graph whose values decide shapes inside it.
std::vector<bool> inputs_that_shape(const Graph& graph);

/// The graph with some of its inputs replaced by constants (null entries stay inputs). Captures that become constants go.
Graph bind_inputs(const Graph& graph, const std::vector<TensorPtr>& constants);

}  // namespace systole
