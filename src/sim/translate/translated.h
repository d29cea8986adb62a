// A program translated for this host: the functional model's results, bit for bit, at native speed.
//
// Each instruction becomes a kernel for its exact geometry, chosen once. Weights are packed once. Copies that only carry
// packed weights are dropped. Instructions run as a graph ordered by the bytes they touch, on any number of threads.
// The functional model (sim/functional) stays the definition; tests hold this one against it.
#pragma once
#include <memory>
#include <vector>

#include "sim/functional/executor.h"
#include "sim/translate/task_graph.h"
#include "sim/translate/thread_choice.h"

namespace systole {

class Translated {
 public:
  /// As Functional: refers to the program, which must outlive it; fails alike on programs that do not fit the machine.
  Translated(const isa::Program& program, const Machine& machine);
  ~Translated();

  const isa::Sequence& sequence() const { return model_.sequence(); }
  /// Runs on inputs in the program's order; fails (kMismatch) on another count, type or shape.
  std::vector<Tensor> run(const std::vector<Tensor>& inputs, WorkProfile* profile = nullptr);

 private:
  Functional model_;  ///< memories, checks, boundary; interprets on hosts without kernels
  std::unique_ptr<TaskGraph> graph_;
  ThreadChoice choice_;
};

}  // namespace systole
