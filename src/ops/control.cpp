// Control flow that the compiler can decide: If with a known condition becomes its branch; Scan, and Loop with a known
// number of trips, are unrolled up to a limit. The rest runs on the host, which calls the NPU for the bodies.
#include <algorithm>

#include "ops/operator.h"

namespace systole {
namespace {

constexpr int64_t kUnrolledTrips = 64, kUnrolledNodes = 4096;

bool expand_if(Expander& x) {
  const TensorPtr condition = x.constant(0);
  if (!condition || condition->count() != 1) return false;
  const auto outputs = x.inline_graph(x.op().graph(condition->int_at(0) ? "then_branch" : "else_branch"), {});
  if (outputs.size() < x.node.outputs.size()) malformed(x.node, "a branch of " + std::to_string(outputs.size()) + " outputs", std::to_string(x.node.outputs.size()));
  for (size_t k = 0; k < x.node.outputs.size(); ++k) x.result(k, outputs[k]);
  return true;
}

bool small_enough(const Graph& body, int64_t trips) { return trips <= kUnrolledTrips && trips * static_cast<int64_t>(body.nodes.size()) <= kUnrolledNodes; }

/// The values of all trips along a new axis, the last trip first when reversed.
ValueId stack(Expander& x, std::vector<ValueId> parts, int64_t axis, bool reversed) {
  if (reversed) std::reverse(parts.begin(), parts.end());
  for (ValueId& v : parts) v = x.call("Unsqueeze", {v, x.ints({axis})});
  return parts.size() == 1 ? parts[0] : x.call("Concat", parts, {{"axis", axis}});
}

int64_t entry(const std::vector<int64_t>& list, size_t k) { return k < list.size() ? list[k] : 0; }

bool expand_scan(Expander& x) {
  const Graph& body = x.op().graph("body");
  const size_t inputs = body.inputs.size() - body.captures.size(), scans = static_cast<size_t>(std::max<int64_t>(0, x.op().integer("num_scan_inputs", 0)));
  if (x.op().opset < 9 || scans == 0 || scans > inputs || inputs > x.node.inputs.size() || body.outputs.size() < inputs - scans) return false;
  const size_t states = inputs - scans;
  const auto axes = x.op().integers("scan_input_axes"), directions = x.op().integers("scan_input_directions"), out_axes = x.op().integers("scan_output_axes"), out_directions = x.op().integers("scan_output_directions");
  std::vector<int64_t> axis;
  for (size_t k = 0; k < scans; ++k) axis.push_back(normalise_axis(x.node, entry(axes, k), x.shape(states + k).size()));
  const int64_t trips = x.shape(states)[static_cast<size_t>(axis[0])];
  if (trips < 1 || !small_enough(body, trips)) return false;
  std::vector<ValueId> state(x.node.inputs.begin(), x.node.inputs.begin() + static_cast<long>(states));
  std::vector<std::vector<ValueId>> outputs(body.outputs.size() - states);
  for (int64_t t = 0; t < trips; ++t) {
    auto arguments = state;
    for (size_t k = 0; k < scans; ++k) {
      if (x.shape(states + k)[static_cast<size_t>(axis[k])] != trips) malformed(x.node, "scan inputs of different lengths", "equal lengths");
      const int64_t at = entry(directions, k) ? trips - 1 - t : t;
      arguments.push_back(x.call("Squeeze", {x.slice(x.in(states + k), axis[k], at, at + 1), x.ints({axis[k]})}));
    }
    const auto results = x.inline_graph(body, arguments);
    state.assign(results.begin(), results.begin() + static_cast<long>(states));
    for (size_t k = 0; k < outputs.size(); ++k) outputs[k].push_back(results[states + k]);
  }
  for (size_t k = 0; k < states; ++k) x.result(k, state[k]);
  for (size_t k = 0; k < outputs.size(); ++k) {
    if (x.wants(states + k)) x.result(states + k, stack(x, outputs[k], entry(out_axes, k), entry(out_directions, k) != 0));
  }
  return true;
}

/// Whether the body hands its condition on unchanged, or always says true.
bool never_stops(const Graph& body) {
  ValueId v = body.outputs[0];
  for (size_t i = body.nodes.size(); i-- > 0;) {
    const Node& n = body.nodes[i];
    const auto& op = std::get<OnnxOp>(n.op);
    if (n.outputs.empty() || n.outputs[0] != v) continue;
    if (op.type == "Identity" || op.type == "Cast") v = n.inputs.at(0);
    const auto value = op.attributes.find("value");
    if (op.type == "Constant" && value != op.attributes.end() && std::holds_alternative<TensorPtr>(value->second)) return std::get<TensorPtr>(value->second)->count() == 1 && std::get<TensorPtr>(value->second)->int_at(0) != 0;
  }
  const TensorPtr constant = body.value(v).constant;
  return v == body.inputs[1] || (constant && constant->count() == 1 && constant->int_at(0) != 0);
}

bool expand_loop(Expander& x) {
  const Graph& body = x.op().graph("body");
  const size_t inputs = body.inputs.size() - body.captures.size();
  const TensorPtr trips = x.constant(0), condition = x.constant(1);
  if (inputs < 2 || body.outputs.size() < inputs - 1 || !trips || trips->count() != 1 || x.node.inputs.size() < inputs) return false;
  if ((x.has(1) && (!condition || condition->count() != 1 || !condition->int_at(0))) || !never_stops(body)) return false;
  const int64_t n = trips->int_at(0);
  const size_t carried = inputs - 2;
  if (n < 1 || !small_enough(body, n)) return false;
  std::vector<ValueId> state(x.node.inputs.begin() + 2, x.node.inputs.begin() + static_cast<long>(inputs));
  if (std::count(state.begin(), state.end(), kNoValue)) return false;
  std::vector<std::vector<ValueId>> outputs(body.outputs.size() - 1 - carried);
  Tensor yes(DType::kBool, {});
  yes.set_int(0, 1);
  const ValueId go = x.constant_tensor(yes);
  for (int64_t i = 0; i < n; ++i) {
    std::vector<ValueId> arguments = {x.constant_tensor(Tensor::from_ints({i}, {})), go};
    arguments.insert(arguments.end(), state.begin(), state.end());
    const auto results = x.inline_graph(body, arguments);
    state.assign(results.begin() + 1, results.begin() + 1 + static_cast<long>(carried));
    for (size_t k = 0; k < outputs.size(); ++k) outputs[k].push_back(results[1 + carried + k]);
  }
  for (size_t k = 0; k < carried; ++k) x.result(k, state[k]);
  for (size_t k = 0; k < outputs.size(); ++k) {
    if (x.wants(carried + k)) x.result(carried + k, stack(x, outputs[k], 0, false));
  }
  return true;
}

constexpr Operator kOperators[] = {
    {"", "If", nullptr, "expands", 1, expand_if},
    {"", "Loop", nullptr, "expands", 0, expand_loop},
    {"", "Scan", nullptr, "expands", 0, expand_scan},
};

}  // namespace

std::span<const Operator> control_operators() { return kOperators; }

}  // namespace systole
