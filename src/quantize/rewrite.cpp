#include "quantize/rewrite.h"

#include <algorithm>
#include <cmath>

#include "graph/checks.h"
#include "quantize/biases.h"
#include "quantize/roles.h"

namespace systole {
namespace {

const OnnxOp& op_of(const Node& n) { return std::get<OnnxOp>(n.op); }
TensorPtr constant(const Graph& g, const Node& n, size_t k) { return constant_input(g, n, k); }
bool has_weights(const Graph& g, const Node& n) { return role_of(g, n) == Role::kWeighted; }
/// Whether it reads 8-bit codes where it is quantised: not the weights alone.
bool reads_codes(Role role) { return role != Role::kMoves && role != Role::kFloat; }

/// Weight axis of the outputs.
int64_t output_axis(const Graph& g, const Node& n) {
  const OnnxOp& op = op_of(n);
  return op.type == "Conv" || (op.type == "Gemm" && op.integer("transB", 0)) ? 0 : static_cast<int64_t>(constant(g, n, 1)->shape.size()) - 1;
}

class Rewriter {
 public:
  Rewriter(const Graph& source, const std::map<ValueId, Histogram>& histograms, const RewriteOptions& options) : in(source), histograms_(histograms), o(options), out(source), uses_(source), floats_(source, uses_) { out.nodes.clear(); }

  Graph run() {
    const bool activations = o.weights != "int4";
    std::vector<bool> quantised(in.nodes.size());
    std::set<ValueId> codes;  // what is read as such
    for (size_t i = 0; i < in.nodes.size(); ++i) {
      quantised[i] = is_quantised(i);
      if (quantised[i] && activations) codes.insert(in.nodes[i].inputs.begin(), in.nodes[i].inputs.end());
    }
    for (size_t i = 0; i < in.nodes.size(); ++i) {
      const Node& n = in.nodes[i];
      Node copy = n;
      if (activations && (quantised[i] || floats_.has(i))) {
        for (ValueId& v : copy.inputs) v = v != kNoValue && observed(v) && (quantised[i] || !floats_.reads_as_floats(n, v, codes.count(v) != 0)) ? dequantised(v) : v;
      }
      if (quantised[i] && has_weights(in, n)) activations ? quantise_weights(copy, n) : quantise_int4(copy, n);
      const ValueId result = n.outputs.empty() ? kNoValue : n.outputs[0];
      const bool last = activations && quantised[i] && has_weights(in, n) && uses_.is_output[static_cast<size_t>(result)] && observed(result);
      if (last) {
        out.values.push_back({in.value(result).name + ".float", DType::kF32, {}, false, nullptr});
        copy.outputs[0] = static_cast<ValueId>(out.values.size() - 1);
      }
      const ValueId made = copy.outputs[0];
      out.nodes.push_back(std::move(copy));
      if (last) finish_output(result, made);
    }
    prune_and_sort(out);
    return std::move(out);
  }

 private:
  bool is_quantised(size_t i) const {
    const Node& n = in.nodes[i];
    const Role role = role_of(in, n);
    if (o.keep_float.count(n.name)) return false;
    if (o.weights == "int4") return role == Role::kWeighted;
    return reads_codes(role) && (role != Role::kElementwise || !(lonely(n) || floats_.has(i)));
  }
  bool observed(ValueId v) const { return histograms_.count(v) && !in.value(v).constant; }
  /// An activation function whose input is the only reader of a contraction: the pair stays together.
  bool lonely(const Node& n) const {
    const std::string& t = op_of(n).type;
    if (t != "Relu" && t != "Clip") return false;
    const int p = uses_.producer[static_cast<size_t>(n.inputs[0])];
    return p >= 0 && has_weights(in, in.nodes[static_cast<size_t>(p)]) && uses_.readers[static_cast<size_t>(n.inputs[0])].size() == 1 && !uses_.is_output[static_cast<size_t>(n.inputs[0])];
  }

  ValueId add(const std::string& name, Tensor t) { return out.add_constant(name, std::make_shared<const Tensor>(std::move(t))); }
  ValueId emit(const std::string& name, const char* type, std::vector<ValueId> inputs, std::map<std::string, Attribute> attributes = {}) {
    out.values.push_back({name, DType::kF32, {}, false, nullptr});
    const ValueId id = static_cast<ValueId>(out.values.size() - 1);
    out.nodes.push_back({name, OnnxOp{"", type, 13, std::move(attributes)}, std::move(inputs), {id}});
    return id;
  }

  Affine affine(ValueId v) const { return affine_of(choose_range(histograms_.at(v), o.method)); }
  ValueId dequantised(ValueId v) {
    const auto [it, added] = pairs_.try_emplace(v, kNoValue);
    if (!added) return it->second;
    const std::string name = in.value(v).name;
    const Affine a = affine(v);
    Tensor zero(DType::kU8, {});
    zero.set_int(0, a.zero);
    const ValueId s = add(name + ".scale", Tensor::scalar_f32(a.scale)), z = add(name + ".zero", zero);
    return it->second = emit(name + ".dequantised", "DequantizeLinear", {emit(name + ".quantised", "QuantizeLinear", {v, s, z}), s, z});
  }

  /// The model's output itself, in 8 bits and back.
  void finish_output(ValueId result, ValueId made) {
    const std::string name = in.value(result).name;
    const Affine a = affine(result);
    Tensor zero(DType::kU8, {});
    zero.set_int(0, a.zero);
    const ValueId s = add(name + ".scale", Tensor::scalar_f32(a.scale)), z = add(name + ".zero", zero);
    const ValueId q = emit(name + ".quantised", "QuantizeLinear", {made, s, z});
    out.nodes.push_back({name + ".dequantised", OnnxOp{"", "DequantizeLinear", 13, {}}, {q, s, z}, {result}});
  }

  /// Greatest magnitude of each output's weights.
  std::vector<float> magnitudes(const Tensor& w, int64_t axis) const {
    const int64_t n = w.shape[static_cast<size_t>(axis)];
    const int64_t inner = row_major_strides(w.shape)[static_cast<size_t>(axis)];
    std::vector<float> most(static_cast<size_t>(n), 0);
    for (int64_t i = 0; i < w.count(); ++i) most[static_cast<size_t>(i / inner % n)] = std::max(most[static_cast<size_t>(i / inner % n)], std::fabs(static_cast<float>(w.at(i))));
    return most;
  }

  void quantise_weights(Node& copy, const Node& n) {
    const Tensor& w = *constant(in, n, 1);
    const int64_t axis = output_axis(in, n), channels = w.shape[static_cast<size_t>(axis)], inner = row_major_strides(w.shape)[static_cast<size_t>(axis)];
    const auto most = magnitudes(w, axis);
    const float sx = observed(n.inputs[0]) ? affine(n.inputs[0]).scale : 0;
    std::vector<float> bias = constant(in, n, 2) ? constant(in, n, 2)->to_floats() : std::vector<float>();
    Tensor q(DType::kI8, w.shape), scale(DType::kF32, {channels});
    for (int64_t c = 0; c < channels; ++c) {
      // A channel of next to no weights still has its bias: in units of its scale that has to leave the accumulator room.
      const float least = sx > 0 && static_cast<int64_t>(bias.size()) == channels ? std::fabs(bias[static_cast<size_t>(c)]) / sx * 0x1p-29f : 0, s = std::max(most[static_cast<size_t>(c)] / 127, least);
      scale.set(c, s > 0 ? std::max(static_cast<double>(s), 0x1p-80) : 1.0);  // products of scales stay normal numbers
    }
    for (int64_t i = 0; i < w.count(); ++i) q.set_int(i, static_cast<int64_t>(std::clamp(std::nearbyint(w.at(i) / scale.at(i / inner % channels)), -127.0, 127.0)));
    std::map<std::string, Attribute> attributes = {{"axis", axis}};
    Tensor restored(DType::kF32, w.shape);
    for (int64_t i = 0; i < w.count(); ++i) restored.set(i, static_cast<double>(q.int_at(i)) * scale.at(i / inner % channels));
    if (o.bias_correction && observed(n.inputs[0])) correct_bias(n, w, restored, axis, bias);
    copy.inputs[1] = emit(n.name + ".weight", "DequantizeLinear", {add(n.name + ".weight8", q), add(n.name + ".weight_scale", scale), add(n.name + ".weight_zero", Tensor(DType::kI8, {channels}))}, attributes);
    if (bias.empty() || op_of(n).type == "MatMul" || static_cast<int64_t>(bias.size()) != channels || sx == 0) return;
    Tensor b(DType::kI32, {channels}), bs(DType::kF32, {channels});
    for (int64_t c = 0; c < channels; ++c) {
      const float s = sx * static_cast<float>(scale.at(c));
      bs.set(c, static_cast<double>(s));
      b.set_int(c, static_cast<int64_t>(std::clamp(std::nearbyint(static_cast<double>(bias[static_cast<size_t>(c)]) / static_cast<double>(s)), -2147483648.0, 2147483647.0)));
    }
    copy.inputs.resize(3);
    copy.inputs[2] = emit(n.name + ".bias", "DequantizeLinear", {add(n.name + ".bias32", b), add(n.name + ".bias_scale", bs), add(n.name + ".bias_zero", Tensor(DType::kI32, {channels}))}, {{"axis", int64_t{0}}});
  }

  /// b -= sum over inputs of (quantised - float weight) x mean input (Nagel et al. 2019, section 4.2).
  void correct_bias(const Node& n, const Tensor& w, const Tensor& restored, int64_t axis, std::vector<float>& bias) const {
    const Histogram& h = histograms_.at(n.inputs[0]);
    const OnnxOp& op = op_of(n);
    if (op.type == "MatMul" || h.channel_sums.empty() || h.channel_count == 0) return;
    const int64_t channels = w.shape[static_cast<size_t>(axis)], groups = op.integer("group", 1);
    if (bias.empty()) bias.assign(static_cast<size_t>(channels), 0);
    if (static_cast<int64_t>(bias.size()) != channels) return;
    const bool conv = op.type == "Conv";
    const int64_t per_group = conv ? w.shape[1] : 0, taps = conv ? w.count() / (w.shape[0] * w.shape[1]) : 1, columns = w.shape.back();
    std::vector<double> error(static_cast<size_t>(channels), 0);
    for (int64_t i = 0; i < w.count(); ++i) {
      const int64_t c = conv ? i / (per_group * taps) : axis == 0 ? i / columns : i % columns;
      const int64_t k = conv ? c / (channels / groups) * per_group + i / taps % per_group : axis == 0 ? i % columns : i / columns;
      if (static_cast<size_t>(k) >= h.channel_sums.size()) return;
      error[static_cast<size_t>(c)] += (restored.at(i) - w.at(i)) * h.channel_sums[static_cast<size_t>(k)] / h.channel_count;
    }
    for (int64_t c = 0; c < channels; ++c) bias[static_cast<size_t>(c)] -= static_cast<float>(error[static_cast<size_t>(c)]);
  }

  /// Greatest divisor of k up to the group's size; 0 where groups would be too small to be worth a scale.
  int64_t block_of(int64_t k) const {
    for (int64_t b = std::min(k, o.group); b >= 8; --b) {
      if (k % b == 0) return b;
    }
    return 0;
  }

  /// The scale of one group with the least squared error among shrunken ones; codes are -8 to 7.
  static double best_scale(const std::vector<double>& values) {
    double most = 0;
    for (double v : values) most = std::max(most, std::fabs(v));
    if (most == 0) return 1;
    double best = most / 7, least = INFINITY;
    for (double s = most / 8; s <= most / 4.5 || least == INFINITY; s *= 1.02) {
      double error = 0;
      const double scale = most / 7 * (most / 7 / s);  // from 8 / 7 of the plain scale downwards
      for (double v : values) error += std::pow(std::clamp(std::nearbyint(v / scale), -8.0, 7.0) * scale - v, 2);
      if (error < least) least = error, best = scale;
    }
    return static_cast<double>(static_cast<float>(best));
  }

  /// Weights alone, symmetric in groups along the contracted axis where it divides, otherwise per output.
  void quantise_int4(Node& copy, const Node& n) {
    const Tensor& w = *constant(in, n, 1);
    const int64_t out_axis = output_axis(in, n), k_axis = op_of(n).type == "Conv" ? 1 : 1 - out_axis, block = block_of(w.shape[static_cast<size_t>(k_axis)]);
    const int64_t axis = block ? k_axis : out_axis;
    Shape scale_shape = block ? w.shape : Shape{w.shape[static_cast<size_t>(out_axis)]};
    if (block) scale_shape[static_cast<size_t>(axis)] /= block;
    const auto strides = row_major_strides(w.shape), scale_strides = row_major_strides(scale_shape);
    auto scale_at = [&](int64_t i) {
      if (!block) return i / strides[static_cast<size_t>(out_axis)] % w.shape[static_cast<size_t>(out_axis)];
      int64_t at = 0;
      for (size_t d = 0; d < w.shape.size(); ++d) at += (i / strides[d] % w.shape[d]) / (static_cast<int64_t>(d) == axis ? block : 1) * scale_strides[d];
      return at;
    };
    Tensor q(DType::kI4, w.shape), scale(DType::kF32, scale_shape), restored(DType::kF32, w.shape);
    std::vector<std::vector<double>> groups(static_cast<size_t>(scale.count()));
    for (int64_t i = 0; i < w.count(); ++i) groups[static_cast<size_t>(scale_at(i))].push_back(w.at(i));
    for (size_t g = 0; g < groups.size(); ++g) scale.set(static_cast<int64_t>(g), best_scale(groups[g]));
    for (int64_t i = 0; i < w.count(); ++i) {
      q.set_int(i, static_cast<int64_t>(std::clamp(std::nearbyint(w.at(i) / scale.at(scale_at(i))), -8.0, 7.0)));
      restored.set(i, static_cast<double>(q.int_at(i)) * scale.at(scale_at(i)));
    }
    std::map<std::string, Attribute> attributes = {{"axis", axis}};
    if (block) attributes["block_size"] = block;
    copy.inputs[1] = emit(n.name + ".weight", "DequantizeLinear", {add(n.name + ".weight4", q), add(n.name + ".weight_scale", scale)}, attributes);
    std::vector<float> bias = constant(in, n, 2) ? constant(in, n, 2)->to_floats() : std::vector<float>();
    if (!o.bias_correction || !observed(n.inputs[0]) || op_of(n).type == "MatMul") return;
    correct_bias(n, w, restored, out_axis, bias);
    if (bias.empty()) return;
    const int64_t channels = static_cast<int64_t>(bias.size());
    copy.inputs.resize(3);
    copy.inputs[2] = add(n.name + ".bias", Tensor::from_floats(bias, {channels}));
  }

  const Graph& in;
  const std::map<ValueId, Histogram>& histograms_;
  const RewriteOptions& o;
  Graph out;
  Uses uses_;
  const FloatMaps floats_;
  std::map<ValueId, ValueId> pairs_;
};

}  // namespace

std::vector<ValueId> activations_to_observe(const Graph& graph) {
  std::set<ValueId> list;
  for (const Node& n : graph.nodes) {
    if (!reads_codes(role_of(graph, n))) continue;
    for (ValueId v : n.inputs) {
      if (v != kNoValue && !graph.value(v).constant) list.insert(v);
    }
    if (has_weights(graph, n) && std::count(graph.outputs.begin(), graph.outputs.end(), n.outputs[0])) list.insert(n.outputs[0]);
  }
  return {list.begin(), list.end()};
}

std::vector<std::string> quantisable_nodes(const Graph& graph, const std::string& weights) {
  std::vector<std::string> names;
  for (const Node& n : graph.nodes) {
    const Role role = role_of(graph, n);
    if (role == Role::kWeighted || (role == Role::kProduct && weights != "int4")) names.push_back(n.name);
  }
  return names;
}

Graph insert_qdq(Graph graph, std::map<ValueId, Histogram> histograms, const RewriteOptions& options) {
  if (options.weights != "int4") join_biases(graph, histograms);
  return Rewriter(graph, histograms, options).run();
}

int equalise(Graph& graph) {
  const Uses uses(graph);
  int pairs = 0;
  for (Node& first : graph.nodes) {
    if (op_of(first).type != "Conv" || !has_weights(graph, first)) continue;
    ValueId v = first.outputs[0];
    auto only_reader = [&](ValueId x) -> int { return uses.readers[static_cast<size_t>(x)].size() == 1 && !uses.is_output[static_cast<size_t>(x)] ? uses.readers[static_cast<size_t>(x)][0] : -1; };
    int next = only_reader(v);
    if (next >= 0 && op_of(graph.nodes[static_cast<size_t>(next)]).type == "Relu") next = only_reader(graph.nodes[static_cast<size_t>(next)].outputs[0]);
    if (next < 0) continue;
    Node& second = graph.nodes[static_cast<size_t>(next)];
    if (op_of(second).type != "Conv" || !has_weights(graph, second)) continue;
    const TensorPtr w1 = constant(graph, first, 1), w2 = constant(graph, second, 1), b1 = constant(graph, first, 2);
    const int64_t channels = w1->shape[0], groups = op_of(second).integer("group", 1), per_group = w2->shape[1], each1 = w1->count() / channels, taps2 = w2->count() / (w2->shape[0] * per_group), outs = w2->shape[0] / groups;
    if (per_group * groups != channels || (first.inputs.size() > 2 && !b1)) continue;
    auto channel2 = [&](int64_t i) { return i / (per_group * taps2) / outs * per_group + i / taps2 % per_group; };
    std::vector<double> r1(static_cast<size_t>(channels), 0), r2 = r1;
    for (int64_t i = 0; i < w1->count(); ++i) r1[static_cast<size_t>(i / each1)] = std::max(r1[static_cast<size_t>(i / each1)], std::fabs(w1->at(i)));
    for (int64_t i = 0; i < w2->count(); ++i) r2[static_cast<size_t>(channel2(i))] = std::max(r2[static_cast<size_t>(channel2(i))], std::fabs(w2->at(i)));
    std::vector<double> s(static_cast<size_t>(channels), 1);
    for (size_t c = 0; c < s.size(); ++c) s[c] = r1[c] > 0 && r2[c] > 0 ? std::clamp(std::sqrt(r1[c] / r2[c]), 1e-2, 1e2) : 1;
    auto n1 = std::make_shared<Tensor>(*w1), n2 = std::make_shared<Tensor>(*w2);
    for (int64_t i = 0; i < w1->count(); ++i) n1->set(i, w1->at(i) / s[static_cast<size_t>(i / each1)]);
    for (int64_t i = 0; i < w2->count(); ++i) n2->set(i, w2->at(i) * s[static_cast<size_t>(channel2(i))]);
    first.inputs[1] = graph.add_constant(first.name + ".equalised", n1), second.inputs[1] = graph.add_constant(second.name + ".equalised", n2);
    if (b1) {
      auto nb = std::make_shared<Tensor>(*b1);
      for (int64_t c = 0; c < b1->count(); ++c) nb->set(c, b1->at(c) / s[static_cast<size_t>(c)]);
      first.inputs[2] = graph.add_constant(first.name + ".equalised_bias", nb);
    }
    ++pairs;
  }
  return pairs;
}

}  // namespace systole
