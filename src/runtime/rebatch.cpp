#include "runtime/rebatch.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <map>
#include <random>
#include <set>

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
bool reshape_for_batch(Graph& g, int64_t batch) {
  set_batch(g, batch);
  for (Node& n : g.nodes) {
    if (op_of(n).type != "Reshape" || n.inputs.size() < 2 || n.inputs[0] == kNoValue || n.inputs[1] == kNoValue || g.value(n.inputs[0]).constant) continue;
    const TensorPtr shape = g.value(n.inputs[1]).constant;
    if (!shape || shape->count() < 1 || shape->int_at(0) != 1) continue;
    std::vector<int64_t> to = shape->to_ints();
    to[0] = batch;
    n.inputs[1] = g.add_constant(n.name + ".shape", std::make_shared<const Tensor>(Tensor::from_ints(to, {static_cast<int64_t>(to.size())})));
  }
  return true;
}

/// Follows the samples through the graph: where they have moved to another axis, or joined one (tokens of all samples, heads of all of them,
/// windows), it is that axis of a constant shape that grows; what a constant is put in front of, a class token, it is put in front of for each.
class Follower {
  inline static const std::set<std::string> kBroadcasting = {"Add", "Sub", "Mul", "Div", "Where", "Pow", "Max", "Min", "And", "Or", "Equal", "Less", "Greater"};

 public:
  /// `g` of one sample, its constants folded.
  Follower(Graph& g, int64_t batch) : g_(g), one_(g), batch_(batch) {
    infer_shapes(one_);
    set_batch(g_, batch);
    for (ValueId v : g_.inputs) known_[v] = {g_.value(v).type, g_.value(v).shape};
  }

  bool run() {
    std::vector<Node> more;
    for (Node& n : g_.nodes) {
      const std::string& type = op_of(n).type;
      if (type == "Reshape" && !reshape(n)) return false;
      if (type == "Concat") repeat_constants(n, true, more);
      else if (kBroadcasting.count(type)) repeat_constants(n, false, more);
    }
    std::move(more.begin(), more.end(), std::back_inserter(g_.nodes));
    prune_and_sort(g_);
    return true;
  }

 private:
  struct Kind {
    DType type;
    Shape shape;
  };
  const Shape& before(ValueId v) const { return one_.value(v).shape; }

  /// Of a value with the batch: shapes of what lies between it and what is known.
  Kind kind(ValueId v) {
    if (const auto it = known_.find(v); it != known_.end()) return it->second;
    Graph part = g_;
    part.inputs.clear(), part.outputs = {v};
    std::vector<bool> wanted(g_.values.size()), entered(g_.values.size());
    wanted[static_cast<size_t>(v)] = true;
    std::vector<Node> nodes;
    for (size_t k = g_.nodes.size(); k-- > 0;) {
      const Node& n = g_.nodes[k];
      if (std::none_of(n.outputs.begin(), n.outputs.end(), [&](ValueId o) { return o != kNoValue && wanted[static_cast<size_t>(o)] && !known_.count(o); })) continue;
      nodes.push_back(n);
      for (ValueId in : n.inputs) {
        if (in != kNoValue) wanted[static_cast<size_t>(in)] = true;
      }
    }
    std::reverse(nodes.begin(), nodes.end());
    part.nodes = std::move(nodes);
    for (const auto& [id, k] : known_) {
      if (!wanted[static_cast<size_t>(id)]) continue;
      Value& in = part.value(id);
      in.type = k.type, in.shape = k.shape, in.shape_known = true;
      part.inputs.push_back(id);
    }
    const Plan plan(std::move(part), std::make_shared<const PlanContext>(PlanContext{load_machine("edge"), {DType::kF32, MacFormat::kF32}, "fp32", {}, {}, true}));
    const Plan::Boundary& out = plan.outputs()[0];
    if (!out.known) fail(ErrorCode::kUnsupported, "--batch", "a shape that follows from data", "fixed shapes");
    const Kind found{out.type, out.shape};
    if (is_float(found.type)) known_[v] = found;  // integers may be shapes, whose values matter
    return found;
  }
  /// The axis along which the samples lie, -1 where they do not, -2 where it cannot be told.
  int axis_of(ValueId v) {
    const Shape& was = before(v);
    const Shape is = kind(v).shape;
    int axis = -1;
    for (size_t d = 0; d < std::min(was.size(), is.size()); ++d) {
      if (is[d] == was[d]) continue;
      if (axis >= 0 || is[d] != was[d] * batch_) return -2;
      axis = static_cast<int>(d);
    }
    return was.size() == is.size() ? axis : -2;
  }

  /// The axis of `to` that the samples along `axis` of `was` go to: elements in front of them stay in front. An axis of 1 is theirs; where those behind
  /// stay as they are, or are the channels, they join the one in front (tokens x samples), and lie inside of it from there on; otherwise the one behind
  /// (samples x heads).
  size_t grows(const Shape& was, size_t axis, const Shape& to) {
    int64_t front = element_count(Shape(was.begin(), was.begin() + static_cast<long>(axis)));
    if (inside_.count(was[axis])) front *= was[axis];
    size_t d = 0;
    for (int64_t product = 1; d < to.size() && product != front; ++d) product *= to[d];
    const bool channels = d + 1 == to.size() || std::equal(to.begin() + static_cast<long>(std::min(d, to.size())), to.end(), was.begin() + static_cast<long>(axis) + 1, was.end());
    if (d == to.size() || d == 0 || to[d] == 1 || !channels) return d;
    inside_.insert(to[d - 1]);
    return d - 1;
  }

  /// Whether a shape that the model computes takes in the samples by itself.
  bool follows(ValueId v) {
    try {
      return axis_of(v) != -2;
    } catch (const Failure&) {
      return false;
    }
  }

  bool reshape(Node& n) {
    if (n.inputs.size() < 2 || n.inputs[0] == kNoValue || n.inputs[1] == kNoValue || n.outputs.empty() || n.outputs[0] == kNoValue || g_.value(n.inputs[0]).constant) return true;
    const ValueId v = n.inputs[0];
    if (!g_.value(n.inputs[1]).constant && follows(n.outputs[0])) return true;
    const int axis = axis_of(v);
    if (axis < -1) return false;
    Shape to = before(n.outputs[0]);
    if (axis >= 0) {
      const size_t d = grows(before(v), static_cast<size_t>(axis), to);
      if (d == to.size()) return false;
      to[d] *= batch_;
      n.inputs[1] = g_.add_constant(n.name + ".shape", std::make_shared<const Tensor>(Tensor::from_ints(to, {static_cast<int64_t>(to.size())})));
    }
    if (const DType type = kind(v).type; is_float(type)) known_[n.outputs[0]] = {type, to};
    return true;
  }

  /// Constants beside values with samples: those of one sample, for each of them. Where they are joined, an axis of 1 is a sample's too.
  void repeat_constants(Node& n, bool joined, std::vector<Node>& more) {
    const auto is_constant = [&](ValueId v) { return v != kNoValue && g_.value(v).constant; };
    if (std::none_of(n.inputs.begin(), n.inputs.end(), is_constant)) return;
    int axis = -1;
    Shape was;
    for (ValueId v : n.inputs) {
      if (v == kNoValue || is_constant(v) || axis >= 0) continue;
      axis = axis_of(v), was = before(v);
    }
    if (axis < 0) return;
    const auto a = static_cast<size_t>(axis);
    for (ValueId& v : n.inputs) {
      if (!is_constant(v)) continue;
      const Value c = g_.value(v);
      if (c.shape.size() != was.size() || (!joined && c.shape[a] == 1) || c.shape[a] != was[a]) continue;
      std::vector<int64_t> times(c.shape.size(), 1);
      times[a] = batch_;
      v = g_.add_value(c.name + ".each", c.type, {});
      more.push_back({n.name + ".each", OnnxOp{"", "Tile", 13, {}}, {g_.add_constant(c.name, c.constant), g_.add_constant(n.name + ".samples", std::make_shared<const Tensor>(Tensor::from_ints(times, {static_cast<int64_t>(times.size())})))}, {v}});
      Shape shape = c.shape;
      shape[a] *= batch_;
      known_[v] = {c.type, shape};
    }
  }

  Graph& g_;
  Graph one_;  ///< with all its shapes
  const int64_t batch_;
  std::map<ValueId, Kind> known_;
  std::set<int64_t> inside_;  ///< extents, for one sample, of axes in which the samples lie innermost
};

bool follow_samples(Graph& g, int64_t batch) {
  try {
    fold_constants(g);
    return Follower(g, batch).run();
  } catch (const Failure&) {
    return false;  // what does not fit together is said of the graph as it was
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
bool keeps_samples_apart(Graph one, bool (*follow)(Graph&, int64_t)) {
  set_batch(one, 1);
  Graph both = one;
  if (!follow(both, 2)) return false;
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
  for (const auto follow : {reshape_for_batch, follow_samples}) {
    Graph following = plain;
    std::exception_ptr second;
    if (from != 1 || !follow(following, batch) || !objection(following, batch, second).empty() || !keeps_samples_apart(plain, follow)) continue;
    graph = std::move(following);
    return;
  }
  if (failure) std::rethrow_exception(failure);
  fail(ErrorCode::kUnsupported, "--batch " + std::to_string(batch), why, "outputs that begin with " + std::to_string(batch), "the model may reshape to a fixed batch of " + std::to_string(from));
}

}  // namespace systole
