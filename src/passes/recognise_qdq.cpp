// First DequantizeLinear moves down past pools and data movement, which then handle 8-bit data, and a Q of equal
// parameters after a DQ cancels. Then DQ(x), DQ(w), [DQ(b)] -> Conv | Gemm | MatMul -> [Relu | Clip] -> Q becomes one
// integer operator, without the Q one whose exact sums are scaled to floats, and QuantizeLinear after QDQ arithmetic
// multiplies by fl(1/s). B of a MatMul may be computed at run time, as in attention.
#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "numerics/requantize.h"
#include "passes/passes.h"

namespace systole {
namespace {

class Recogniser {
 public:
  explicit Recogniser(Graph& graph) : graph_(graph), uses_(graph) {}

  void run() {
    while (lower_dequantise()) {
      prune_and_sort(graph_);
      uses_ = Uses(graph_);
    }
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      if (!is(static_cast<int>(n), "QuantizeLinear")) continue;
      Node& q = graph_.nodes[n];
      if (!per_tensor(q)) continue;
      if (contraction(q) || cancelled(q)) continue;
      drop_relu(q);
      mark_reciprocal(q);
    }
    constexpr int64_t kMostTerms = (int64_t{1} << 31) / (255 * 255);  // sums of more could overflow: they stay floats
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      const auto product = integer_product(static_cast<int>(n));
      if (product && product->terms <= kMostTerms) become(node(static_cast<int>(n)), static_cast<int>(n), *product, {});
    }
    prune_and_sort(graph_);
  }

 private:
  bool is(int node, const char* type) const {
    if (node < 0) return false;
    const auto& op = std::get<OnnxOp>(graph_.nodes[static_cast<size_t>(node)].op);
    return op.type == type && op.domain.empty();
  }
  int producer(ValueId v) const { return v == kNoValue || v >= static_cast<ValueId>(uses_.producer.size()) ? -1 : uses_.producer[static_cast<size_t>(v)]; }
  bool single_use(ValueId v) const { return uses_.readers[static_cast<size_t>(v)].size() == 1 && !uses_.is_output[static_cast<size_t>(v)]; }
  TensorPtr constant(const Node& n, size_t k) const { return k < n.inputs.size() && n.inputs[k] != kNoValue ? graph_.value(n.inputs[k]).constant : nullptr; }
  Node& node(int n) { return graph_.nodes[static_cast<size_t>(n)]; }

  /// Scale and zero point of a Q or DQ node are constant, and the type is 8 bits.
  bool quantised(const Node& n, bool one_scale) const {
    const TensorPtr scale = constant(n, 1), zero = constant(n, 2);
    return scale && (!one_scale || scale->count() == 1) && (n.inputs.size() < 3 || (zero && (is_int8(zero->type) || zero->type == DType::kI32)));
  }
  bool per_tensor(const Node& n) const { return quantised(n, true); }
  bool same_parameters(const Node& a, const Node& b) const {
    const TensorPtr za = constant(a, 2), zb = constant(b, 2);
    const bool zeros = za && zb ? za->type == zb->type && za->int_at(0) == zb->int_at(0) : !za && !zb;
    return zeros && constant(a, 1)->at(0) == constant(b, 1)->at(0);
  }

  /// The DequantizeLinear that produces input k, or null.
  const Node* dequantised(const Node& n, size_t k, bool one_scale) const {
    if (k >= n.inputs.size()) return nullptr;
    const int p = producer(n.inputs[k]);
    if (!is(p, "DequantizeLinear")) return nullptr;
    const Node& dq = graph_.nodes[static_cast<size_t>(p)];
    return quantised(dq, one_scale) ? &dq : nullptr;
  }

  static float value_at(const Tensor& t) { return static_cast<float>(t.at(0)); }

  bool contraction(Node& q) {
    int at = producer(q.inputs[0]);
    if (at < 0 || !single_use(q.inputs[0])) return false;
    const float scale = value_at(*constant(q, 1));
    const TensorPtr zero = constant(q, 2);
    const DType type = zero ? zero->type : DType::kU8;
    const int64_t zp = zero ? zero->int_at(0) : 0;
    int64_t lo = type == DType::kI8 ? -128 : 0, hi = type == DType::kI8 ? 127 : 255;
    auto tighten = [&](float low, float high) {
      if (low != -INFINITY) lo = std::max<int64_t>(lo, quantize(low / scale, static_cast<int32_t>(zp), static_cast<int32_t>(lo), static_cast<int32_t>(hi)));
      if (high != INFINITY) hi = std::min<int64_t>(hi, quantize(high / scale, static_cast<int32_t>(zp), static_cast<int32_t>(lo), static_cast<int32_t>(hi)));
    };
    if (is(at, "Relu") || is(at, "Clip")) {
      const Node& act = node(at);
      const auto& op = std::get<OnnxOp>(act.op);
      if (op.type == "Relu") {
        tighten(0, INFINITY);
      } else {
        for (size_t k = 1; k < act.inputs.size(); ++k) {
          if (act.inputs[k] != kNoValue && !constant(act, k)) return false;
        }
        tighten(constant(act, 1) ? value_at(*constant(act, 1)) : op.real("min", -INFINITY), constant(act, 2) ? value_at(*constant(act, 2)) : op.real("max", INFINITY));
      }
      const ValueId x = act.inputs[0];
      at = producer(x);
      if (at < 0 || !single_use(x)) return false;
    }
    const auto product = integer_product(at);
    if (!product) return false;
    become(q, at, *product, {scale_value(scale, node(at).name), zero_value(type, zp, node(at).name)}, lo, hi);
    return true;
  }

  /// What a Conv, Gemm or MatMul of dequantised tensors multiplies: x and w with scales and zero points, and the bias in units of their product.
  struct IntegerProduct {
    std::vector<ValueId> operands;
    ValueId bias = kNoValue;
    int64_t terms = 0;  ///< of a sum, where the weights are constant
  };
  std::optional<IntegerProduct> integer_product(int at) {
    const bool conv = is(at, "Conv"), gemm = is(at, "Gemm"), matmul = is(at, "MatMul");
    if (!conv && !gemm && !matmul) return {};
    const Node core = node(at);
    const Node *x = dequantised(core, 0, true), *w = dequantised(core, 1, false);
    if (!x || !w || !of_8_bits(*x) || !of_8_bits(*w) || !one_zero(*w)) return {};
    const auto& op = std::get<OnnxOp>(core.op);
    const TensorPtr weights = constant(*w, 0);
    if (gemm && (op.real("alpha", 1) != 1 || op.real("beta", 1) != 1)) return {};
    if (!weights) {
      if (!matmul || constant(*w, 1)->count() != 1) return {};
      return IntegerProduct{{x->inputs[0], x->inputs[1], zero_of(*x), w->inputs[0], w->inputs[1], zero_of(*w)}};
    }
    const bool turned = conv || (gemm && op.integer("transB", 0));
    const size_t rank = weights->shape.size();
    if (rank < 2 || rank > 4 || (!conv && rank != 2) || !scale_runs_along_output(*w, turned)) return {};
    IntegerProduct p{{x->inputs[0], x->inputs[1], zero_of(*x), w->inputs[0], w->inputs[1], zero_of(*w)}};
    const int64_t outputs = turned ? weights->shape[0] : weights->shape.back();
    p.terms = outputs ? weights->count() / outputs : 0;
    if (core.inputs.size() > 2 && core.inputs[2] != kNoValue) {
      p.bias = integer_bias(core, *x, *w);
      if (p.bias == kNoValue || graph_.value(p.bias).constant->count() != outputs || !fits(*weights, constant(*w, 2), turned, *graph_.value(p.bias).constant)) return {};
    }
    return p;
  }

  /// Channels may have scales of their own, not zero points.
  bool one_zero(const Node& dq) const {
    const TensorPtr zero = constant(dq, 2);
    for (int64_t i = 1; zero && i < zero->count(); ++i) {
      if (zero->int_at(i) != zero->int_at(0)) return false;
    }
    return true;
  }
  /// Whether the accumulator holds the sums of channels with large biases: those of channels without weights may be as large as int32 goes.
  static bool fits(const Tensor& weights, const TensorPtr& zero, bool outputs_first, const Tensor& bias) {
    const int64_t outputs = bias.count(), terms = weights.count() / outputs, z = zero && zero->count() ? zero->int_at(0) : 0;
    for (int64_t c = 0; c < outputs; ++c) {
      const int64_t room = (int64_t{1} << 31) - std::abs(bias.int_at(c));
      if (room > int64_t{1} << 30) continue;
      int64_t sum = 0;
      for (int64_t k = 0; k < terms; ++k) sum += std::abs(weights.int_at(outputs_first ? c * terms + k : k * outputs + c) - z);
      if (255 * sum >= room) return false;
    }
    return true;
  }

  /// An absent zero point is 0 in the type of the codes.
  DType code_type(const Node& dq) const {
    const int quantiser = producer(dq.inputs[0]);
    const TensorPtr zero = constant(dq, 2), codes = constant(dq, 0), known = is(quantiser, "QuantizeLinear") ? constant(graph_.nodes[static_cast<size_t>(quantiser)], 2) : nullptr;
    const bool given = std::find(graph_.inputs.begin(), graph_.inputs.end(), dq.inputs[0]) != graph_.inputs.end();
    return zero ? zero->type : codes ? codes->type : known ? known->type : given ? graph_.value(dq.inputs[0]).type : DType::kU8;
  }
  bool of_8_bits(const Node& dq) const { return is_int8(code_type(dq)); }
  ValueId zero_of(const Node& dq) { return dq.inputs.size() > 2 && dq.inputs[2] != kNoValue ? dq.inputs[2] : zero_value(code_type(dq), 0, dq.name); }

  /// `n` computes the product, quantised by `to` (scale and zero point) and clamped, or as floats where that is empty.
  void become(Node& n, int product_node, const IntegerProduct& p, const std::vector<ValueId>& to, int64_t lo = 0, int64_t hi = 0) {
    const Node core = node(product_node);
    const auto& op = std::get<OnnxOp>(core.op);
    const bool conv = op.type == "Conv", matmul = op.type == "MatMul";
    OnnxOp fused{matmul && !to.empty() ? "" : "systole", conv ? "QLinearConv" : matmul ? "QLinearMatMul" : "QLinearGemm", op.opset, op.attributes};
    if (!to.empty()) fused.attributes["clamp_lo"] = lo, fused.attributes["clamp_hi"] = hi;
    n.inputs = p.operands;
    if (!conv && !matmul && (p.bias != kNoValue || !to.empty())) n.inputs.push_back(p.bias);
    n.inputs.insert(n.inputs.end(), to.begin(), to.end());
    if (conv && p.bias != kNoValue) n.inputs.resize(8, kNoValue), n.inputs.push_back(p.bias);
    n.op = fused;
    n.name = core.name;
  }

  /// Weight scales are one, or one per output channel.
  bool scale_runs_along_output(const Node& w, bool outputs_first) const {
    const TensorPtr scale = constant(w, 1), weights = constant(w, 0);
    if (scale->count() == 1) return true;
    int64_t axis = std::get<OnnxOp>(w.op).integer("axis", 1);
    if (axis < 0) axis += static_cast<int64_t>(weights->shape.size());
    const int64_t output = outputs_first ? 0 : static_cast<int64_t>(weights->shape.size()) - 1;
    return axis == output && scale->count() == weights->shape[static_cast<size_t>(output)];
  }

  /// The bias in units of sx sw[c]: as stored when its DQ has just that scale, else rounded from its float value.
  ValueId integer_bias(const Node& core, const Node& x, const Node& w) {
    TensorPtr values = constant(core, 2);
    const TensorPtr sw = constant(w, 1);
    const float sx = value_at(*constant(x, 1));
    std::vector<float> floats;
    if (const Node* dq = dequantised(core, 2, false)) {
      const TensorPtr b = constant(*dq, 0), sb = constant(*dq, 1);
      if (!b) return kNoValue;
      bool same = b->type == DType::kI32 && (sb->count() == sw->count() || sb->count() == 1);
      for (int64_t c = 0; same && c < sb->count(); ++c) {
        const float expected = sx * static_cast<float>(sw->at(sw->count() == 1 ? 0 : c));
        same = std::fabs(static_cast<float>(sb->at(c)) - expected) <= 1e-5f * expected;
      }
      if (same) return dq->inputs[0];
      for (int64_t c = 0; c < b->count(); ++c) floats.push_back(static_cast<float>(b->int_at(c)) * static_cast<float>(sb->at(sb->count() == 1 ? 0 : c)));
    } else if (values) {
      floats = values->to_floats();
    } else {
      return kNoValue;
    }
    auto t = std::make_shared<Tensor>(DType::kI32, Shape{static_cast<int64_t>(floats.size())});
    for (size_t c = 0; c < floats.size(); ++c) {
      t->set_int(static_cast<int64_t>(c), round_to_int32(floats[c] / (sx * static_cast<float>(sw->at(sw->count() == 1 ? 0 : static_cast<int64_t>(c))))));
    }
    return graph_.add_constant(core.name + ".bias", t);
  }
  ValueId scale_value(float scale, const std::string& name) { return graph_.add_constant(name + ".scale", std::make_shared<Tensor>(Tensor::scalar_f32(scale))); }
  ValueId zero_value(DType type, int64_t zp, const std::string& name) {
    auto t = std::make_shared<Tensor>(type, Shape{});
    t->set_int(0, zp);
    return graph_.add_constant(name + ".zero", t);
  }

  /// DQ -> op, op only moving or selecting elements, becomes op -> DQ. True when any did.
  bool lower_dequantise() {
    static const std::set<std::string> kMoving = {"MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "DepthToSpace", "SpaceToDepth", "GlobalMaxPool"};
    bool changed = false;
    const size_t count = graph_.nodes.size();
    for (size_t n = 0; n < count; ++n) {
      const auto& op = std::get<OnnxOp>(graph_.nodes[n].op);
      if (!op.domain.empty() || !kMoving.count(op.type) || graph_.nodes[n].outputs.size() != 1) continue;
      const Node* dq = dequantised(graph_.nodes[n], 0, true);
      if (!dq || constant(*dq, 0)) continue;
      Node below = *dq;
      Node& moving = graph_.nodes[n];
      moving.inputs[0] = below.inputs[0];
      below.name = moving.name + ".dequantised";
      below.outputs = {moving.outputs[0]};
      graph_.values.push_back({moving.name + ".quantised", DType::kU8, {}, false, nullptr});
      moving.outputs[0] = static_cast<ValueId>(graph_.values.size() - 1);
      below.inputs[0] = moving.outputs[0];
      graph_.nodes.push_back(std::move(below));
      changed = true;
    }
    return changed;
  }

  /// DQ -> Q with equal parameters is the quantised tensor itself.
  bool cancelled(Node& q) {
    const int at = producer(q.inputs[0]);
    if (!is(at, "DequantizeLinear") || !quantised(node(at), true) || !same_parameters(node(at), q) || constant(node(at), 0)) return false;
    q.op = OnnxOp{"", "Identity", 13, {}};
    q.inputs = {node(at).inputs[0]};
    return true;
  }

  /// A Relu between QDQ arithmetic and a Q whose zero point is its least value changes nothing: the clamp does it.
  void drop_relu(Node& q) {
    const int at = producer(q.inputs[0]);
    const TensorPtr zero = constant(q, 2);
    const int64_t lowest = zero && zero->type == DType::kI8 ? -128 : 0;
    if (!is(at, "Relu") || !single_use(q.inputs[0]) || (zero ? zero->int_at(0) : 0) != lowest) return;
    const int before = producer(node(at).inputs[0]);
    if (before < 0 || !single_use(node(at).inputs[0]) || !arithmetic_on_dq(before)) return;
    q.inputs[0] = node(at).inputs[0];
  }

  bool arithmetic_on_dq(int at) {
    static const std::set<std::string> kArithmetic = {"Add", "Sub", "Mul", "Concat", "Relu", "LeakyRelu"};
    const Node& n = node(at);
    const auto& op = std::get<OnnxOp>(n.op);
    return op.domain.empty() && kArithmetic.count(op.type) && std::all_of(n.inputs.begin(), n.inputs.end(), [&](ValueId v) { return is(producer(v), "DequantizeLinear"); });
  }

  void mark_reciprocal(Node& q) {
    const int at = producer(q.inputs[0]);
    if (at >= 0 && arithmetic_on_dq(at)) std::get<OnnxOp>(q.op).attributes["by_reciprocal"] = int64_t{1};
  }

  Graph& graph_;
  Uses uses_;
};

}  // namespace

void recognise_qdq(Graph& graph) { Recogniser(graph).run(); }

}  // namespace systole
