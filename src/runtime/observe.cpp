#include "runtime/observe.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace systole {

Observer::Observer(Graph graph, const std::vector<ValueId>& values, std::shared_ptr<const PlanContext> context) {
  graph.outputs.insert(graph.outputs.end(), values.begin(), values.end());
  plan_ = std::make_unique<Plan>(std::move(graph), std::move(context));
}

std::vector<Tensor> Observer::run(const std::vector<HostValue>& inputs) {
  std::vector<Tensor> out;
  for (const HostValue& v : plan_->run(inputs)) out.push_back(v.tensor ? *v.tensor : Tensor());
  return out;
}

void infer_shapes(Graph& graph) {
  Graph all = graph;
  all.outputs.clear();
  for (const Node& n : graph.nodes) std::copy_if(n.outputs.begin(), n.outputs.end(), std::back_inserter(all.outputs), [](ValueId v) { return v != kNoValue; });
  const std::vector<ValueId> order = all.outputs;
  const Plan plan(std::move(all), std::make_shared<const PlanContext>(PlanContext{load_machine("edge"), {DType::kF32, MacFormat::kF32}, "fp32", {}, {}, true}));
  for (size_t k = 0; k < order.size(); ++k) {
    Value& v = graph.value(order[k]);
    if (!plan.outputs()[k].known) fail(ErrorCode::kUnsupported, graph.name, "value '" + v.name + "' has a shape that follows from data", "fixed shapes");
    v.shape = plan.outputs()[k].shape, v.shape_known = true;
  }
}

Difference difference_of(const Tensor& got, const Tensor& want) {
  if (got.shape != want.shape || got.type == DType::kString || want.type == DType::kString) return {0, INFINITY, -INFINITY};
  double dot = 0, x2 = 0, y2 = 0, e2 = 0;
  Difference d;
  for (int64_t i = 0, n = want.count(); i < n; ++i) {
    const double x = want.at(i), y = got.at(i);
    if (!std::isfinite(x) && (x == y || (std::isnan(x) && std::isnan(y)))) continue;
    dot += x * y, x2 += x * x, y2 += y * y, e2 += (x - y) * (x - y);
    d.max_abs = std::max(d.max_abs, std::isnan(x - y) ? INFINITY : std::fabs(x - y));
  }
  d.cosine = x2 == 0 && y2 == 0 ? 1 : dot / std::sqrt(x2 * y2 + 1e-300);
  d.sqnr_db = e2 == 0 ? 200 : 10 * std::log10(std::max(x2, 1e-300) / e2);
  return d;
}

std::shared_ptr<const PlanContext> context_of(const std::string& npu, const FrontResult& front) { return std::make_shared<const PlanContext>(PlanContext{load_machine(npu), front.policy, front.precision, {}}); }

}  // namespace systole
