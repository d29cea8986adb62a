#include "train/expand.h"

#include <algorithm>
#include <set>

#include "graph/checks.h"
#include "ops/cells.h"
#include "ops/operator.h"
#include "passes/passes.h"
#include "runtime/observe.h"
#include "train/gradients.h"

namespace systole {
namespace {

const OnnxOp& op_of(const Node& n) { return std::get<OnnxOp>(n.op); }

/// One direction of a recurrent layer. X [T, B, I], W [D, gates x H, I], R [D, gates x H, H], B [D, 2 x gates x H].
class Recurrence {
 public:
  Recurrence(Builder& builder, const Node& node, const std::vector<ValueId>& inputs, int64_t direction, bool reverse)
      : b_(builder), type_(op_of(node).type), direction_(direction), reverse_(reverse), x_(inputs[0]), steps_(b_.shape(x_)[0]), batch_(b_.shape(x_)[1]), hidden_(b_.shape(inputs[2])[2]) {
    gates_ = type_ == "LSTM" ? 4 : type_ == "GRU" ? 3 : 1;
    linear_before_reset_ = op_of(node).integer("linear_before_reset", 0) != 0;
    auto at = [&](size_t k) { return k < inputs.size() ? inputs[k] : kNoValue; };
    const int64_t rows = gates_ * hidden_;
    recurrent_ = b_.transpose(part(inputs[2], {rows, hidden_}), {1, 0});
    bias_x_ = bias_r_ = kNoValue;
    if (at(3) != kNoValue) {
      const ValueId both = part(at(3), {2 * rows});
      bias_x_ = columns(both, 0, rows, 0), bias_r_ = columns(both, rows, 2 * rows, 0);
    }
    // All steps' inputs in one product.
    const ValueId flat = b_.reshape(x_, {steps_ * batch_, b_.shape(x_)[2]});
    from_x_ = b_.matmul(flat, b_.transpose(part(inputs[1], {rows, b_.shape(x_)[2]}), {1, 0}));
    if (bias_x_ != kNoValue) from_x_ = b_.add(from_x_, bias_x_);
    const ValueId zero = b_.expand(b_.scalar(0), {batch_, hidden_});
    h_ = at(5) != kNoValue ? part(at(5), {batch_, hidden_}) : zero;
    c_ = type_ == "LSTM" && at(6) != kNoValue ? part(at(6), {batch_, hidden_}) : zero;
  }

  void run() {
    outputs_.resize(static_cast<size_t>(steps_));
    for (int64_t i = 0; i < steps_; ++i) {
      const int64_t t = reverse_ ? steps_ - 1 - i : i;
      const ValueId x = b_.slice(from_x_, {0}, {t * batch_}, {(t + 1) * batch_}, {1});
      if (type_ == "LSTM") lstm(x);
      else if (type_ == "GRU") gru(x);
      else h_ = b_.unary("Tanh", b_.add(x, from_state()));
      outputs_[static_cast<size_t>(t)] = b_.reshape(h_, {1, 1, batch_, hidden_});
    }
  }
  ValueId sequence() { return b_.concat(outputs_, 0); }          ///< [T, 1, B, H]
  ValueId last_h() { return b_.reshape(h_, {1, batch_, hidden_}); }
  ValueId last_c() { return b_.reshape(c_, {1, batch_, hidden_}); }

 private:
  /// This direction of a value whose first axis is the direction.
  ValueId part(ValueId v, const Shape& shape) {
    const ValueId own = b_.shape(v)[0] == 1 ? v : b_.slice(v, {0}, {direction_}, {direction_ + 1}, {1});
    return b_.reshape(own, shape);
  }
  ValueId columns(ValueId v, int64_t from, int64_t to, int64_t axis = 1) { return b_.slice(v, {axis}, {from}, {to}, {1}); }
  ValueId gate(ValueId v, int64_t k) { return columns(v, k * hidden_, (k + 1) * hidden_); }
  ValueId sigmoid(ValueId v) { return b_.unary("Sigmoid", v); }
  ValueId from_state() {
    const ValueId r = b_.matmul(h_, recurrent_);
    return bias_r_ == kNoValue ? r : b_.add(r, bias_r_);
  }

  /// Gates i, o, f, c.
  void lstm(ValueId x) {
    const ValueId z = b_.add(x, from_state());
    const ValueId i = sigmoid(gate(z, 0)), o = sigmoid(gate(z, 1)), f = sigmoid(gate(z, 2)), g = b_.unary("Tanh", gate(z, 3));
    c_ = b_.add(b_.mul(f, c_), b_.mul(i, g));
    h_ = b_.mul(o, b_.unary("Tanh", c_));
  }
  /// Gates z, r, h.
  void gru(ValueId x) {
    const ValueId from_h = from_state();
    const ValueId z = sigmoid(b_.add(gate(x, 0), gate(from_h, 0))), r = sigmoid(b_.add(gate(x, 1), gate(from_h, 1)));
    ValueId candidate;
    if (linear_before_reset_) {
      candidate = b_.mul(r, gate(from_h, 2));
    } else {
      candidate = b_.matmul(b_.mul(r, h_), columns(recurrent_, 2 * hidden_, 3 * hidden_));
      if (bias_r_ != kNoValue) candidate = b_.add(candidate, columns(bias_r_, 2 * hidden_, 3 * hidden_, 0));
    }
    const ValueId n = b_.unary("Tanh", b_.add(gate(x, 2), candidate));
    h_ = b_.add(n, b_.mul(z, b_.sub(h_, n)));
  }

  Builder& b_;
  const std::string type_;
  int64_t direction_;
  bool reverse_, linear_before_reset_ = false;
  ValueId x_;
  int64_t steps_, batch_, hidden_, gates_ = 1;
  ValueId recurrent_, bias_x_, bias_r_, from_x_, h_, c_;
  std::vector<ValueId> outputs_;
};

}  // namespace

ValueId expand_batch_normalization(Builder& b, const Node& n, ValueId x, ValueId scale, ValueId bias, ValueId mean, ValueId variance) {
  const Shape s = b.shape(x);
  Shape per_channel(s.size(), 1);
  per_channel[1] = s[1];
  auto shaped = [&](ValueId v) { return b.reshape(v, per_channel); };
  const ValueId deviation = b.unary("Sqrt", b.add(shaped(variance), b.scalar(static_cast<double>(op_of(n).real("epsilon", 1e-5f)))));
  return b.add(b.mul(b.div(b.sub(x, shaped(mean)), deviation), shaped(scale)), shaped(bias));
}

namespace {

double epsilon_of(const Node& n) { return static_cast<double>(op_of(n).real("epsilon", 1e-5f)); }
/// v over the root of its mean square along these axes.
ValueId normalised(Builder& b, ValueId v, const std::vector<int64_t>& axes, double epsilon) { return b.div(v, b.unary("Sqrt", b.add(b.mean(b.mul(v, v), axes, true), b.scalar(epsilon)))); }
std::vector<int64_t> axes_from(int64_t first, int64_t rank) {
  std::vector<int64_t> axes;
  for (int64_t a = first; a < rank; ++a) axes.push_back(a);
  return axes;
}

}  // namespace

ValueId expand_layer_normalization(Builder& b, const Node& n, ValueId x, ValueId scale, ValueId bias) {
  const int64_t axis = normalise_axis(n, op_of(n).integer("axis", -1), b.rank(x));
  Shape rows = b.shape(x);
  std::fill(rows.begin() + axis, rows.end(), 1);
  std::vector<ValueId> inputs = {x, scale};
  if (bias != kNoValue) inputs.push_back(bias);
  const ValueId y = b.node("LayerNormalization", inputs, b.shape(x), {{"axis", axis}, {"epsilon", static_cast<float>(epsilon_of(n))}});
  for (const char* statistic : {".mean", ".inverse_deviation"}) {
    const ValueId v = b.graph().add_value(b.graph().value(y).name + statistic, DType::kF32, rows);
    b.graph().nodes.back().outputs.push_back(v);
  }
  return y;
}

namespace {

/// RMSNormalization 23 and SimplifiedLayerNormalization.
ValueId expand_rms_normalization(Builder& b, const Node& n, ValueId x, ValueId scale) {
  return b.mul(normalised(b, x, axes_from(normalise_axis(n, op_of(n).integer("axis", -1), b.rank(x)), b.rank(x)), epsilon_of(n)), scale);
}

/// InstanceNormalization 6: each image and channel by itself.
ValueId expand_instance_normalization(Builder& b, const Node& n, ValueId x, ValueId scale, ValueId bias) {
  const auto axes = axes_from(2, b.rank(x));
  Shape per_channel(b.shape(x).size(), 1);
  per_channel[1] = b.shape(x)[1];
  const ValueId y = normalised(b, b.sub(x, b.mean(x, axes, true)), axes, epsilon_of(n));
  return b.add(b.mul(y, b.reshape(scale, per_channel)), b.reshape(bias, per_channel));
}

}  // namespace

namespace {

/// Whether a node whose operator has a gradient is of a form that has none: three spatial dimensions; recurrent layers with more than
/// weights, biases and first states.
bool is_other_form(const Graph& g, const Node& n) {
  const OnnxOp& op = op_of(n);
  const auto has = [&](size_t k) { return k < n.inputs.size() && n.inputs[k] != kNoValue; };
  if (is_recurrent(op.type)) return has(4) || has(7) || op.has("clip") || !default_activations(op) || op.integer("layout", 0) != 0 || op.integer("input_forget", 0) != 0;
  return (op.type == "Conv" || op.type == "MaxPool" || op.type == "AveragePool") && g.value(n.inputs[0]).shape.size() == 5;
}

/// The node as others, or nothing where it stays.
std::vector<Node> parts_of(Graph& g, Lowering& l, std::set<ValueId>& known, const Node& n) {
  const OnnxOp& op = op_of(n);
  const Operator* record = find_operator(op.domain, op.type);
  if (!record || !record->expand) return {};
  const bool has_own = record->lower || (op.domain.empty() && has_gradient(op.type));
  if (has_own && !(op.domain.empty() && is_other_form(g, n))) return {};
  for (ValueId v : n.inputs) {
    if (v != kNoValue && !g.value(v).constant && known.insert(v).second) l.define_input(v, g.value(v).type, g.value(v).shape);
  }
  Expander x(g, l, n);
  if (!record->expand(x)) return {};
  // Round passes gradients on, for what is quantised; a function that is reduced with it has another slope.
  const bool rounds = std::any_of(x.nodes.begin(), x.nodes.end(), [](const Node& part) { return op_of(part).type == "Round"; });
  return rounds ? std::vector<Node>{} : std::move(x.nodes);
}

}  // namespace

void write_out(Graph& g) {
  for (bool again = true; again;) {
    again = false;
    Lowering l(g, {DType::kF32, MacFormat::kF32});
    std::set<ValueId> known;
    const std::vector<Node> nodes = std::move(g.nodes);
    g.nodes.clear();
    for (const Node& n : nodes) {
      auto parts = parts_of(g, l, known, n);
      again = again || !parts.empty();
      if (parts.empty()) g.nodes.push_back(n);
      else std::move(parts.begin(), parts.end(), std::back_inserter(g.nodes));
    }
    if (again) inline_constants(g), prune_and_sort(g), infer_shapes(g);
  }
}

bool is_recurrent(const std::string& type) { return type == "LSTM" || type == "GRU" || type == "RNN"; }

namespace {

/// LSTM 14, GRU 14, RNN 14, step after step; a value per output of the node (kNoValue where it has none). Other forms were written out
/// before.
std::vector<ValueId> expand_recurrent(Builder& b, const Node& n) {
  const OnnxOp& op = op_of(n);
  if (is_other_form(b.graph(), n)) unsupported(n, "training with sequence lengths, peepholes, clip, layout 1, input_forget or activations of its own");
  const std::string way = op.text("direction", "forward");
  std::vector<Recurrence> directions;
  for (int64_t d = 0; d < (way == "bidirectional" ? 2 : 1); ++d) {
    directions.emplace_back(b, n, n.inputs, d, way == "reverse" || d == 1);
    directions.back().run();
  }
  auto joined = [&](ValueId (Recurrence::*get)(), int64_t axis) {
    std::vector<ValueId> parts;
    for (Recurrence& r : directions) parts.push_back((r.*get)());
    return parts.size() == 1 ? parts[0] : b.concat(parts, axis);
  };
  std::vector<ValueId> outputs(n.outputs.size(), kNoValue);
  auto wants = [&](size_t k) { return k < n.outputs.size() && n.outputs[k] != kNoValue; };
  if (wants(0)) outputs[0] = joined(&Recurrence::sequence, 1);
  if (wants(1)) outputs[1] = joined(&Recurrence::last_h, 0);
  if (wants(2)) outputs[2] = joined(&Recurrence::last_c, 0);
  return outputs;
}

}  // namespace

std::vector<ValueId> expand_for_gradients(Builder& b, const Node& n) {
  const std::string& type = op_of(n).type;
  const auto in = [&](size_t k) { return k < n.inputs.size() ? n.inputs[k] : kNoValue; };
  if (type == "LayerNormalization") {
    expand_layer_normalization(b, n, in(0), in(1), in(2));
    return b.graph().nodes.back().outputs;
  }
  if (type == "RMSNormalization") return {expand_rms_normalization(b, n, in(0), in(1))};
  if (type == "InstanceNormalization") return {expand_instance_normalization(b, n, in(0), in(1), in(2))};
  return is_recurrent(type) ? expand_recurrent(b, n) : std::vector<ValueId>{};
}

}  // namespace systole
