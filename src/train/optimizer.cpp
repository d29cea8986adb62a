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

using Rule = ValueId (Update::*)(ValueId, ValueId, std::vector<ValueId>&);
constexpr struct { const char* name; Rule rule; } kRules[] = {{"sgd", &Update::sgd}, {"adam", &Update::adam}, {"adamw", &Update::adamw}, {"lamb", &Update::lamb}};

}  // namespace

int states_of(const OptimizerOptions& o) { return o.name == "sgd" ? (o.momentum == 0 ? 0 : 1) : 2; }

std::pair<float, float> corrections(const OptimizerOptions& o, int64_t step) {
  const double t = static_cast<double>(step);
  return {static_cast<float>(1 / (1 - std::pow(o.beta1, t))), static_cast<float>(1 / (1 - std::pow(o.beta2, t)))};
}

Graph update_graph(const OptimizerOptions& o, const std::vector<Shape>& weights, bool factor) {
  Rule rule = nullptr;
  std::string names;
  for (const auto& r : kRules) {
    names += (names.empty() ? "" : ", ") + std::string(r.name);
    if (o.name == r.name) rule = r.rule;
  }
  if (!rule) fail(ErrorCode::kBadInput, "--optimizer", "'" + o.name + "'", names);
  Graph graph;
  graph.name = "update." + o.name;
  Builder b(graph, "u.");
  Update u{b, o, b.input("rate", DType::kF32, {1}), b.input("correction1", DType::kF32, {1}), b.input("correction2", DType::kF32, {1})};
  const ValueId unscale = factor ? b.input("factor", DType::kF32, {1}) : kNoValue;
  const size_t n = weights.size();
  std::vector<ValueId> w, g;
  std::vector<std::vector<ValueId>> states(n);
  for (size_t i = 0; i < n; ++i) w.push_back(b.input("w" + std::to_string(i), DType::kF32, weights[i]));
  for (size_t i = 0; i < n; ++i) g.push_back(b.input("g" + std::to_string(i), DType::kF32, weights[i]));
  for (int s = 0; s < states_of(o); ++s) {
    for (size_t i = 0; i < n; ++i) states[i].push_back(b.input("s" + std::to_string(s) + "." + std::to_string(i), DType::kF32, weights[i]));
  }
  for (ValueId& v : g) v = factor ? b.mul(v, unscale) : v;
  if (o.clip_norm > 0) {
    ValueId total = squares(b, g[0]);
    for (size_t i = 1; i < n; ++i) total = b.add(total, squares(b, g[i]));
    const ValueId shrink = b.binary("Min", b.div(b.scalar(o.clip_norm), b.add(b.unary("Sqrt", total), b.scalar(1e-6))), b.scalar(1));
    for (ValueId& v : g) v = b.mul(v, shrink);
  }
  for (size_t i = 0; i < n; ++i) graph.outputs.push_back((u.*rule)(w[i], g[i], states[i]));
  for (int s = 0; s < states_of(o); ++s) {
    for (size_t i = 0; i < n; ++i) graph.outputs.push_back(states[i][static_cast<size_t>(s)]);
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
