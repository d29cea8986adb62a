// Conv (1, 11, 22), ConvTranspose (1, 11, 22), QLinearConv (10), and systole.QLinearConv, which the recognise_qdq pass
// makes: QLinearConv with an activation clamp, or with float output when the output scale is absent.
#include <cmath>

#include "ops/operator.h"
#include "ops/quantized.h"
#include "ops/volume.h"
#include "ops/window.h"

namespace systole {
namespace {

DType operand_type(MacFormat f) {
  return f == MacFormat::kF32 ? DType::kF32 : f == MacFormat::kF16 ? DType::kF16 : f == MacFormat::kBF16 ? DType::kBF16 : DType::kI8;
}

/// ONNX weights [Co, C/G, KH, KW] to [1, G, KH, KW, C/G, Co/G], or depthwise [1, 1, KH, KW, 1, Co].
Tensor arrange_weights(const Tensor& w, int64_t groups, bool depthwise, int64_t kh, int64_t kw) {
  const int64_t co = w.shape[0], cg = w.shape[1];
  Tensor flat = w;
  flat.shape = {depthwise ? 1 : groups, depthwise ? co : co / groups, cg, kh, kw};
  Tensor t = transpose(flat, {0, 3, 4, 2, 1});
  t.shape.insert(t.shape.begin(), 1);
  return t;
}

struct Convolution {
  Window window;
  int64_t groups;
  bool depthwise;
};

Convolution read_convolution(const Node& node, const Shape& x, const Shape& w) {
  const auto& op = std::get<OnnxOp>(node.op);
  if (w.size() != x.size() || x.size() < 3) Lowering::malformed(node, "input " + to_string(x) + " and weights " + to_string(w), "equal ranks of 3 or 4");
  const std::vector<int64_t> kernel(w.begin() + 2, w.end());
  Convolution c{read_window(node, op, x, kernel, false), op.integer("group", 1), false};
  if (c.groups < 1 || w[0] % c.groups != 0 || w[1] * c.groups != x[1]) {
    Lowering::malformed(node, "group " + std::to_string(c.groups) + ", input " + to_string(x) + ", weights " + to_string(w), "channels that divide into the groups");
  }
  c.depthwise = c.groups > 1 && w[1] == 1 && w[0] / c.groups <= 255;
  return c;
}

Contract make_contract(const Convolution& c, MacFormat format) {
  Contract k;
  k.format = format;
  k.kernel_h = c.window.kernel[0], k.kernel_w = c.window.kernel[1], k.stride_h = c.window.stride[0], k.stride_w = c.window.stride[1];
  k.dilation_h = c.window.dilation[0], k.dilation_w = c.window.dilation[1], k.pad_top = c.window.pad_begin[0], k.pad_left = c.window.pad_begin[1];
  k.groups = c.depthwise ? 1 : c.groups;
  k.depthwise = c.depthwise;
  return k;
}

/// Weights [Co, C/G, KH, KW] as the contract wants them: arranged now when they are constants; otherwise in whichever form
/// they are, moved if need be, the two channel axes in either order.
ValueId weights_for(Lowering& l, const Node& node, const Convolution& c, Contract& contract) {
  const DType type = operand_type(l.policy.format);
  if (const TensorPtr w = l.constant(node.inputs[1])) return l.convert(l.add_constant(node.name + ".weight", arrange_weights(*w, c.groups, c.depthwise, c.window.kernel[0], c.window.kernel[1])), type);
  const Shape w = l.shape(node.inputs[1]);
  if (w.size() != 4 || (c.groups > 1 && !c.depthwise)) Lowering::unsupported(node, "weights computed at run time in groups, or in one dimension");
  // One address step per k: with several taps the channels must follow each other before the outputs do.
  contract.b_transposed = !c.depthwise && w[2] * w[3] == 1 && l.best(node.inputs[1]).perm == Perm{2, 3, 0, 1};
  const ValueId id = l.form_as(node.inputs[1], contract.b_transposed ? Perm{2, 3, 0, 1} : Perm{2, 3, 1, 0}, type);
  return l.emit_view(node.name + ".weight", id, {1, 1, w[2], w[3], contract.b_transposed ? w[0] : w[1], contract.b_transposed ? w[1] : w[0]});
}

void lower_conv(Lowering& l, const Node& node) {
  const Shape x = l.shape(node.inputs[0]);
  const int64_t co = l.shape(node.inputs[1])[0];
  const Convolution c = read_convolution(node, x, l.shape(node.inputs[1]));
  Contract contract = make_contract(c, l.policy.format);
  const ValueId image = image_form_as(l, node.inputs[0], operand_type(l.policy.format));
  std::vector<ValueId> in = {image, weights_for(l, node, c, contract)};
  const TensorPtr bias = Lowering::present(node, 2) ? l.constant(node.inputs[2]) : nullptr;
  if (bias) in.push_back(l.convert(l.add_constant(node.name + ".bias", *bias), DType::kF32));
  const Shape shape = {l.out.value(image).shape[0], c.window.out[0], c.window.out[1], co};
  const ValueId acc = l.emit(node.name, contract, in, DType::kF32, shape);
  MapBuilder m(l, node.name, shape);
  const Operand sum = m.input(acc, direct_access(4));
  if (Lowering::present(node, 2) && !bias) m.op(isa::Micro::kAdd, {sum, m.input(l.logical(node.inputs[2]), Access{{IndexExpr{0, {{3, 1}}}}})});
  else m.op(isa::Micro::kMove, {sum});
  define_image(l, node, node.outputs[0], m.finish(l.policy.store), x.size());
}

void lower_qlinear_conv(Lowering& l, const Node& node) {
  // inputs: x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, B
  const Shape x = l.shape(node.inputs[0]);
  const TensorPtr w = l.need_constant(node, 3, "w");
  const Convolution c = read_convolution(node, x, w->shape);
  const Quantization qx = read_quantization(l, node, 1), qw = read_quantization(l, node, 4);
  if (qw.scales.size() != 1 && static_cast<int64_t>(qw.scales.size()) != w->shape[0]) Lowering::malformed(node, std::to_string(qw.scales.size()) + " weight scales", "one, or one per output channel");
  const TensorPtr bias = Lowering::present(node, 8) ? l.need_constant(node, 8, "B") : nullptr;
  check_accumulator_range(node, *w, 0, qw.zero_point, bias.get());
  Contract k = make_contract(c, MacFormat::kInt8);
  k.a_zero = qx.zero_point, k.b_zero = qw.zero_point;
  const ValueId image = image_form(l, node.inputs[0]);
  std::vector<ValueId> in = {image, l.add_constant(node.name + ".weight", arrange_weights(*w, c.groups, c.depthwise, c.window.kernel[0], c.window.kernel[1]))};
  if (bias) in.push_back(l.add_constant(node.name + ".bias", *bias));
  const ValueId acc = l.emit(node.name, k, in, DType::kI32, {x[0], c.window.out[0], c.window.out[1], w->shape[0]});
  define_image(l, node, node.outputs[0], drain_to_output(l, node, acc, qx, qw, 6), x.size());
}

/// Sums of (w - zero) over the taps that lie inside the input, per output place and channel: [OH, OW, Co], or [Co] where
/// every place sees all taps.
Tensor tap_sums(const Tensor& w, int64_t zero, const Window& win, double* greatest) {
  const int64_t co = w.shape[0], cg = w.shape[1], taps = win.kernel[0] * win.kernel[1];
  std::vector<double> per_tap(static_cast<size_t>(co * taps), 0);
  for (int64_t o = 0; o < co; ++o) {
    double magnitude = 0;
    for (int64_t i = 0; i < cg * taps; ++i) {
      const double v = static_cast<double>(w.int_at(o * cg * taps + i) - zero);
      per_tap[static_cast<size_t>(o * taps + i % taps)] += v, magnitude += std::fabs(v);
    }
    *greatest = std::max(*greatest, 255 * magnitude);
  }
  const bool padded = win.pad_begin[0] || win.pad_begin[1] || win.pad_end[0] || win.pad_end[1];
  const int64_t rows = padded ? win.out[0] : 1, columns = padded ? win.out[1] : 1;
  Tensor sums(DType::kF32, padded ? Shape{rows, columns, co} : Shape{co});
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t t = 0; t < taps; ++t) {
        const int64_t y = r * win.stride[0] + t / win.kernel[1] * win.dilation[0] - win.pad_begin[0], x = c * win.stride[1] + t % win.kernel[1] * win.dilation[1] - win.pad_begin[1];
        if (padded && (y < 0 || y >= win.in[0] || x < 0 || x >= win.in[1])) continue;
        for (int64_t o = 0; o < co; ++o) sums.data<float>()[(r * columns + c) * co + o] += static_cast<float>(per_tap[static_cast<size_t>(o * taps + t)]);
      }
    }
  }
  return sums;
}

/// x, w, x_zero, w_zero; w constant. x's zero point may come at run time.
void lower_conv_integer(Lowering& l, const Node& node) {
  const Shape x = l.shape(node.inputs[0]);
  const TensorPtr w = l.need_constant(node, 1, "w"), wz = Lowering::present(node, 3) ? l.need_constant(node, 3, "w's zero point") : nullptr;
  const TensorPtr xz = Lowering::present(node, 2) ? l.constant(node.inputs[2]) : nullptr;
  const bool run_time = Lowering::present(node, 2) && !xz;
  if ((wz && wz->count() != 1) || (xz && xz->count() != 1) || (run_time && element_count(l.shape(node.inputs[2])) != 1)) Lowering::unsupported(node, "zero points per channel");
  const Convolution c = read_convolution(node, x, w->shape);
  const int64_t zero = wz ? wz->int_at(0) : 0;
  check_accumulator_range(node, *w, 0, zero, nullptr);
  Contract k = make_contract(c, MacFormat::kInt8);
  k.a_zero = xz ? xz->int_at(0) : 0, k.b_zero = zero;
  const ValueId image = image_form(l, node.inputs[0]);
  const ValueId acc = l.emit(node.name, k, {image, l.add_constant(node.name + ".weight", arrange_weights(*w, c.groups, c.depthwise, c.window.kernel[0], c.window.kernel[1]))}, DType::kI32, {x[0], c.window.out[0], c.window.out[1], w->shape[0]});
  double greatest = 0;
  const Tensor sums = tap_sums(*w, zero, c.window, &greatest);
  define_image(l, node, node.outputs[0], drain_integers(l, node, acc, run_time ? l.best(node.inputs[2]).id : kNoValue, sums, greatest), x.size());
}

/// Stride 1: a plain convolution with the flipped kernel. Stride s: one convolution that computes the s x s output phases
/// as s^2 times the channels, then a move that interleaves them; every phase gets the same number of taps, ceil(K / s).
void lower_conv_transpose(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const Shape x = l.shape(node.inputs[0]);
  const TensorPtr w = l.need_constant(node, 1, "W");  // [C, Co/G, KH, KW]
  const size_t dims = x.size() - 2;
  if (x.size() < 3 || x.size() > 4 || w->shape.size() != x.size()) Lowering::unsupported(node, "input " + to_string(x) + "; one and two spatial dimensions are supported");
  const int64_t groups = op.integer("group", 1), co_group = w->shape[1], co = co_group * groups;
  if (groups < 1 || w->shape[0] != x[1] || x[1] % groups != 0) Lowering::malformed(node, "weights " + to_string(w->shape), "first extent " + std::to_string(x[1]));
  auto list = [&](const char* name, int64_t otherwise, size_t count) {
    auto v = op.integers(name);
    if (v.empty()) v.assign(count, otherwise);
    if (v.size() != count) Lowering::malformed(node, std::string(name) + " has " + std::to_string(v.size()) + " values", std::to_string(count));
    return v;
  };
  const auto strides = list("strides", 1, dims), dilations = list("dilations", 1, dims), extra = list("output_padding", 0, dims);
  auto pads = list("pads", 0, 2 * dims);
  const auto asked = op.integers("output_shape");
  const std::string auto_pad = op.text("auto_pad", "NOTSET");
  int64_t in[2] = {1, 1}, k[2] = {1, 1}, s[2] = {1, 1}, pad[2] = {0, 0}, out[2] = {1, 1}, d[2] = {1, 1};
  for (size_t i = 0; i < dims; ++i) {
    const size_t to = 2 - dims + i;
    in[to] = x[2 + i], k[to] = w->shape[2 + i], s[to] = strides[i], d[to] = dilations[i];
    if (s[to] < 1 || d[to] < 1 || s[to] > 64) Lowering::malformed(node, "stride " + std::to_string(s[to]), "1 to 64");
    if (d[to] != 1 && s[to] != 1) Lowering::unsupported(node, "dilation together with stride");
    const int64_t full = (in[to] - 1) * s[to] + (k[to] - 1) * d[to] + 1 + extra[i];
    if (!asked.empty() || auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER") {
      const int64_t want = asked.empty() ? in[to] * s[to] : asked[asked.size() - dims + i];
      const int64_t total = std::max<int64_t>(0, full - want);
      pads[i] = auto_pad == "SAME_UPPER" ? total / 2 : total - total / 2;
      pads[i + dims] = total - pads[i];
    }
    pad[to] = pads[i];
    // A larger output than the products reach ends in the bias alone.
    out[to] = asked.empty() ? full - pads[i] - pads[i + dims] : asked[asked.size() - dims + i];
    if (out[to] < 1) Lowering::malformed(node, "an output extent of " + std::to_string(out[to]), "a positive one");
  }
  // Output o = i s + k d - pad. With o + pad = q s + phase: taps k = phase + j s read input i = q - j.
  const int64_t taps[2] = {(k[0] + s[0] - 1) / s[0], (k[1] + s[1] - 1) / s[1]};
  const int64_t q0[2] = {pad[0] / s[0], pad[1] / s[1]};
  const int64_t q1[2] = {(out[0] - 1 + pad[0]) / s[0] + 1, (out[1] - 1 + pad[1]) / s[1] + 1};  // one past the last q
  const int64_t phases = s[0] * s[1], ci = x[1] / groups;
  // Plain convolution weights [G, phases x Co/G] outputs, tap t reads input q - (taps - 1 - t) x dilation.
  Tensor arranged(DType::kF32, {1, groups, taps[0], taps[1], ci, phases * co_group});
  const std::vector<float> source = w->to_floats();
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t th = 0; th < taps[0]; ++th)
      for (int64_t tw = 0; tw < taps[1]; ++tw)
        for (int64_t c = 0; c < ci; ++c)
          for (int64_t ph = 0; ph < s[0]; ++ph)
            for (int64_t pw = 0; pw < s[1]; ++pw)
              for (int64_t o = 0; o < co_group; ++o) {
                const int64_t kh = ph + (taps[0] - 1 - th) * s[0], kw = pw + (taps[1] - 1 - tw) * s[1];
                const int64_t to = ((((g * taps[0] + th) * taps[1] + tw) * ci + c) * phases + ph * s[1] + pw) * co_group + o;
                const bool inside = kh < k[0] && kw < k[1];
                arranged.data<float>()[to] = inside ? source[static_cast<size_t>((((g * ci + c) * co_group + o) * k[0] + kh) * k[1] + kw)] : 0.0f;
              }
  Contract contract;
  contract.format = l.policy.format;
  contract.kernel_h = taps[0], contract.kernel_w = taps[1], contract.dilation_h = d[0], contract.dilation_w = d[1], contract.groups = groups;
  contract.pad_top = (taps[0] - 1) * d[0] - q0[0], contract.pad_left = (taps[1] - 1) * d[1] - q0[1];
  std::vector<ValueId> inputs = {image_form_as(l, node.inputs[0], operand_type(l.policy.format)), l.convert(l.add_constant(node.name + ".weight", std::move(arranged)), operand_type(l.policy.format))};
  if (Lowering::present(node, 2)) {
    const auto bias = l.need_constant(node, 2, "B")->to_floats();  // repeated for each phase: output channel (g, phase, o)
    std::vector<float> repeated;
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t p = 0; p < phases; ++p) repeated.insert(repeated.end(), bias.begin() + g * co_group, bias.begin() + (g + 1) * co_group);
    inputs.push_back(l.add_constant(node.name + ".bias", Tensor::from_floats(repeated, {static_cast<int64_t>(repeated.size())})));
  }
  const int64_t rows = q1[0] - q0[0], columns = q1[1] - q0[1];
  const Shape shape = {x[0], rows, columns, phases * co};
  const ValueId acc = l.emit(node.name, contract, inputs, DType::kF32, shape);
  MapBuilder m(l, node.name, shape);
  m.op(isa::Micro::kMove, {m.input(acc, direct_access(4))});
  ValueId image = m.finish(l.policy.store);
  if (phases > 1) {
    Move move;
    const int64_t first[2] = {pad[0] % s[0], pad[1] % s[1]};  // phase of output 0
    for (int64_t ph = 0; ph < s[0]; ++ph) {
      for (int64_t pw = 0; pw < s[1]; ++pw) {
        // outputs o = q s + phase - pad with 0 <= o < out
        const int64_t qh = ph < first[0] ? 1 : 0, qw = pw < first[1] ? 1 : 0;
        const int64_t oh = (q0[0] + qh) * s[0] + ph - pad[0], ow = (q0[1] + qw) * s[1] + pw - pad[1];
        if (oh >= out[0] || ow >= out[1]) continue;
        const int64_t nh = (out[0] - 1 - oh) / s[0] + 1, nw = (out[1] - 1 - ow) / s[1] + 1;
        const int64_t channel = phases * co;
        move.regions.push_back({0, {x[0], nh, nw, groups, co_group}, (qh * columns + qw) * channel + (ph * s[1] + pw) * co_group, (oh * out[1] + ow) * co,
                                {rows * columns * channel, columns * channel, channel, phases * co_group, 1},
                                {out[0] * out[1] * co, s[0] * out[1] * co, s[1] * co, co_group, 1}});
      }
    }
    image = l.emit(node.name + ".interleave", std::move(move), {image}, l.policy.store, {x[0], out[0], out[1], co});
  }
  define_image(l, node, node.outputs[0], image, x.size());
}

constexpr Operator kOperators[] = {
    {"", "Conv", lower_conv, "MX", 2, expand_conv_3d},
    {"", "ConvTranspose", lower_conv_transpose, "MX", 2},
    {"", "ConvInteger", lower_conv_integer, "MX", 2},
    {"", "QLinearConv", lower_qlinear_conv, "MX", 8},
    {"systole", "QLinearConv", lower_qlinear_conv, "MX", 6},
};

}  // namespace

std::span<const Operator> convolution_operators() { return kOperators; }

}  // namespace systole
