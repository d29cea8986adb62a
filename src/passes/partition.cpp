#include "passes/partition.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "base/error.h"
#include "host/host.h"
#include "ops/operator.h"
#include "passes/passes.h"
#include "passes/regions.h"

namespace systole {
namespace {

/// Walks the nodes in order with a Lowering that knows shapes; nodes that expand or are inlined are replaced on the way.
class Placer {
 public:
  Placer(Graph graph, FloatPolicy policy, bool bound, std::shared_ptr<ConstantForms> forms) : graph_(std::move(graph)), lowering_(graph_, policy, std::move(forms)), bound_(bound) {}

  std::vector<Decision> run() {
    std::vector<Node> pending(std::make_move_iterator(graph_.nodes.rbegin()), std::make_move_iterator(graph_.nodes.rend()));
    graph_.nodes.clear();
    std::vector<Decision> decisions;
    while (!pending.empty()) {
      Node node = std::move(pending.back());
      pending.pop_back();
      if (std::vector<Node> replacement; replace(node, replacement)) {
        pending.insert(pending.end(), std::make_move_iterator(replacement.rbegin()), std::make_move_iterator(replacement.rend()));
        continue;
      }
      decisions.push_back(decide(node));
      graph_.nodes.push_back(std::move(node));
    }
    if (!missing_.empty()) refuse();
    return decisions;
  }

  Graph& graph() { return graph_; }
  Lowering& lowering() { return lowering_; }
  /// Type and shape under which a value crosses between steps: floats that the NPU computes cross as fp32.
  Value crossing(ValueId v) const {
    Value value = graph_.value(v);
    if (!lowering_.known(v)) return value;
    value.shape = lowering_.shape(v), value.shape_known = true;
    const auto declared = host_types_.find(v);
    value.type = declared != host_types_.end() ? declared->second : is_float(lowering_.type(v)) ? value.type : lowering_.type(v);
    return value;
  }

 private:
  bool all_known(const Node& node) const {
    return std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return v == kNoValue || lowering_.known(v); });
  }

  /// Its axes, sizes or counts come at run time: a program for their values is compiled then.
  bool waits_for_values(const Node& node) const {
    const auto& op = std::get<OnnxOp>(node.op);
    const HostOperator* host = find_host_operator(op.domain, op.type);
    if (!host || !host->specialises) return false;
    for (size_t k = 0; k < node.inputs.size() && k < 32; ++k) {
      const ValueId v = node.inputs[k];
      if (!(host->shape_inputs >> k & 1) || v == kNoValue || lowering_.constant(v)) continue;
      if (!bound_ || !std::count(graph_.inputs.begin(), graph_.inputs.end(), v)) return true;
    }
    return false;
  }

  /// A graph input without a shape holds no tensor: shapes are bound before.
  bool reads_no_tensor(const Node& node) const {
    return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return v != kNoValue && !lowering_.known(v) && std::count(graph_.inputs.begin(), graph_.inputs.end(), v); });
  }

  bool replace(const Node& node, std::vector<Node>& replacement) {
    const auto& op = std::get<OnnxOp>(node.op);
    const Operator* record = find_operator(op.domain, op.type);
    if (!record || !record->expand || (!all_known(node) && op.type != "If") || waits_for_values(node)) return false;
    if (folds(lowering_, node) && find_host_operator(op.domain, op.type)) return false;
    for (size_t k = 0; k < static_cast<size_t>(record->inputs); ++k) {
      if (!Lowering::present(node, k)) malformed(node, "no input " + std::to_string(k), "at least " + std::to_string(record->inputs) + " inputs");
    }
    try {
      Expander expander(graph_, lowering_, node);
      bool expanded = false;
      checked(node, [&] { expanded = record->expand(expander); });
      if (!expanded) return false;
      replacement = std::move(expander.nodes);
      return true;
    } catch (const Failure& f) {
      if (f.error().code != ErrorCode::kUnsupported || !find_host_operator(op.domain, op.type)) throw;
      return false;
    }
  }

  Decision decide(const Node& node) {
    const auto& op = std::get<OnnxOp>(node.op);
    const Operator* record = find_operator(op.domain, op.type);
    const HostOperator* host = find_host_operator(op.domain, op.type);
    if (!record && !host) {
      missing_[op.full_name()].push_back(node.name);
      return {Where::kLater, ""};
    }
    const bool waits = std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return later_.count(v) != 0; });
    if (host && !waits && reads_no_tensor(node)) return on_host(node, *host, "it reads a sequence or an optional");
    if (!all_known(node)) {
      const bool host_only = host && (!record || (!record->lower && host->shape_inputs == kAllInputs));
      return host_only && !waits ? on_host(node, *host, "it is an operator of the host") : later(node);
    }
    if (waits_for_values(node)) return later(node);
    if (folds(lowering_, node)) {
      try {
        lower_node(lowering_, node);
        return {Where::kFolded, ""};
      } catch (const Failure& f) {
        if (f.error().code != ErrorCode::kUnsupported || !host) throw;
      }
    }
    std::string reason = "no engine computes it";
    if (record && record->lower) {
      try {
        lower_node(lowering_, node);
        note_indices(node);
        return {is_shape_only(node) ? Where::kFolded : Where::kNpu, ""};
      } catch (const Failure& f) {
        if (f.error().code != ErrorCode::kUnsupported || !host) throw;
        reason = f.error().found;
      }
    }
    if (!host) unsupported(node, reason);
    return on_host(node, *host, reason);
  }

  /// ArgMax and what only moves its result hold int64 values of the model as int32: they cross as int64.
  void note_indices(const Node& node) {
    const std::string& type = std::get<OnnxOp>(node.op).type;
    if (type == "Cast" || type == "CastLike") return;
    const bool makes = type == "ArgMax" || type == "ArgMin";
    const bool hands_on = std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return v != kNoValue && host_types_.count(v) && host_types_.at(v) == DType::kI64 && lowering_.type(v) == DType::kI32; });
    for (ValueId v : node.outputs) {
      if (v != kNoValue && (makes || hands_on) && lowering_.type(v) == DType::kI32) host_types_[v] = DType::kI64;
    }
  }

  /// Its results became constants although its inputs are not (Shape, Size).
  bool is_shape_only(const Node& node) const {
    return std::all_of(node.outputs.begin(), node.outputs.end(), [&](ValueId v) { return v == kNoValue || lowering_.constant(v); });
  }

  Decision later(const Node& node) {
    for (ValueId v : node.outputs) later_.insert(v);
    return {Where::kLater, ""};
  }

  Decision on_host(const Node& node, const HostOperator& host, const std::string& reason) {
    bool static_shape = all_known(node) && host.shape_inputs != kAllInputs;
    for (size_t k = 0; k < node.inputs.size() && k < 32; ++k) static_shape &= !(host.shape_inputs >> k & 1) || node.inputs[k] == kNoValue || lowering_.constant(node.inputs[k]);
    if (static_shape) infer(node);
    return {Where::kHost, reason};
  }

  /// Shapes and types of a host node's results, found by running it on zeros (its shapes do not depend on values).
  void infer(const Node& node) {
    std::vector<HostValue> inputs;
    for (ValueId v : node.inputs) {
      if (v == kNoValue) inputs.emplace_back();
      else if (const TensorPtr c = lowering_.constant(v)) inputs.emplace_back(c);
      else inputs.emplace_back(blank(crossing(v).type, lowering_.shape(v)));
    }
    std::vector<HostValue> outputs;
    try {
      outputs = run_host(node, inputs, {});
    } catch (const Failure& f) {
      return;  // zeros are no valid input of it: its shape is known when it has run
    }
    for (size_t k = 0; k < outputs.size(); ++k) {
      if (node.outputs[k] == kNoValue || !outputs[k].tensor) continue;
      const Tensor& t = *outputs[k].tensor;
      lowering_.define_input(node.outputs[k], t.type, t.shape);
      host_types_[node.outputs[k]] = t.type;
    }
  }

  [[noreturn]] void refuse() const {
    std::string list;
    size_t count = 0;
    for (const auto& [op, nodes] : missing_) {
      list += "\n    " + op + " x " + std::to_string(nodes.size()) + ": no rule lowers it to contract, map and move, and the host has none; nodes";
      for (const auto& n : nodes) list += " '" + n + "'";
      count += nodes.size();
    }
    fail(ErrorCode::kUnsupported, "model '" + graph_.name + "'", std::to_string(count) + " of " + std::to_string(graph_.nodes.size()) + " nodes have no implementation:" + list, "operators of 'systole ops'");
  }

  Graph graph_;
  Lowering lowering_;
  const bool bound_;
  std::set<ValueId> later_;
  std::map<ValueId, DType> host_types_;  ///< of values that cross in another type than the lowering holds
  std::map<std::string, std::vector<std::string>> missing_;
};

/// Folded values become constants of the graph, and the nodes that made them go; weights made of codes stay such for the NPU.
GroupedNodes keep_constants(Placer& placer, std::vector<Decision>& decisions) {
  Graph& g = placer.graph();
  std::set<ValueId> elsewhere(g.outputs.begin(), g.outputs.end());  // read by others than the NPU
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    if (decisions[i].where != Where::kNpu) elsewhere.insert(g.nodes[i].inputs.begin(), g.nodes[i].inputs.end());
  }
  GroupedNodes grouped;
  std::vector<Node> nodes;
  std::vector<Decision> kept;
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    if (decisions[i].where == Where::kFolded) {
      for (ValueId v : g.nodes[i].outputs) {
        if (v != kNoValue && placer.lowering().grouped(v)) {
          grouped[v] = g.nodes[i];
          if (!elsewhere.count(v)) continue;
        }
        if (v != kNoValue && placer.lowering().constant(v)) g.value(v).constant = placer.lowering().constant(v), g.value(v).shape = g.value(v).constant->shape, g.value(v).shape_known = true;
      }
    } else {
      nodes.push_back(std::move(g.nodes[i]));
      kept.push_back(std::move(decisions[i]));
    }
  }
  g.nodes = std::move(nodes), decisions = std::move(kept);
  return grouped;
}

}  // namespace

Partition partition(Graph graph, FloatPolicy policy, bool bound, std::shared_ptr<ConstantForms> forms) {
  if (!forms) forms = std::make_shared<ConstantForms>();
  Placer placer(std::move(graph), policy, bound, forms);
  auto decisions = placer.run();
  auto is = [](Where w) { return [w](const Decision& d) { return d.where == w; }; };
  Partition p;
  p.npu_nodes = static_cast<size_t>(std::count_if(decisions.begin(), decisions.end(), is(Where::kNpu)));
  p.host_nodes = static_cast<size_t>(std::count_if(decisions.begin(), decisions.end(), is(Where::kHost)));
  const bool later = std::any_of(decisions.begin(), decisions.end(), is(Where::kLater));
  const Graph& g = placer.graph();
  const bool all_tensors = std::all_of(g.inputs.begin(), g.inputs.end(), [&](ValueId v) { return placer.lowering().known(v); });
  if (p.host_nodes == 0 && !later && all_tensors && std::all_of(g.outputs.begin(), g.outputs.end(), [&](ValueId v) { return placer.lowering().known(v); })) {
    p.whole = true;
    placer.lowering().finish();
    p.primitives = std::move(placer.lowering().out);
    p.graph = std::move(placer.graph());
    return p;
  }
  p.forms = std::move(forms);
  const GroupedNodes grouped = keep_constants(placer, decisions);
  for (ValueId v : g.outputs) {
    if (placer.lowering().known(v)) placer.graph().value(v).shape = placer.lowering().shape(v), placer.graph().value(v).shape_known = true;
  }
  const auto stage = stages_of(g, decisions);
  const auto crossing = [&](ValueId v) { return placer.crossing(v); };
  std::map<int, std::vector<size_t>> groups;
  std::vector<size_t> last;
  for (size_t i = 0; i < g.nodes.size(); ++i) (decisions[i].where == Where::kLater ? last : groups[stage[i]]).push_back(i);
  for (const auto& [s, nodes] : groups) {
    if (s % 2 == 0) {
      p.steps.emplace_back(cut(g, nodes, used_outside(g, nodes), grouped, crossing));
    } else {
      for (size_t i : nodes) p.steps.emplace_back(HostStep{i, decisions[i].reason});
    }
  }
  if (!last.empty() && p.steps.empty() && (bound || !all_tensors)) unsupported(g.nodes[last[0]], "an input that is a sequence or an optional");
  if (!last.empty()) p.tail.push_back(cut(g, last, used_outside(g, last), grouped, crossing));
  p.graph = std::move(placer.graph());
  return p;
}

Graph bind_inputs(const Graph& graph, const std::vector<TensorPtr>& constants) {
  Graph g = graph;
  g.inputs.clear(), g.captures.clear();
  const size_t explicit_count = graph.inputs.size() - graph.captures.size();
  for (size_t k = 0; k < graph.inputs.size(); ++k) {
    if (k < constants.size() && constants[k]) {
      Value& v = g.value(graph.inputs[k]);
      v.constant = constants[k], v.type = constants[k]->type, v.shape = constants[k]->shape, v.shape_known = true;
    } else {
      g.inputs.push_back(graph.inputs[k]);
      if (k >= explicit_count) g.captures.push_back(graph.captures[k - explicit_count]);
    }
  }
  return g;
}

std::vector<Graph> fused_programs(Partition p, FloatPolicy policy) {
  std::vector<Graph> programs;
  if (p.whole) programs.push_back(std::move(p.primitives));
  for (const auto& step : p.steps) {
    if (const auto* r = std::get_if<Region>(&step)) programs.push_back(legalise(r->graph, policy, p.forms));
  }
  for (Graph& g : programs) fuse_maps(g);
  return programs;
}

std::vector<bool> inputs_that_shape(const Graph& graph) {
  std::vector<bool> shapes(graph.values.size(), false);
  for (size_t i = graph.nodes.size(); i-- > 0;) {
    const Node& n = graph.nodes[i];
    const auto& op = std::get<OnnxOp>(n.op);
    if (op.type == "Shape" || op.type == "Size") continue;
    const HostOperator* host = find_host_operator(op.domain, op.type);
    const uint32_t own = !host || host->shape_inputs == kAllInputs ? 0 : host->shape_inputs;
    const bool reaches = std::any_of(n.outputs.begin(), n.outputs.end(), [&](ValueId v) { return v != kNoValue && shapes[static_cast<size_t>(v)]; });
    for (size_t k = 0; k < n.inputs.size(); ++k) {
      if (n.inputs[k] != kNoValue && (reaches || (k < 32 && own >> k & 1))) shapes[static_cast<size_t>(n.inputs[k])] = true;
    }
  }
  std::vector<bool> result;
  for (ValueId v : graph.inputs) result.push_back(shapes[static_cast<size_t>(v)]);
  return result;
}

}  // namespace systole
