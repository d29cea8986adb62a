// LSTM (7, 14, 22), GRU, RNN with default activations, all directions, unrolled over time. The input products of all steps
// are one contract; the recurrent weights are moved into a tensor of their own, which stays in the scratchpad over the
// steps where it fits.
#include "ops/cells.h"
#include "ops/operator.h"

namespace systole {
namespace {

using isa::Micro;

DType operand_type(MacFormat f) { return f == MacFormat::kF32 ? DType::kF32 : f == MacFormat::kF16 ? DType::kF16 : DType::kBF16; }

/// What the three cells share: extents, parameters of one direction, and the emission of products.
class Recurrence {
 public:
  Recurrence(Lowering& lowering, const Node& n, int64_t gate_count) : l(lowering), node(n), op(std::get<OnnxOp>(n.op)), gates(gate_count) {
    const Shape& x = l.shape(node.inputs[0]);
    w = l.need_constant(node, 1, "W"), r = l.need_constant(node, 2, "R");
    if (Lowering::present(node, 3)) b = l.need_constant(node, 3, "B");
    if (x.size() != 3 || w->shape.size() != 3 || r->shape.size() != 3) Lowering::malformed(node, "input " + to_string(x) + ", W " + to_string(w->shape), "three dimensions each");
    steps = x[0], batch = x[1], inputs = x[2], directions = w->shape[0], hidden = r->shape[2];
    if (w->shape != Shape{directions, gates * hidden, inputs} || r->shape != Shape{directions, gates * hidden, hidden} || (b && b->count() != directions * 2 * gates * hidden)) {
      Lowering::malformed(node, "W " + to_string(w->shape) + ", R " + to_string(r->shape) + " for input " + to_string(x), "extents of the schema");
    }
    if (op.integer("layout", 0) != 0) Lowering::unsupported(node, "layout = 1");
    if (op.has("clip")) Lowering::unsupported(node, "clip");
    if (op.has("activations")) check_activations();
    if (steps < 1 || steps > 4096) Lowering::unsupported(node, std::to_string(steps) + " steps; 1 to 4096 are unrolled");
    if (Lowering::present(node, 4)) {
      for (int64_t n_steps : l.need_ints(node, 4, "sequence_lens")) {
        if (n_steps != steps) Lowering::unsupported(node, "sequences shorter than the input");
      }
    }
    direction = op.text("direction", "forward");
    if (directions != (direction == "bidirectional" ? 2 : 1)) Lowering::malformed(node, "direction " + direction + " with " + std::to_string(directions) + " sets of weights", "one set per direction");
    x_id = l.emit_view(node.name, l.form_as(node.inputs[0], identity_perm(3), operand_type(l.policy.format)), {1, 1, steps * batch, inputs});
  }

  Lowering& l;
  const Node& node;
  const OnnxOp& op;
  int64_t gates, steps, batch, inputs, directions, hidden;
  TensorPtr w, r, b;
  std::string direction;
  ValueId x_id;

  bool backward(int64_t d) const { return direction == "reverse" || d == 1; }
  float bias(int64_t d, bool recurrent, int64_t row) const { return b ? static_cast<float>(b->at((d * 2 + recurrent) * gates * hidden + row)) : 0.0f; }
  ValueId constant(const std::string& name, std::vector<float> v, Shape shape) { return l.add_constant(node.name + name, Tensor::from_floats(v, std::move(shape))); }

  /// Rows [first, first + rows) of gate weights of direction d, transposed to [1, 1, 1, 1, K, rows] operands.
  ValueId weights(const TensorPtr& from, int64_t d, int64_t first, int64_t rows, const char* name) {
    const int64_t k = from->shape[2];
    std::vector<float> v(static_cast<size_t>(k * rows));
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < k; ++j) v[static_cast<size_t>(j * rows + i)] = static_cast<float>(from->at((d * gates * hidden + first + i) * k + j));
    }
    return l.convert(constant(name, std::move(v), {1, 1, 1, 1, k, rows}), operand_type(l.policy.format));
  }

  /// The same as a tensor that is computed (moved) once, so that it can stay resident.
  ValueId resident_weights(int64_t d, int64_t first, int64_t rows) {
    const ValueId id = weights(r, d, first, rows, ".R");
    const Shape shape = l.out.value(id).shape;
    const auto strides = row_major_strides(shape);
    return l.emit(node.name + ".R", Move{{{0, shape, 0, 0, strides, strides}}, 0}, {id}, l.out.value(id).type, shape);
  }

  ValueId product(ValueId a, ValueId weight, ValueId bias_id) {
    Contract c;
    c.format = l.policy.format;
    std::vector<ValueId> in = {a, weight};
    if (bias_id != kNoValue) in.push_back(bias_id);
    return l.emit(node.name, c, in, DType::kF32, {1, 1, l.out.value(a).shape[2], l.out.value(weight).shape[5]});
  }
  /// acc as it is, in the policy's type.
  ValueId drain(ValueId acc) {
    MapBuilder m(l, node.name, l.out.value(acc).shape);
    m.op(Micro::kMove, {m.input(acc, direct_access(4))});
    return m.finish(l.policy.store);
  }
  /// acc + rows [row, row + batch), columns from `column`, of `addend` ([1, 1, T B, G H]); `finish` applies to the sum.
  ValueId drain_plus(ValueId acc, ValueId addend, int64_t row, int64_t column, Micro finish = Micro::kMove) {
    MapBuilder m(l, node.name, l.out.value(acc).shape);
    Operand v = m.op(Micro::kAdd, {m.input(acc, direct_access(4)), m.input(addend, Access{{{0, {}}, {0, {}}, {row, {{2, 1}}}, {column, {{3, 1}}}}, false, 0})});
    if (finish != Micro::kMove) m.op(finish, {v});
    return m.finish(l.policy.store);
  }

  /// Gate g of [1, 1, rows, G H] at `row`, over loops [1, 1, B, H].
  Access gate(int64_t g, int64_t row = 0) const { return {{{0, {}}, {0, {}}, {row, {{2, 1}}}, {g * hidden, {{3, 1}}}}, false, 0}; }
  Shape state_shape() const { return {1, 1, batch, hidden}; }

  /// Input k, slice d, as [1, 1, B, H]; zeros when absent.
  ValueId initial(size_t k, int64_t d, DType type) {
    if (!Lowering::present(node, k)) return l.convert(constant(".zero", std::vector<float>(static_cast<size_t>(batch * hidden), 0.0f), state_shape()), type);
    if (l.shape(node.inputs[k]) != Shape{directions, batch, hidden}) Lowering::malformed(node, "initial state " + to_string(l.shape(node.inputs[k])), to_string({directions, batch, hidden}));
    const ValueId whole = l.form_as(node.inputs[k], identity_perm(3), type);
    if (directions == 1) return l.emit_view(node.name, whole, state_shape());
    const Shape shape = {batch * hidden};
    const ValueId part = l.emit(node.name + ".initial", Move{{{0, shape, d * batch * hidden, 0, {1}, {1}}}, 0}, {whole}, type, shape);
    return l.emit_view(node.name, part, state_shape());
  }

  /// Joins states into an output of this logical shape; part i lands at element offset[i].
  void define_joined(size_t output, const std::vector<ValueId>& parts, const std::vector<int64_t>& offsets, const Shape& shape) {
    if (output >= node.outputs.size() || node.outputs[output] == kNoValue) return;
    Move move;
    for (size_t i = 0; i < parts.size(); ++i) move.regions.push_back({static_cast<int>(i), {batch * hidden}, 0, offsets[i], {1}, {1}});
    l.define_logical(node.outputs[output], l.emit(node.name + ".join", std::move(move), parts, l.out.value(parts[0]).type, shape));
  }

  /// Runs `step(d, t, row, h)` over all directions and steps and defines Y and Y_h from the hidden states it returns.
  template <class Begin, class Step>
  void run(Begin&& begin, Step&& step) {
    std::vector<ValueId> all, last;
    std::vector<int64_t> all_at, last_at;
    for (int64_t d = 0; d < directions; ++d) {
      begin(d);
      ValueId h = initial(5, d, operand_type(l.policy.format));
      for (int64_t i = 0; i < steps; ++i) {
        const int64_t t = backward(d) ? steps - 1 - i : i;
        h = step(d, t * batch, h);
        all.push_back(h), all_at.push_back((t * directions + d) * batch * hidden);
      }
      last.push_back(h), last_at.push_back(d * batch * hidden);
    }
    define_joined(0, all, all_at, {steps, directions, batch, hidden});
    define_joined(1, last, last_at, {directions, batch, hidden});
  }

 private:
  void check_activations() const {
    const auto& list = std::get<std::vector<std::string>>(op.attributes.at("activations"));
    const char* const kUsual[] = {"Sigmoid", "Tanh", "Tanh"};
    const size_t each = gates == 4 ? 3 : gates == 3 ? 2 : 1;
    for (size_t i = 0; i < list.size(); ++i) {
      if (list[i] != (gates == 1 ? "Tanh" : kUsual[i % each])) Lowering::unsupported(node, "activation " + list[i] + "; the defaults are supported");
    }
  }
};

/// Gates i, o, f, c. c' = f c + i g, h' = o tanh c'.
void lower_lstm(Lowering& l, const Node& node) {
  Recurrence z(l, node, 4);
  if (Lowering::present(node, 7)) Lowering::unsupported(node, "peepholes");
  if (z.op.integer("input_forget", 0)) Lowering::unsupported(node, "input_forget = 1");
  ValueId xw = kNoValue, recurrent = kNoValue, c = kNoValue;
  std::vector<ValueId> cells;
  std::vector<int64_t> cells_at;
  auto begin = [&](int64_t d) {
    if (c != kNoValue) cells.push_back(c);
    std::vector<float> bias;
    for (int64_t i = 0; i < 4 * z.hidden; ++i) bias.push_back(z.bias(d, false, i) + z.bias(d, true, i));
    xw = z.drain(z.product(z.x_id, z.weights(z.w, d, 0, 4 * z.hidden, ".W"), z.constant(".bias", bias, {4 * z.hidden})));
    recurrent = z.resident_weights(d, 0, 4 * z.hidden);
    c = z.initial(6, d, DType::kF32);
    cells_at.push_back(d * z.batch * z.hidden);
  };
  auto step = [&](int64_t, int64_t row, ValueId h) {
    const ValueId gates = z.drain_plus(z.product(h, recurrent, kNoValue), xw, row, 0);
    MapBuilder in(l, node.name + ".ig", z.state_shape());
    in.op(Micro::kMul, {in.op(Micro::kSigmoid, {in.input(gates, z.gate(0))}), in.op(Micro::kTanh, {in.input(gates, z.gate(3))})});
    const ValueId ig = in.finish(DType::kF32);
    MapBuilder cell(l, node.name + ".c", z.state_shape());
    const Operand f = cell.op(Micro::kSigmoid, {cell.input(gates, z.gate(2))});
    cell.op(Micro::kFma, {f, cell.input(c, direct_access(4)), cell.input(ig, direct_access(4))});
    c = cell.finish(DType::kF32);
    MapBuilder out(l, node.name + ".h", z.state_shape());
    const Operand o = out.op(Micro::kSigmoid, {out.input(gates, z.gate(1))});
    out.op(Micro::kMul, {o, out.op(Micro::kTanh, {out.input(c, direct_access(4))})});
    return out.finish(operand_type(l.policy.format));
  };
  z.run(begin, step);
  cells.push_back(c);
  z.define_joined(2, cells, cells_at, {z.directions, z.batch, z.hidden});
}

/// Gates z, r, h. h' = (1 - z) n + z h, computed as n + z (h - n).
void lower_gru(Lowering& l, const Node& node) {
  Recurrence z(l, node, 3);
  const bool linear_first = z.op.integer("linear_before_reset", 0) != 0;
  const int64_t hidden = z.hidden;
  ValueId xw = kNoValue, gate_weights = kNoValue, state_weights = kNoValue, hidden_bias = kNoValue;
  auto begin = [&](int64_t d) {
    std::vector<float> bias, recurrent_bias(static_cast<size_t>(hidden));
    for (int64_t i = 0; i < 3 * hidden; ++i) {
      const bool apart = linear_first && i >= 2 * hidden;  // inside the reset product
      bias.push_back(z.bias(d, false, i) + (apart ? 0 : z.bias(d, true, i)));
      if (apart) recurrent_bias[static_cast<size_t>(i - 2 * hidden)] = z.bias(d, true, i);
    }
    xw = z.drain(z.product(z.x_id, z.weights(z.w, d, 0, 3 * hidden, ".W"), z.constant(".bias", bias, {3 * hidden})));
    gate_weights = z.resident_weights(d, 0, 2 * hidden), state_weights = z.resident_weights(d, 2 * hidden, hidden);
    hidden_bias = z.constant(".bias_h", recurrent_bias, {hidden});
  };
  auto step = [&](int64_t, int64_t row, ValueId h) {
    const ValueId gates = z.drain_plus(z.product(h, gate_weights, kNoValue), xw, row, 0, Micro::kSigmoid);  // z and r
    ValueId candidate;
    if (linear_first) {
      const ValueId linear = z.drain(z.product(h, state_weights, hidden_bias));
      MapBuilder m(l, node.name + ".n", z.state_shape());
      m.op(Micro::kTanh, {m.op(Micro::kFma, {m.input(gates, z.gate(1)), m.input(linear, direct_access(4)), m.input(xw, z.gate(2, row))})});
      candidate = m.finish(DType::kF32);
    } else {
      MapBuilder m(l, node.name + ".rh", z.state_shape());
      m.op(Micro::kMul, {m.input(gates, z.gate(1)), m.input(h, direct_access(4))});
      candidate = z.drain_plus(z.product(m.finish(operand_type(l.policy.format)), state_weights, kNoValue), xw, row, 2 * hidden, Micro::kTanh);
    }
    MapBuilder m(l, node.name + ".h", z.state_shape());
    const Operand n = m.input(candidate, direct_access(4));
    m.op(Micro::kFma, {m.input(gates, z.gate(0)), m.op(Micro::kSub, {m.input(h, direct_access(4)), n}), n});
    return m.finish(operand_type(l.policy.format));
  };
  z.run(begin, step);
}

/// h' = tanh(x W + h R + b).
void lower_rnn(Lowering& l, const Node& node) {
  Recurrence z(l, node, 1);
  ValueId xw = kNoValue, recurrent = kNoValue;
  auto begin = [&](int64_t d) {
    std::vector<float> bias;
    for (int64_t i = 0; i < z.hidden; ++i) bias.push_back(z.bias(d, false, i) + z.bias(d, true, i));
    xw = z.drain(z.product(z.x_id, z.weights(z.w, d, 0, z.hidden, ".W"), z.constant(".bias", bias, {z.hidden})));
    recurrent = z.resident_weights(d, 0, z.hidden);
  };
  z.run(begin, [&](int64_t, int64_t row, ValueId h) {
    const ValueId y = z.drain_plus(z.product(h, recurrent, kNoValue), xw, row, 0, Micro::kTanh);
    return l.convert(y, operand_type(l.policy.format));
  });
}

constexpr Operator kOperators[] = {
    {"", "LSTM", lower_lstm, "MX", 3, expand_recurrent},
    {"", "GRU", lower_gru, "MX", 3, expand_recurrent},
    {"", "RNN", lower_rnn, "MX", 3, expand_recurrent},
};

}  // namespace

std::span<const Operator> recurrent_operators() { return kOperators; }

}  // namespace systole
