// What the public handle holds: the program, its machine, and the loaded models of it, made on first use.
#pragma once
#include <memory>
#include <mutex>

#include "isa/program.h"
#include "machine/machine.h"
#include "sim/functional/executor.h"
#include "systole/systole.h"

namespace systole {

class CompiledModel {
 public:
  CompiledModel(isa::Program p, Machine m) : program(std::move(p)), machine(std::move(m)) {}
  const isa::Program program;
  const Machine machine;

  /// The functional model; runs are serialised.
  std::vector<Tensor> run(const std::vector<Tensor>& inputs) const {
    const std::lock_guard lock(mutex_);
    if (!functional_) functional_ = std::make_unique<Functional>(program, machine);
    return functional_->run(inputs);
  }

 private:
  mutable std::mutex mutex_;
  mutable std::unique_ptr<Functional> functional_;
};

}  // namespace systole
