// One machine of a sweep on all models.
#pragma once
#include <string>
#include <vector>

#include "codegen/compile.h"
#include "graph/graph.h"
#include "machine/machine.h"
#include "systole/systole.h"

namespace systole {

/// A model read once: its primitives, one graph per region of the NPU.
struct SweepModel {
  std::string name, precision;
  std::vector<Graph> graphs;
  size_t host_nodes = 0;
  uint64_t content = 0;  ///< hash of the file
};
struct FrontResult;
/// The primitives of a model after its ONNX passes.
SweepModel primitives_of(const FrontResult& front, const std::string& name);
SweepModel read_model(const std::string& path, const CompileOptions& options);

struct ModelCost {
  int64_t cycles = 0;
  double latency_s = 0, energy_j = 0;
};
struct PointCost {
  std::string error;  ///< why the machine cannot be built or cannot run a model; empty: it can
  std::vector<ModelCost> models;
  double area_mm2 = 0;
};
/// `effort`: of the compiler.
PointCost evaluate(const std::vector<SweepModel>& models, const Machine& machine, Effort effort = Effort::kQuick);

}  // namespace systole
