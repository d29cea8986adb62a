#include "train/fake_quantise.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "graph/checks.h"
#include "host/host.h"

namespace systole {
namespace {

bool is(const Node& n, const char* type) {
  const auto& op = std::get<OnnxOp>(n.op);
  return op.type == type && (op.domain.empty() || op.domain == "com.microsoft");
}

TensorPtr constant(const Graph& g, const Node& n, size_t k) { return k < n.inputs.size() && n.inputs[k] != kNoValue ? g.value(n.inputs[k]).constant : nullptr; }

/// Bounds of code - zero for a type; one zero point for all.
void bound(const Node& n, DType type, const TensorPtr& zero, StoredCodes& s) {
  const IntegerKind kind = integer_kind(type);
  if (!kind.bits) unsupported(n, std::string("training through quantisation to ") + to_string(type));
  s.zero = zero ? zero->int_at(0) : 0;
  for (int64_t i = 1; zero && i < zero->count(); ++i) {
    if (zero->int_at(i) != s.zero) unsupported(n, "training with several zero points");
  }
  const double most = std::exp2(kind.bits - (kind.is_signed ? 1 : 0)) - 1, least = kind.is_signed ? -most - 1 : 0;
  s.hi = static_cast<int64_t>(most) - s.zero, s.lo = std::max(static_cast<int64_t>(least) - s.zero, kind.is_signed && s.zero == 0 ? -s.hi : INT64_MIN);
}

/// A constant's floats, and its scale for each element: DequantizeLinear of the codes, and of ones.
StoredCodes stored_codes(const Graph& g, const Node& n, Tensor& floats) {
  const TensorPtr codes = constant(g, n, 0), scale = constant(g, n, 1), zero = constant(g, n, 2);
  if (!scale) unsupported(n, "training with a scale computed at run time");
  StoredCodes s;
  s.codes = n.inputs[0], s.rounds = codes->type != DType::kI32;
  bound(n, codes->type, zero, s);
  std::vector<HostValue> in = {HostValue(codes), HostValue(scale)};
  if (zero) in.emplace_back(zero);
  floats = *run_host(n, in, {})[0].tensor;
  Tensor ones(codes->type, codes->shape);
  for (int64_t i = 0; i < ones.count(); ++i) ones.set_int(i, 1);
  s.scale = *run_host(n, {HostValue(ones), HostValue(scale)}, {})[0].tensor;
  return s;
}

}  // namespace

ValueId fake_quantise(Builder& b, ValueId v, ValueId scale, int64_t lo, int64_t hi) {
  // A little beyond the last codes, so that a weight which lies on one still learns; rounding ends on it.
  const ValueId inside = b.node("Clip", {b.div(v, scale), b.scalar(static_cast<double>(lo) - 0.2), b.scalar(static_cast<double>(hi) + 0.2)}, b.shape(v));
  return b.mul(b.unary("Round", inside), scale);
}

std::map<ValueId, StoredCodes> read_quantised(Graph& g) {
  std::map<ValueId, StoredCodes> stored;
  std::map<ValueId, ValueId> instead;
  std::map<ValueId, const Node*> quantisers;
  const std::vector<Node> nodes = std::move(g.nodes);
  g.nodes.clear();
  Builder b(g, "quantised.");
  for (const Node& from : nodes) {
    Node n = from;
    for (ValueId& v : n.inputs) v = instead.count(v) ? instead.at(v) : v;
    if (is(n, "QuantizeLinear") && !constant(g, n, 0)) {
      quantisers[n.outputs[0]] = &from;
      instead[n.outputs[0]] = n.inputs[0];  // read by its DequantizeLinear alone, checked there
      continue;
    }
    if (!is(n, "DequantizeLinear")) {
      for (ValueId v : from.inputs) {
        if (quantisers.count(v)) unsupported(n, "training through operators on codes");
      }
      g.nodes.push_back(std::move(n));
      continue;
    }
    if (constant(g, from, 0)) {
      Tensor floats;
      StoredCodes s = stored_codes(g, from, floats);
      const ValueId w = g.add_constant(g.value(from.inputs[0]).name, std::make_shared<const Tensor>(std::move(floats)));
      instead[from.outputs[0]] = w;
      stored.emplace(w, std::move(s));
      continue;
    }
    const TensorPtr scale = constant(g, from, 1), zero = constant(g, from, 2);
    if (!quantisers.count(from.inputs[0]) || !scale || scale->count() != 1) unsupported(n, "training through a DequantizeLinear without its QuantizeLinear, or without one constant scale");
    StoredCodes s;
    bound(n, zero ? zero->type : DType::kU8, zero, s);
    if (s.lo == -s.hi) s.lo -= 1;  // activations use the whole range
    // Shapes are not known yet: plain nodes.
    auto node = [&](const char* type, std::vector<ValueId> in, ValueId out) {
      if (out == kNoValue) out = g.add_value("fake/" + std::string(type) + std::to_string(g.values.size()), DType::kF32, {}), g.value(out).shape_known = false;
      g.nodes.push_back({g.value(out).name, OnnxOp{"", type, 18, {}}, std::move(in), {out}});
      return out;
    };
    const ValueId step = b.scalar(scale->at(0));
    const ValueId inside = node("Clip", {node("Div", {n.inputs[0], step}, kNoValue), b.scalar(static_cast<double>(s.lo) - 0.2), b.scalar(static_cast<double>(s.hi) + 0.2)}, kNoValue);
    node("Mul", {node("Round", {inside}, kNoValue), step}, from.outputs[0]);
  }
  for (ValueId& v : g.outputs) v = instead.count(v) ? instead.at(v) : v;
  return stored;
}

Tensor codes_of(const Tensor& w, const StoredCodes& s, DType type) {
  Tensor codes(type, w.shape);
  for (int64_t i = 0; i < w.count(); ++i) {
    const double q = std::nearbyint(static_cast<double>(static_cast<float>(w.at(i)) / static_cast<float>(s.scale.at(i))));
    codes.set_int(i, std::clamp(static_cast<int64_t>(q), s.lo, s.hi) + s.zero);
  }
  return codes;
}

}  // namespace systole
