#include "train/optimizer.h"

#include <cmath>
#include <numbers>

#include "base/error.h"

namespace systole {
namespace {

/// The sum of squares of everything in a tensor.
ValueId squares(Builder& b, ValueId v) {
  const Shape s = b.shape(v);
  const int64_t last = s.empty() ? 1 : s.back(), rows = element_count(s) / last;
  const ValueId flat = b.reshape(v, {rows, last});
  return b.reshape(b.sum(b.mul(flat, flat), {0, 1}, true), {1});
}

struct Update {
  Builder& b;
  const OptimizerOptions& o;
  ValueId rate, correction1, correction2;

  /// w - rate step
  ValueId moved(ValueId w, ValueId step) { return b.sub(w, b.mul(rate, step)); }
  ValueId decayed(ValueId w, ValueId g) { return o.weight_decay == 0 ? g : b.add(g, b.scale(w, o.weight_decay)); }

  /// v = momentum v + g; w -= rate (v, or g + momentum v)
  ValueId sgd(ValueId w, ValueId g, std::vector<ValueId>& states) {
    g = decayed(w, g);
    if (o.momentum == 0) return moved(w, g);
    states[0] = b.add(b.scale(states[0], o.momentum), g);
    return moved(w, o.nesterov ? b.add(g, b.scale(states[0], o.momentum)) : states[0]);
  }
  /// The direction of Adam (Kingma and Ba 2014, algorithm 1).
  ValueId moments(ValueId g, std::vector<ValueId>& states) {
    states[0] = b.add(b.scale(states[0], o.beta1), b.scale(g, 1 - o.beta1));
    states[1] = b.add(b.scale(states[1], o.beta2), b.scale(b.mul(g, g), 1 - o.beta2));
    return b.div(b.mul(states[0], correction1), b.add(b.unary("Sqrt", b.mul(states[1], correction2)), b.scalar(o.epsilon)));
  }
  ValueId adam(ValueId w, ValueId g, std::vector<ValueId>& states) { return moved(w, moments(decayed(w, g), states)); }
  /// Decay apart from the moments (Loshchilov and Hutter 2017).
  ValueId adamw(ValueId w, ValueId g, std::vector<ValueId>& states) { return moved(w, decayed(w, moments(g, states))); }
  /// Steps in proportion to the weights' norm (You et al. 2019).
  ValueId lamb(ValueId w, ValueId g, std::vector<ValueId>& states) {
    const ValueId r = decayed(w, moments(g, states));
    const ValueId tiny = b.scalar(1e-12), norm_w = b.unary("Sqrt", squares(b, w)), norm_r = b.unary("Sqrt", b.add(squares(b, r), tiny));
    const ValueId some = b.greater(norm_w, b.scalar(0));  // weights of zero move by the plain step
    const ValueId trust = b.add(b.mul(some, b.div(norm_w, norm_r)), b.sub(b.scalar(1), some));
    return moved(w, b.mul(r, trust));
  }
};

/// Shazeer and Stern 2018, algorithms 4 and 5: second moments as a row times a column, no first ones; a step's root mean square is at most 1,
/// in proportion to the weight's, of at least 1e-3. correction1 and correction2: beta2 of this step, and 1 less it.
struct Adafactor : Update {
  ValueId mean_square(ValueId v) { return b.scale(squares(b, v), 1 / static_cast<double>(element_count(b.shape(v)))); }
  ValueId kept(ValueId state, ValueId now) { return b.add(b.mul(state, correction1), b.mul(now, correction2)); }

  ValueId rule(ValueId w, ValueId g, std::vector<ValueId>& states) {
    const Shape shape = b.shape(w), flat = matrix_of(shape);
    const ValueId m = b.reshape(g, flat), square = b.add(b.mul(m, m), b.scalar(1e-30));
    ValueId u = m;
    if (states.size() == 1) {
      states[0] = kept(states[0], square);
      u = b.div(u, b.unary("Sqrt", states[0]));
    } else {  // root by root: the product of a small row and a small column may be none
      states[0] = kept(states[0], b.mean(square, {1}, true)), states[1] = kept(states[1], b.mean(square, {0}, true));
      u = b.div(b.div(u, b.unary("Sqrt", b.div(states[0], b.mean(states[0], {0}, true)))), b.unary("Sqrt", states[1]));
    }
    const ValueId clipped = b.div(u, b.binary("Max", b.unary("Sqrt", mean_square(u)), b.scalar(1)));
    const ValueId size = b.binary("Max", b.unary("Sqrt", mean_square(w)), b.scalar(1e-3));
    return moved(w, decayed(w, b.reshape(b.mul(clipped, size), shape)));
  }
  /// [rows, columns]: the last axis against the others; a vector is one row.
  static Shape matrix_of(const Shape& s) {
    const int64_t last = s.empty() ? 1 : s.back();
    return {element_count(s) / last, last};
  }
};
ValueId adafactor(Update& u, ValueId w, ValueId g, std::vector<ValueId>& states) { return Adafactor{u}.rule(w, g, states); }

using Rule = ValueId (*)(Update&, ValueId, ValueId, std::vector<ValueId>&);
template <ValueId (Update::*method)(ValueId, ValueId, std::vector<ValueId>&)>
ValueId by(Update& u, ValueId w, ValueId g, std::vector<ValueId>& states) {
  return (u.*method)(w, g, states);
}
bool elementwise(const OptimizerOptions& o) { return o.name == "sgd" || o.name == "adam" || o.name == "adamw"; }

/// Tensors that can be cut into many equal parts, whatever their shape: 30,522 rows cannot.
Shape equal_parts(const Shape& shape) {
  constexpr int64_t kParts = 2048;
  const int64_t count = element_count(shape);
  int64_t parts = std::min(kParts, count);
  while (count % parts != 0) --parts;
  return {parts, count / parts};
}

/// v plus a random share of half a last place of bf16 either way: rounded to nearest afterwards, v goes up as often as it lies near the upper
/// neighbour. The unit in the first place without looking at bits: Rump, Ogita and Oishi 2008, "Accurate floating-point summation", algorithm 3.5.
ValueId dithered(Builder& b, ValueId v, ValueId bytes) {
  const ValueId q = b.scale(v, 0x1p23 + 1), unit = b.unary("Abs", b.sub(q, b.scale(q, 1 - 0x1p-24)));
  const ValueId random = b.node("Cast", {bytes}, b.shape(bytes), {{"systole_to", static_cast<int64_t>(DType::kF32)}});
  return b.add(v, b.mul(b.add(b.scale(random, 0x1p-8), b.scalar(0x1p-9 - 0.5)), b.scale(unit, 0x1p-7)));
}

constexpr struct { const char* name; Rule rule; } kRules[] = {{"sgd", by<&Update::sgd>}, {"adam", by<&Update::adam>}, {"adamw", by<&Update::adamw>}, {"lamb", by<&Update::lamb>}, {"adafactor", adafactor}};

}  // namespace

std::vector<Shape> states_of(const OptimizerOptions& o, const Shape& weight) {
  if (o.name == "sgd") return std::vector<Shape>(o.momentum == 0 ? 0 : 1, weight);
  if (o.name != "adafactor") return {weight, weight};
  const Shape m = Adafactor::matrix_of(weight);
  if (m[0] == 1 || m[1] == 1) return {m};
  return {{m[0], 1}, {1, m[1]}};
}

std::pair<float, float> corrections(const OptimizerOptions& o, int64_t step) {
  const double t = static_cast<double>(step);
  if (o.name == "adafactor") return {static_cast<float>(1 - std::pow(t, -0.8)), static_cast<float>(std::pow(t, -0.8))};
  return {static_cast<float>(1 / (1 - std::pow(o.beta1, t))), static_cast<float>(1 / (1 - std::pow(o.beta2, t)))};
}

namespace {

Rule find_rule(const std::string& name) {
  std::string names;
  for (const auto& r : kRules) {
    if (name == r.name) return r.rule;
    names += (names.empty() ? "" : ", ") + std::string(r.name);
  }
  fail(ErrorCode::kBadInput, "--optimizer", "'" + name + "'", names);
}

/// All gradients together at most `norm` long.
void clip(Builder& b, std::vector<ValueId>& gradients, double norm) {
  ValueId total = kNoValue;
  for (ValueId v : gradients) total = total == kNoValue ? squares(b, v) : b.add(total, squares(b, v));
  const ValueId shrink = b.binary("Min", b.div(b.scalar(norm), b.add(b.unary("Sqrt", total), b.scalar(1e-6))), b.scalar(1));
  for (ValueId& v : gradients) v = b.mul(v, shrink);
}

}  // namespace

Graph update_graph(const OptimizerOptions& o, const std::vector<Shape>& weights, bool factor, const std::vector<bool>& narrow, const std::vector<size_t>& copied, DType copy_type) {
  const Rule rule = find_rule(o.name);
  Graph graph;
  graph.name = "update." + o.name;
  Builder b(graph, "u.");
  Update u{b, o, b.input("rate", DType::kF32, {1}), b.input("correction1", DType::kF32, {1}), b.input("correction2", DType::kF32, {1})};
  const ValueId unscale = factor ? b.input("factor", DType::kF32, {1}) : kNoValue;
  const size_t n = weights.size();
  const auto rounds = [&](size_t i) { return !narrow.empty() && narrow[i]; };
  std::vector<ValueId> w, g, random(n, kNoValue), moved(n, kNoValue);
  std::vector<std::vector<ValueId>> states(n);
  for (size_t i = 0; i < n; ++i) w.push_back(b.input("w" + std::to_string(i), rounds(i) ? DType::kBF16 : DType::kF32, weights[i]));
  for (size_t i = 0; i < n; ++i) g.push_back(b.input("g" + std::to_string(i), DType::kF32, weights[i]));
  for (size_t i = 0; i < n; ++i) {
    for (const Shape& s : states_of(o, weights[i])) states[i].push_back(b.input("s" + std::to_string(states[i].size()) + "." + std::to_string(i), DType::kF32, s));
  }
  for (size_t i = 0; i < n; ++i) {
    if (rounds(i)) random[i] = b.input("random" + std::to_string(i), DType::kU8, weights[i]);
  }
  for (ValueId& v : g) v = factor ? b.mul(v, unscale) : v;
  if (o.clip_norm > 0) clip(b, g, o.clip_norm);
  for (size_t i = 0; i < n; ++i) {
    // Elementwise rules see each tensor in equal parts, which pass through the scratchpad one by one.
    const Shape shape = elementwise(o) ? equal_parts(weights[i]) : weights[i];
    if (elementwise(o)) {
      for (ValueId& s : states[i]) s = b.reshape(s, shape);
    }
    moved[i] = rule(u, b.reshape(w[i], shape), b.reshape(g[i], shape), states[i]);
    if (elementwise(o)) {
      for (ValueId& s : states[i]) s = b.reshape(s, weights[i]);
    }
    if (rounds(i)) moved[i] = dithered(b, moved[i], b.reshape(random[i], shape));
    graph.outputs.push_back(b.node("Reshape", {moved[i], b.ints(weights[i])}, weights[i], {}, rounds(i) ? DType::kBF16 : DType::kF32));
  }
  for (const auto& list : states) graph.outputs.insert(graph.outputs.end(), list.begin(), list.end());
  for (size_t i : copied) {
    const ValueId copy = b.node("Cast", {moved[i]}, b.shape(moved[i]), {{"systole_to", static_cast<int64_t>(copy_type)}}, copy_type);
    graph.outputs.push_back(b.node("Reshape", {copy, b.ints(weights[i])}, weights[i], {}, copy_type));
  }
  return graph;
}

double RateSchedule::at(int64_t step) const {
  double share = 1;
  const double progress = static_cast<double>(step - warm_up) / static_cast<double>(std::max<int64_t>(1, steps - warm_up));
  if (name == "cosine") share = 0.5 * (1 + std::cos(std::numbers::pi * std::min(1.0, std::max(0.0, progress))));
  else if (name == "step") share = progress < 0.5 ? 1 : progress < 0.75 ? 0.1 : 0.01;
  else if (name != "constant") fail(ErrorCode::kBadInput, "--schedule", "'" + name + "'", "constant, step or cosine");
  if (step < warm_up) share = static_cast<double>(step + 1) / static_cast<double>(warm_up);
  return rate * share;
}

}  // namespace systole
