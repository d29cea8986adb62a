// What the public handle holds: the plan of the model and its machine.
#pragma once
#include <future>
#include <memory>
#include <mutex>

#include "runtime/plan.h"
#include "systole/systole.h"

namespace systole {

class CompiledModel {
 public:
  /// `stored`: work that the model's end waits for.
  CompiledModel(std::string of, std::unique_ptr<Plan> plan, std::shared_ptr<const PlanContext> context, std::future<void> stored = {})
      : name(std::move(of)), context_(std::move(context)), plan_(std::move(plan)), stored_(std::move(stored)) {}
  const std::string name;

  const Machine& machine() const { return context_->machine; }
  const std::string& precision() const { return context_->precision; }
  int64_t batch() const { return context_->batch; }
  /// Runs are serialised.
  std::vector<HostValue> run(const std::vector<HostValue>& inputs) const {
    const std::lock_guard lock(mutex_);
    return plan_->run(inputs);
  }
  /// Calls with the plan locked.
  template <class F>
  auto with_plan(F&& f) const {
    const std::lock_guard lock(mutex_);
    return f(*plan_);
  }

 private:
  const std::shared_ptr<const PlanContext> context_;
  mutable std::mutex mutex_;
  const std::unique_ptr<Plan> plan_;
  const std::future<void> stored_;
};

}  // namespace systole
