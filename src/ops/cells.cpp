#include "ops/cells.h"

#include <algorithm>
#include <map>

#include "ops/operator.h"

namespace systole {
namespace {

constexpr int64_t kMostSteps = 1024;

class Cells {
 public:
  explicit Cells(Expander& expander) : x(expander), op(x.op()), type_(op.type), gates_(type_ == "LSTM" ? 4 : type_ == "GRU" ? 3 : 1) {
    const Shape s = x.shape(0), w = x.shape(1), r = x.shape(2);
    batch_first_ = op.integer("layout", 0) != 0;
    if (s.size() != 3 || w.size() != 3 || r.size() != 3 || w[0] != r[0] || w[1] != gates_ * r[2] || w[2] != s[2] || r[1] != w[1]) malformed(x.node, "input " + to_string(s) + ", W " + to_string(w) + ", R " + to_string(r), "extents of the schema");
    steps_ = s[batch_first_ ? 1 : 0], batch_ = s[batch_first_ ? 0 : 1], inputs_ = s[2], directions_ = w[0], hidden_ = r[2];
    if (steps_ < 1 || steps_ > kMostSteps) unsupported(x.node, std::to_string(steps_) + " steps; 1 to " + std::to_string(kMostSteps) + " are unrolled");
    direction_ = op.text("direction", "forward");
    if (directions_ != (direction_ == "bidirectional" ? 2 : 1)) malformed(x.node, "direction " + direction_, "one set of weights per direction");
  }

  void run() {
    const ValueId sequence = batch_first_ ? x.transpose(x.in(0), {1, 0, 2}) : x.in(0);
    const ValueId flat = x.reshape(sequence, {steps_ * batch_, inputs_});
    std::vector<std::vector<ValueId>> outputs(static_cast<size_t>(steps_));
    std::vector<ValueId> last_h, last_c;
    for (int64_t d = 0; d < directions_; ++d) run_direction(d, flat, outputs, last_h, last_c);
    for (auto& row : outputs) row = {row.size() == 1 ? row[0] : x.call("Concat", row, {{"axis", int64_t{1}}})};
    if (x.wants(0)) {
      std::vector<ValueId> rows;
      for (const auto& row : outputs) rows.push_back(row[0]);  // [1, D, B, H]
      const ValueId y = rows.size() == 1 ? rows[0] : x.call("Concat", rows, {{"axis", int64_t{0}}});
      x.result(0, batch_first_ ? x.transpose(y, {2, 0, 1, 3}) : y);
    }
    x.result(1, states(last_h)), x.result(2, states(last_c));
  }

 private:
  /// [D, B, H], or [B, D, H].
  ValueId states(std::vector<ValueId> list) {
    if (list.empty()) return kNoValue;
    for (ValueId& v : list) v = x.reshape(v, {1, batch_, hidden_});
    const ValueId all = list.size() == 1 ? list[0] : x.call("Concat", list, {{"axis", int64_t{0}}});
    return batch_first_ ? x.transpose(all, {1, 0, 2}) : all;
  }
  ValueId initial(size_t k, int64_t d) {
    if (!x.has(k)) return x.constant_tensor(Tensor(DType::kF32, {batch_, hidden_}));
    return x.reshape(x.slice(x.in(k), batch_first_ ? 1 : 0, d, d + 1), {batch_, hidden_});
  }
  ValueId clipped(ValueId v) {
    const double limit = static_cast<double>(op.real("clip", 0));
    return limit > 0 ? x.call("Clip", {v, x.scalar(-limit), x.scalar(limit)}) : v;
  }
  /// Activation number k of the direction, by ONNX's names.
  ValueId activate(ValueId v, int64_t d, size_t k) {
    const auto names = op.texts("activations");
    const size_t per = type_ == "LSTM" ? 3 : type_ == "GRU" ? 2 : 1, at = static_cast<size_t>(d) * per + k;
    const char* usual = k == 0 && per > 1 ? "Sigmoid" : "Tanh";
    const std::string name = at < names.size() ? names[at] : usual;
    const auto alphas = op.reals("activation_alpha"), betas = op.reals("activation_beta");
    auto parameter = [&](const std::vector<float>& list, float otherwise) { return at < list.size() ? list[at] : otherwise; };
    if (name == "Affine") return x.add(x.mul(v, x.scalar(static_cast<double>(parameter(alphas, 1)))), x.scalar(static_cast<double>(parameter(betas, 0))));
    if (name == "ScaledTanh") return x.mul(x.call("Tanh", {x.mul(v, x.scalar(static_cast<double>(parameter(betas, 1))))}), x.scalar(static_cast<double>(parameter(alphas, 1))));
    static const std::map<std::string, std::pair<float, float>> kKnown = {{"Relu", {0, 0}}, {"Tanh", {0, 0}}, {"Sigmoid", {0, 0}}, {"Softsign", {0, 0}}, {"Softplus", {0, 0}}, {"LeakyRelu", {0.01f, 0}}, {"ThresholdedRelu", {1, 0}}, {"HardSigmoid", {0.2f, 0.5f}}, {"Elu", {1, 0}}};
    const auto known = kKnown.find(name);
    if (known == kKnown.end()) unsupported(x.node, "activation '" + name + "'");
    std::vector<Expander::NamedAttribute> attributes;
    if (known->second.first != 0) attributes.emplace_back("alpha", parameter(alphas, known->second.first));
    if (known->second.second != 0) attributes.emplace_back("beta", parameter(betas, known->second.second));
    return x.call(known->first.c_str(), {v}, attributes);
  }
  /// Column block g of [B, gates x H].
  ValueId gate(ValueId v, int64_t g) { return x.slice(v, 1, g * hidden_, (g + 1) * hidden_); }
  ValueId matrix(size_t k, int64_t d, int64_t first, int64_t rows) {
    const int64_t columns = k == 1 ? inputs_ : hidden_;
    return x.transpose(x.slice(x.reshape(x.slice(x.in(k), 0, d, d + 1), {gates_ * hidden_, columns}), 0, first, first + rows), {1, 0});
  }
  ValueId bias(int64_t d, bool recurrent) {
    return x.has(3) ? x.reshape(x.slice(x.slice(x.in(3), 0, d, d + 1), 1, recurrent * gates_ * hidden_, (1 + recurrent) * gates_ * hidden_), {1, gates_ * hidden_}) : kNoValue;
  }
  ValueId plus(ValueId v, ValueId b) { return b == kNoValue ? v : x.add(v, b); }
  ValueId peephole(ValueId v, int64_t d, int64_t which, ValueId c) {
    if (!x.has(7)) return v;
    return x.add(v, x.mul(x.reshape(x.slice(x.slice(x.in(7), 0, d, d + 1), 1, which * hidden_, (which + 1) * hidden_), {1, hidden_}), c));
  }

  struct State {
    ValueId h, c = kNoValue;
  };
  struct Parameters {
    ValueId r, r_state, recurrent_bias, xw;
  };

  State lstm_step(int64_t d, ValueId z, State s) {  // gates i, o, f, c
    ValueId i = activate(clipped(peephole(gate(z, 0), d, 0, s.c)), d, 0);
    ValueId f = op.integer("input_forget", 0) ? x.sub(x.scalar(1), i) : activate(clipped(peephole(gate(z, 2), d, 2, s.c)), d, 0);
    const ValueId c = x.add(x.mul(f, s.c), x.mul(i, activate(clipped(gate(z, 3)), d, 1)));
    const ValueId o = activate(clipped(peephole(gate(z, 1), d, 1, c)), d, 0);
    return {x.mul(o, activate(c, d, 2)), c};
  }
  State gru_step(int64_t d, ValueId xw, const Parameters& p, State s) {  // gates z, r, h
    const bool linear_first = op.integer("linear_before_reset", 0) != 0;
    ValueId zr = x.call("MatMul", {s.h, p.r});
    const ValueId rb = p.recurrent_bias;
    if (rb != kNoValue) zr = x.add(zr, x.slice(rb, 1, 0, 2 * hidden_));
    const ValueId z = activate(clipped(x.add(gate(xw, 0), gate(zr, 0))), d, 0), r = activate(clipped(x.add(gate(xw, 1), gate(zr, 1))), d, 0);
    const ValueId state_bias = rb == kNoValue ? kNoValue : x.slice(rb, 1, 2 * hidden_, 3 * hidden_);
    const ValueId inner = linear_first ? x.mul(r, plus(x.call("MatMul", {s.h, p.r_state}), state_bias)) : plus(x.call("MatMul", {x.mul(r, s.h), p.r_state}), state_bias);
    const ValueId n = activate(clipped(x.add(gate(xw, 2), inner)), d, 1);
    return {x.add(x.mul(x.sub(x.scalar(1), z), n), x.mul(z, s.h))};
  }

  void run_direction(int64_t d, ValueId flat, std::vector<std::vector<ValueId>>& outputs, std::vector<ValueId>& last_h, std::vector<ValueId>& last_c) {
    const bool backward = direction_ == "reverse" || d == 1, lstm = type_ == "LSTM", gru = type_ == "GRU";
    const int64_t together = gru ? 2 * hidden_ : gates_ * hidden_;
    const Parameters p{matrix(2, d, 0, together), gru ? matrix(2, d, 2 * hidden_, hidden_) : kNoValue, bias(d, true), plus(x.call("MatMul", {flat, matrix(1, d, 0, gates_ * hidden_)}), bias(d, false))};
    State s{initial(5, d), lstm ? initial(6, d) : kNoValue};
    for (int64_t k = 0; k < steps_; ++k) {
      const int64_t t = backward ? steps_ - 1 - k : k;
      const ValueId xw = steps_ == 1 ? p.xw : x.slice(p.xw, 0, t * batch_, (t + 1) * batch_);
      State next;
      if (gru) next = gru_step(d, xw, p, s);
      else {
        const ValueId z = plus(x.add(xw, x.call("MatMul", {s.h, p.r})), p.recurrent_bias);
        next = lstm ? lstm_step(d, z, s) : State{activate(clipped(z), d, 0)};
      }
      ValueId y = next.h;
      if (x.has(4)) {  // past a sequence's end the state stays and the output is 0
        const ValueId inside = x.cast(x.call("Less", {x.constant_tensor(Tensor::from_ints({t}, {1, 1})), x.reshape(x.cast(x.in(4), DType::kI64), {batch_, 1})}), DType::kF32);
        auto keep = [&](ValueId now, ValueId before) { return x.add(before, x.mul(inside, x.sub(now, before))); };
        y = x.mul(inside, next.h);
        next.h = keep(next.h, s.h);
        if (lstm) next.c = keep(next.c, s.c);
      }
      s = next;
      outputs[static_cast<size_t>(t)].push_back(x.reshape(y, {1, 1, batch_, hidden_}));
    }
    last_h.push_back(s.h);
    if (lstm) last_c.push_back(s.c);
  }

  Expander& x;
  const OnnxOp& op;
  const std::string type_;
  const int64_t gates_;
  bool batch_first_ = false;
  int64_t steps_ = 0, batch_ = 0, inputs_ = 0, directions_ = 0, hidden_ = 0;
  std::string direction_;
};

}  // namespace

bool default_activations(const OnnxOp& op) {
  const auto names = op.texts("activations");
  const size_t per = op.type == "LSTM" ? 3 : op.type == "GRU" ? 2 : 1;
  for (size_t k = 0; k < names.size(); ++k) {
    if (names[k] != (k % per == 0 && per > 1 ? "Sigmoid" : "Tanh")) return false;
  }
  return true;
}

bool expand_recurrent(Expander& x) {
  const OnnxOp& op = x.op();
  bool direct = op.integer("layout", 0) == 0 && !op.has("clip") && !op.integer("input_forget", 0) && !x.has(7) && default_activations(op);
  for (size_t k = 1; k <= 3; ++k) direct &= !x.has(k) || x.constant(k);
  if (x.has(4)) {
    const TensorPtr lengths = x.constant(4);
    const int64_t steps = x.shape(0).empty() ? 0 : x.shape(0)[0];
    const auto list = lengths ? lengths->to_ints() : std::vector<int64_t>{};
    direct &= lengths && std::all_of(list.begin(), list.end(), [&](int64_t n) { return n == steps; });
  }
  if (direct) return false;
  Cells(x).run();
  return true;
}

}  // namespace systole
