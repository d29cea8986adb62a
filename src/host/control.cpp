// Control flow: If, Loop, Scan. The bodies run where their own operators run, through HostCall::run_graph.
#include <algorithm>
#include <string>

#include "base/error.h"
#include "host/host.h"

namespace systole {
namespace {

void run_if(HostCall& c) {
  if (c.in(0).count() != 1) malformed(c.node, "a condition of shape " + to_string(c.in(0).shape), "one boolean");
  const Graph& branch = c.op().graph(c.in(0).int_at(0) ? "then_branch" : "else_branch");
  auto out = c.run_graph(branch, c.subgraph_inputs(branch, {}));
  for (size_t k = 0; k < out.size(); ++k) c.give(k, std::move(out[k]));
}

/// Tensors of equal shape and type along a new axis; `reversed`: the last came first.
HostValue stack(const Node& node, const std::vector<HostValue>& parts, size_t axis, bool reversed) {
  const Tensor& first = *parts[0].tensor;
  Shape shape = first.shape;
  if (axis > shape.size()) malformed(node, "scan output axis " + std::to_string(axis), "0 to " + std::to_string(shape.size()));
  int64_t inner = 1;
  for (size_t d = axis; d < shape.size(); ++d) inner *= shape[d];
  const int64_t outer = inner ? first.count() / inner : 0, n = static_cast<int64_t>(parts.size());
  shape.insert(shape.begin() + static_cast<long>(axis), n);
  Tensor y = blank(first.type, shape);
  for (int64_t k = 0; k < n; ++k) {
    const HostValue& part = parts[static_cast<size_t>(reversed ? n - 1 - k : k)];
    if (!part.tensor || part.tensor->shape != first.shape || part.tensor->type != first.type) malformed(node, "scan outputs of different shapes", "equal shapes");
    for (int64_t o = 0; o < outer; ++o) {
      for (int64_t i = 0; i < inner; ++i) copy_element(y, (o * n + k) * inner + i, *part.tensor, o * inner + i);
    }
  }
  return HostValue(std::move(y));
}

/// M, cond, carried...; body: (iteration, cond, carried...) to (cond, carried..., scanned...).
void run_loop(HostCall& c) {
  const Graph& body = c.op().graph("body");
  const size_t inputs = body.inputs.size() - body.captures.size();
  if (inputs < 2 || body.outputs.size() < inputs - 1) malformed(c.node, "a body of " + std::to_string(inputs) + " inputs and " + std::to_string(body.outputs.size()) + " outputs", "(iteration, condition, carried...) to (condition, carried..., scanned...)");
  const size_t carried = inputs - 2;
  const int64_t trips = c.has(0) ? c.in(0).int_at(0) : INT64_MAX;
  bool go = !c.has(1) || c.in(1).int_at(0);
  std::vector<HostValue> state;
  for (size_t k = 0; k < carried; ++k) state.push_back(k + 2 < c.inputs.size() ? c.inputs[k + 2] : HostValue());
  std::vector<std::vector<HostValue>> scanned(body.outputs.size() - 1 - carried);
  for (int64_t i = 0; i < trips && go; ++i) {
    if (i == host_limits().trips) fail(ErrorCode::kResource, "node '" + c.node.name + "'", std::to_string(i) + " iterations", "a loop that ends");
    std::vector<HostValue> in = {HostValue(Tensor::from_ints({i}, {}))};
    Tensor condition(DType::kBool, {});
    condition.set_int(0, 1);
    in.emplace_back(std::move(condition));
    in.insert(in.end(), state.begin(), state.end());
    auto out = c.run_graph(body, c.subgraph_inputs(body, std::move(in)));
    if (out[0].tensor && out[0].tensor->count() > 0) go = out[0].tensor->int_at(0) != 0;
    for (size_t k = 0; k < carried; ++k) state[k] = out[1 + k];
    for (size_t k = 0; k < scanned.size(); ++k) scanned[k].push_back(out[1 + carried + k]);
  }
  for (size_t k = 0; k < carried; ++k) c.give(k, state[k]);
  for (size_t k = 0; k < scanned.size(); ++k) {
    if (!scanned[k].empty() && !scanned[k][0].tensor) malformed(c.node, "a scanned sequence", "tensors");
    c.give(carried + k, scanned[k].empty() ? HostValue(blank(body.value(body.outputs[1 + carried + k]).type, {0})) : stack(c.node, scanned[k], 0, false));
  }
}

/// Element i of a tensor along an axis, which goes.
HostValue take(const Tensor& x, size_t axis, int64_t i) {
  Shape shape = x.shape;
  shape.erase(shape.begin() + static_cast<long>(axis));
  Tensor y = blank(x.type, shape);
  int64_t inner = 1;
  for (size_t d = axis + 1; d < x.shape.size(); ++d) inner *= x.shape[d];
  for (int64_t k = 0, n = y.count(); k < n; ++k) copy_element(y, k, x, (k / inner * x.shape[axis] + i) * inner + k % inner);
  return HostValue(std::move(y));
}

int64_t entry(const std::vector<int64_t>& list, size_t k) { return k < list.size() ? list[k] : 0; }

/// One pass over scan inputs. Opset 9 on; opset 8 has a batch axis and sequence lengths in front.
void scan(HostCall& c, const Graph& body, std::vector<HostValue> state, const std::vector<TensorPtr>& scans, std::vector<HostValue>& final_state, std::vector<HostValue>& final_scans) {
  const auto axes = c.op().integers("scan_input_axes"), directions = c.op().integers(c.op().opset < 9 ? "directions" : "scan_input_directions");
  const auto out_axes = c.op().integers("scan_output_axes"), out_directions = c.op().integers("scan_output_directions");
  std::vector<size_t> axis;
  for (size_t k = 0; k < scans.size(); ++k) axis.push_back(static_cast<size_t>(normalise_axis(c.node, entry(axes, k), scans[k]->shape.size())));
  const int64_t trips = scans.empty() ? 0 : scans[0]->shape[axis[0]];
  for (size_t k = 0; k < scans.size(); ++k) {
    if (scans[k]->shape[axis[k]] != trips) malformed(c.node, "scan inputs of lengths " + std::to_string(trips) + " and " + std::to_string(scans[k]->shape[axis[k]]), "equal lengths");
  }
  std::vector<std::vector<HostValue>> scanned(body.outputs.size() - state.size());
  for (int64_t i = 0; i < trips; ++i) {
    std::vector<HostValue> in = state;
    for (size_t k = 0; k < scans.size(); ++k) in.push_back(take(*scans[k], axis[k], entry(directions, k) ? trips - 1 - i : i));
    auto out = c.run_graph(body, c.subgraph_inputs(body, std::move(in)));
    for (size_t k = 0; k < state.size(); ++k) state[k] = out[k];
    for (size_t k = 0; k < scanned.size(); ++k) scanned[k].push_back(out[state.size() + k]);
  }
  final_state = state;
  final_scans.clear();
  for (size_t k = 0; k < scanned.size(); ++k) {
    if (scanned[k].empty()) {
      final_scans.emplace_back(blank(body.value(body.outputs[state.size() + k]).type, {0}));
      continue;
    }
    if (!scanned[k][0].tensor) malformed(c.node, "a scanned sequence", "tensors");
    const int64_t a = entry(out_axes, k), rank = static_cast<int64_t>(scanned[k][0].tensor->shape.size()) + 1;
    final_scans.push_back(stack(c.node, scanned[k], static_cast<size_t>(normalise_axis(c.node, a, static_cast<size_t>(rank))), entry(out_directions, k) != 0));
  }
}

void run_scan(HostCall& c) {
  const Graph& body = c.op().graph("body");
  const bool batched = c.op().opset < 9;
  const size_t first = batched ? 1 : 0, inputs = body.inputs.size() - body.captures.size(), scan_count = static_cast<size_t>(std::max<int64_t>(0, c.op().integer("num_scan_inputs", 0)));
  if (scan_count > inputs || first + inputs > c.inputs.size() || body.outputs.size() < inputs - scan_count) malformed(c.node, std::to_string(scan_count) + " scan inputs", "at most the body's inputs");
  const size_t states = inputs - scan_count;
  const int64_t batch = batched && states + scan_count > 0 ? c.in(first).shape.at(0) : 1;
  std::vector<std::vector<HostValue>> collected(body.outputs.size());
  for (int64_t b = 0; b < batch; ++b) {
    auto value = [&](size_t k) { return batched ? take(c.in(first + k), 0, b) : c.inputs[first + k]; };
    std::vector<HostValue> state, final_state, final_scans;
    std::vector<TensorPtr> scans;
    for (size_t k = 0; k < states; ++k) state.push_back(value(k));
    for (size_t k = states; k < inputs; ++k) {
      const HostValue v = value(k);
      if (!v.tensor) malformed(c.node, "a sequence as scan input", "a tensor");
      scans.push_back(v.tensor);
    }
    scan(c, body, std::move(state), scans, final_state, final_scans);
    for (size_t k = 0; k < collected.size(); ++k) collected[k].push_back(k < states ? final_state[k] : final_scans[k - states]);
  }
  for (size_t k = 0; k < collected.size() && batch > 0; ++k) c.give(k, batched ? stack(c.node, collected[k], 0, false) : collected[k][0]);
}

constexpr HostOperator kOperators[] = {{"", "If", run_if, kAllInputs, false}, {"", "Loop", run_loop, kAllInputs, false}, {"", "Scan", run_scan, kAllInputs, false}};

}  // namespace

std::span<const HostOperator> host_control() { return kOperators; }

}  // namespace systole
