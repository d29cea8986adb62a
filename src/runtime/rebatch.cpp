#include "runtime/rebatch.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <random>

#include "base/error.h"
#include "passes/passes.h"
#include "runtime/observe.h"
#include "runtime/plan.h"

namespace systole {
namespace {

const OnnxOp& op_of(const Node& n) { return std::get<OnnxOp>(n.op); }

int64_t batch_of(const Graph& g) {
  int64_t batch = 0;
  for (ValueId v : g.inputs) {
    const Value& in = g.value(v);
    const std::string what = "input '" + in.name + "' " + (in.shape_known ? to_string(in.shape) : "of no fixed shape");
    if (!in.shape_known || in.shape.empty()) fail(ErrorCode::kUnsupported, "--batch", what, "inputs whose first axis is the batch");
    if (batch != 0 && in.shape[0] != batch) fail(ErrorCode::kUnsupported, "--batch", what + " beside one that begins with " + std::to_string(batch), "inputs whose first axis is the batch");
    batch = in.shape[0];
  }
  return batch;
}

void set_batch(Graph& g, int64_t batch) {
  for (ValueId v : g.inputs) g.value(v).shape[0] = batch;
}

/// Constant shapes that begin with the file's batch of 1.
void reshape_for_batch(Graph& g, int64_t batch) {
  for (Node& n : g.nodes) {
    if (op_of(n).type != "Reshape" || n.inputs.size() < 2 || n.inputs[0] == kNoValue || n.inputs[1] == kNoValue || g.value(n.inputs[0]).constant) continue;
    const TensorPtr shape = g.value(n.inputs[1]).constant;
    if (!shape || shape->count() < 1 || shape->int_at(0) != 1) continue;
    std::vector<int64_t> to = shape->to_ints();
    to[0] = batch;
    n.inputs[1] = g.add_constant(n.name + ".shape", std::make_shared<const Tensor>(Tensor::from_ints(to, {static_cast<int64_t>(to.size())})));
  }
}

/// Why the outputs are not those of so many samples; empty if they are. Keeps the failure of a graph that no longer fits together.
std::string objection(Graph g, int64_t batch, std::exception_ptr& failure) {
  try {
    infer_shapes(g);
  } catch (const Failure&) {
    failure = std::current_exception();
    return "shapes that do not fit together";
  }
  for (ValueId v : g.outputs) {
    const Value& out = g.value(v);
    if (out.shape.empty() || out.shape[0] != batch) return "output '" + out.name + "' " + to_string(out.shape);
  }
  return "";
}

/// Whether the outputs of two samples are those of each by itself: a reshape may as well have mixed them.
bool keeps_samples_apart(Graph one) {
  Graph both = one;
  set_batch(one, 1), set_batch(both, 2), reshape_for_batch(both, 2);
  std::exception_ptr failure;
  if (!objection(both, 2, failure).empty()) return false;
  std::mt19937_64 rng(1);
  std::vector<HostValue> together;
  std::vector<std::vector<HostValue>> alone(2);
  for (ValueId v : both.inputs) {
    const Value& in = both.value(v);
    if (in.type == DType::kString) return false;
    Tensor all(in.type, in.shape);
    for (int64_t i = 0; i < all.count(); ++i) is_float(in.type) ? all.set(i, static_cast<double>(rng() % 2001) * 1e-3 - 1) : all.set_int(i, static_cast<int64_t>(rng() % 2));
    const size_t half = all.bytes.size() / 2;
    for (size_t n = 0; n < 2; ++n) {
      Shape shape = in.shape;
      shape[0] = 1;
      Tensor single(in.type, shape);
      std::copy_n(all.bytes.begin() + static_cast<long>(n * half), half, single.bytes.begin());
      alone[n].emplace_back(std::move(single));
    }
    together.emplace_back(std::move(all));
  }
  const auto context = std::make_shared<const PlanContext>(PlanContext{load_machine("server"), {DType::kF32, MacFormat::kF32}, "fp32", {}});
  const auto outputs = Plan(std::move(both), context).run(together);
  Plan single(std::move(one), context);
  for (size_t n = 0; n < 2; ++n) {
    const auto own = single.run(alone[n]);
    for (size_t k = 0; k < own.size(); ++k) {
      const Tensor &y = *own[k].tensor, &all = *outputs[k].tensor;
      if (y.type == DType::kString) return false;
      for (int64_t i = 0; i < y.count(); ++i) {
        if (!(std::fabs(y.at(i) - all.at(static_cast<int64_t>(n) * y.count() + i)) <= 1e-3 * (1 + std::fabs(y.at(i))))) return false;
      }
    }
  }
  return true;
}

}  // namespace

bool begins_with_time(const Graph& g) {
  return std::any_of(g.nodes.begin(), g.nodes.end(), [&](const Node& n) {
    const OnnxOp& op = op_of(n);
    const bool recurrent = op.type == "LSTM" || op.type == "GRU" || op.type == "RNN";
    return recurrent && !n.inputs.empty() && op.integer("layout", 0) == 0 && std::count(g.inputs.begin(), g.inputs.end(), n.inputs[0]) > 0;
  });
}

void rebatch(Graph& graph, int64_t batch) {
  isa::check_batch("--batch", batch);
  inline_constants(graph);
  prune_and_sort(graph);
  const int64_t from = batch_of(graph);
  if (from == batch) return;
  if (begins_with_time(graph)) fail(ErrorCode::kUnsupported, "--batch", "a recurrent layer that reads the input itself, whose first axis is time", "inputs whose first axis is the batch", "a Transpose in front of the layer");
  const Graph plain = graph;
  set_batch(graph, batch);
  std::exception_ptr failure;
  const std::string why = objection(graph, batch, failure);
  if (why.empty()) return;
  if (from == 1) {
    Graph following = graph;
    reshape_for_batch(following, batch);
    std::exception_ptr second;
    if (objection(following, batch, second).empty() && keeps_samples_apart(plain)) {
      graph = std::move(following);
      return;
    }
  }
  if (failure) std::rethrow_exception(failure);
  fail(ErrorCode::kUnsupported, "--batch " + std::to_string(batch), why, "outputs that begin with " + std::to_string(batch), "the model may reshape to a fixed batch of " + std::to_string(from));
}

}  // namespace systole
