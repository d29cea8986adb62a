#include "ops/reference.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"
#include "isa/micro_value.h"
#include "numerics/dot32.h"
#include "numerics/requantize.h"

namespace systole {
namespace {

/// Reads the part of an operand that one bf16 pass multiplies.
float operand_part(const Tensor& t, int64_t i, int part) {
  switch (t.type) {
    case DType::kBF16: return bf16_to_f32(t.load<uint16_t>(i));
    case DType::kF16: return f16_part(f16_to_f32(t.load<uint16_t>(i)), part);
    default: return bf16_part(t.load<float>(i), part);
  }
}

struct ContractView {
  const Contract& c;
  const Tensor &a, &b;
  const Tensor* bias;
  int64_t in_h, in_w, in_c, channels, columns, b_batches;  // channels: contracted per tap; columns: outputs per group

  /// Index into A of (image, row, column, channel), or -1 in the padding.
  int64_t a_index(int64_t n, int64_t h, int64_t w, int64_t ch) const {
    return h < 0 || h >= in_h || w < 0 || w >= in_w ? -1 : ((n * in_h + h) * in_w + w) * in_c + ch;
  }
  int64_t b_index(int64_t n, int64_t g, int64_t kh, int64_t kw, int64_t ch, int64_t o) const {
    const int64_t tap = (((b_batches == 1 ? 0 : n) * b.shape[1] + g) * c.kernel_h + kh) * c.kernel_w + kw;
    return c.b_transposed ? (tap * b.shape[4] + o) * b.shape[5] + ch : (tap * b.shape[4] + ch) * b.shape[5] + o;
  }
};

int32_t contract_int8(const ContractView& v, int64_t n, int64_t oh, int64_t ow, int64_t out_channel) {
  const int64_t g = v.c.depthwise ? 0 : out_channel / v.columns, o = v.c.depthwise ? out_channel : out_channel % v.columns;
  const int64_t first = v.c.depthwise ? out_channel / (v.columns / v.in_c) : g * v.channels;
  uint32_t acc = v.bias ? static_cast<uint32_t>(v.bias->load<int32_t>(out_channel)) : 0;
  for (int64_t kh = 0; kh < v.c.kernel_h; ++kh) {
    for (int64_t kw = 0; kw < v.c.kernel_w; ++kw) {
      for (int64_t ch = 0; ch < v.channels; ++ch) {
        const int64_t at = v.a_index(n, oh * v.c.stride_h + kh * v.c.dilation_h - v.c.pad_top, ow * v.c.stride_w + kw * v.c.dilation_w - v.c.pad_left, first + ch);
        const int64_t a = at < 0 ? 0 : v.a.int_at(at) - v.c.a_zero;
        acc += static_cast<uint32_t>(a * (v.b.int_at(v.b_index(n, g, kh, kw, ch, o)) - v.c.b_zero));
      }
    }
  }
  return static_cast<int32_t>(acc);
}

float contract_float(const ContractView& v, int64_t n, int64_t oh, int64_t ow, int64_t out_channel) {
  const int64_t g = v.c.depthwise ? 0 : out_channel / v.columns, o = v.c.depthwise ? out_channel : out_channel % v.columns;
  const int64_t first = v.c.depthwise ? out_channel / (v.columns / v.in_c) : g * v.channels;
  float acc = v.bias ? v.bias->load<float>(out_channel) : 0.0f;
  const Pass* passes = v.c.format == MacFormat::kF32 ? kPassesF32 : v.c.format == MacFormat::kF16 ? kPassesF16 : kPassesBF16;
  float a[kDotBlock], b[kDotBlock];
  for (int64_t p = 0; p < passes_of(v.c.format); ++p) {
    int fill = 0;
    std::fill(a, a + kDotBlock, 0.0f), std::fill(b, b + kDotBlock, 0.0f);
    auto step = [&](float x, float y) {
      a[fill] = x, b[fill] = y;
      if (++fill < kDotBlock) return;
      acc = dot32_block(a, b, acc);
      fill = 0;
      std::fill(a, a + kDotBlock, 0.0f), std::fill(b, b + kDotBlock, 0.0f);
    };
    for (int64_t kh = 0; kh < v.c.kernel_h; ++kh) {
      for (int64_t kw = 0; kw < v.c.kernel_w; ++kw) {
        for (int64_t ch = 0; ch < v.channels; ++ch) {
          const int64_t at = v.a_index(n, oh * v.c.stride_h + kh * v.c.dilation_h - v.c.pad_top, ow * v.c.stride_w + kw * v.c.dilation_w - v.c.pad_left, first + ch);
          step(at < 0 ? 0.0f : operand_part(v.a, at, passes[p].a_part), operand_part(v.b, v.b_index(n, g, kh, kw, ch, o), passes[p].b_part));
        }
        if (v.channels % 2) step(0.0f, 0.0f);  // each tap is padded to an even count
      }
    }
    if (fill > 0) acc = dot32_block(a, b, acc);
  }
  return acc;
}

/// B of a contract with group_rows, in the format's own type.
Tensor dequantized(const Contract& c, const Tensor& codes, const Tensor& scales, const Tensor& zeros) {
  const DType type = c.format == MacFormat::kF32 ? DType::kF32 : c.format == MacFormat::kF16 ? DType::kF16 : DType::kBF16;
  Tensor b(type, codes.shape);
  const int64_t n = codes.shape.back();
  for (int64_t i = 0; i < codes.count(); ++i) {
    const int64_t k = i / n, at = k / c.group_rows * n + i % n;
    const float v = dequantize(codes.int_at(i), zeros.int_at(at), static_cast<float>(scales.at(at)));
    if (type == DType::kF32) b.data<float>()[i] = canonical(v);
    else encode_float(type, v, b.bytes.data() + i * bytes_of(type));
  }
  return b;
}

Tensor evaluate_contract(const Contract& c, const Value& out_value, const std::vector<const Tensor*>& in) {
  Tensor out(out_value.type, out_value.shape);
  Tensor decoded;
  if (c.group_rows) decoded = dequantized(c, *in[1], *in[3], *in[4]);
  const Tensor &a = *in[0], &b = c.group_rows ? decoded : *in[1];
  const bool t = c.b_transposed;
  const ContractView v{c, a, b, in.size() > 2 ? in[2] : nullptr, a.shape[1], a.shape[2], a.shape[3], b.shape[t ? 5 : 4], b.shape[t ? 4 : 5], b.shape[0]};
  const int64_t height = out.shape[1], width = out.shape[2], channels = out.shape[3];
  parallel_for(out.count(), 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t o = i % channels, ow = i / channels % width, oh = i / channels / width % height, n = i / channels / width / height;
      if (c.format == MacFormat::kInt8) out.data<int32_t>()[i] = contract_int8(v, n, oh, ow, o);
      else out.data<float>()[i] = contract_float(v, n, oh, ow, o);
    }
  });
  return out;
}

/// Element as the streams deliver it: integers minus zero point, everything in fp32.
float stream_value(const Tensor& t, int64_t i, int64_t zero_point) {
  switch (t.type) {
    case DType::kF32: return t.load<float>(i);
    case DType::kI32: return static_cast<float>(t.load<int32_t>(i));
    case DType::kI8: case DType::kU8: case DType::kBool: case DType::kI4: case DType::kU4: case DType::kI2: case DType::kU2: case DType::kI16: case DType::kU16:
      return static_cast<float>(t.int_at(i) - zero_point);
    default: return decode_float(t.type, t.bytes.data() + i * bytes_of(t.type));
  }
}

void store_value(Tensor& t, int64_t i, float v, const Map& m) {
  switch (t.type) {
    case DType::kF32: t.data<float>()[i] = canonical(v); break;
    case DType::kI16: t.set_int(i, quantize(v, 0, -32768, 32767)); break;
    case DType::kU16: t.set_int(i, quantize(v, 0, 0, 65535)); break;
    case DType::kI8: case DType::kU8: case DType::kBool: case DType::kI4: case DType::kU4: case DType::kI2: case DType::kU2: {
      const int32_t q = quantize(v, static_cast<int32_t>(m.out_zero), static_cast<int32_t>(m.out_lo), static_cast<int32_t>(m.out_hi));
      t.bytes[static_cast<size_t>(i)] = static_cast<uint8_t>(q);
      break;
    }
    case DType::kI32: t.data<int32_t>()[i] = truncate_to_int32(v); break;
    default: encode_float(t.type, v, t.bytes.data() + i * bytes_of(t.type));
  }
}

class MapEvaluator {
 public:
  MapEvaluator(const Map& m, const std::vector<const Tensor*>& in) : m_(m), in_(in) {
    for (const Tensor* t : in) strides_.push_back(row_major_strides(t->shape));
  }

  float at(std::vector<int64_t>& index) {
    const size_t outer = static_cast<size_t>(m_.output_rank());
    if (m_.reduced == 0) {
      run(m_.pre, index, 0);
      return results_.empty() ? read(0, index) : results_.back();
    }
    std::fill(index.begin() + static_cast<long>(outer), index.end(), 0);
    OrderedSum sum;
    float extreme = m_.reduce == isa::Reduce::kMax ? -INFINITY : INFINITY;
    for (bool more = true; more;) {
      run(m_.pre, index, 0);
      const float v = results_.empty() ? read(0, index) : results_.back();
      if (m_.reduce == isa::Reduce::kSum) sum.add(v);
      else extreme = m_.reduce == isa::Reduce::kMax ? maximum(extreme, v) : minimum(extreme, v);
      more = false;
      for (size_t d = index.size(); d-- > outer;) {
        if (++index[d] < m_.extents[d]) {
          more = true;
          break;
        }
        index[d] = 0;
      }
    }
    const float reduced = m_.reduce == isa::Reduce::kSum ? sum.value() : extreme;
    run(m_.post, index, reduced);
    return results_.empty() ? reduced : results_.back();
  }

 private:
  float read(size_t k, const std::vector<int64_t>& index) const {
    int64_t at = 0;
    for (size_t d = 0; d < m_.accesses[k].index.size(); ++d) {
      int64_t i = m_.accesses[k].index[d].offset;
      for (const IndexTerm& t : m_.accesses[k].index[d].terms) i += t.coefficient * index[static_cast<size_t>(t.loop)];
      if (i < 0 || i >= in_[k]->shape[d]) return m_.fill;  // only guarded accesses get here
      at += i * strides_[k][d];
    }
    return stream_value(*in_[k], at, m_.accesses[k].zero_point);
  }
  void run(const std::vector<Operation>& list, const std::vector<int64_t>& index, float reduced) {
    results_.clear();
    for (const Operation& o : list) {
      float v[3] = {0, 0, 0};
      for (size_t k = 0; k < o.operands.size(); ++k) {
        const Operand& x = o.operands[k];
        v[k] = x.kind == Operand::Kind::kInput      ? read(static_cast<size_t>(x.index), index)
               : x.kind == Operand::Kind::kConstant ? x.constant
               : x.kind == Operand::Kind::kReduced  ? reduced
                                                    : results_[static_cast<size_t>(x.index)];
      }
      results_.push_back(isa::micro_value(o.op, v[0], v[1], v[2]));
    }
  }

  const Map& m_;
  const std::vector<const Tensor*>& in_;
  std::vector<std::vector<int64_t>> strides_;
  std::vector<float> results_;
};

Tensor evaluate_map(const Map& m, const Value& out_value, const std::vector<const Tensor*>& in) {
  Tensor out(out_value.type, out_value.shape);
  if (element_count(m.extents) == 0) return out;
  parallel_for(out.count(), 1024, [&](int64_t begin, int64_t end) {
    MapEvaluator evaluator(m, in);
    std::vector<int64_t> index(m.extents.size(), 0);
    int64_t rest = begin;
    for (size_t d = static_cast<size_t>(m.output_rank()); d-- > 0;) index[d] = rest % m.extents[d], rest /= m.extents[d];
    for (int64_t i = begin; i < end; ++i) {
      store_value(out, i, evaluator.at(index), m);
      for (size_t d = static_cast<size_t>(m.output_rank()); d-- > 0;) {
        if (++index[d] < m.extents[d]) break;
        index[d] = 0;
      }
    }
  });
  return out;
}

Tensor evaluate_move(const Move& m, const Value& out_value, const std::vector<const Tensor*>& in) {
  Tensor out(out_value.type, out_value.shape);
  const size_t size = static_cast<size_t>(bytes_of(out.type));
  for (const CopyRegion& r : m.regions) {
    const int64_t n = element_count(r.extents);
    std::vector<int64_t> index(r.extents.size(), 0);
    int64_t src = r.src_offset, dst = r.dst_offset;
    const uint8_t* from = r.input < 0 ? reinterpret_cast<const uint8_t*>(&m.fill_bits) : in[static_cast<size_t>(r.input)]->bytes.data();
    for (int64_t i = 0; i < n; ++i) {
      std::memcpy(out.bytes.data() + static_cast<size_t>(dst) * size, r.input < 0 ? from : from + static_cast<size_t>(src) * size, size);
      for (size_t d = r.extents.size(); d-- > 0;) {
        if (r.input >= 0) src += r.src_strides[d];
        dst += r.dst_strides[d];
        if (++index[d] < r.extents[d]) break;
        if (r.input >= 0) src -= r.src_strides[d] * r.extents[d];
        dst -= r.dst_strides[d] * r.extents[d];
        index[d] = 0;
      }
    }
  }
  return out;
}

}  // namespace

Tensor evaluate_node(const Graph& graph, const Node& node, const std::vector<const Tensor*>& in) {
  const Value& out = graph.value(node.outputs[0]);
  return std::visit(Overload{[&](const Contract& c) { return evaluate_contract(c, out, in); }, [&](const Map& m) { return evaluate_map(m, out, in); },
                             [&](const Move& m) { return evaluate_move(m, out, in); },
                             [&](const View& v) {
                               Tensor t(out.type, out.shape);
                               std::copy_n(in[0]->bytes.begin() + v.offset_bytes, t.bytes.size(), t.bytes.begin());
                               return t;
                             },
                             [&](const Join&) {
                               Tensor t(out.type, out.shape);
                               auto at = t.bytes.begin();
                               for (const Tensor* part : in) at = std::copy(part->bytes.begin(), part->bytes.end(), at);
                               return t;
                             },
                             [&](const OnnxOp& o) -> Tensor { broken_invariant(__FILE__, __LINE__, "primitive", o.full_name()); }},
                    node.op);
}

std::vector<Tensor> evaluate(const Graph& graph, const std::vector<Tensor>& inputs) {
  std::vector<Tensor> values(graph.values.size());
  std::vector<int> uses_left(graph.values.size(), 0);
  for (const Node& n : graph.nodes) {
    for (ValueId v : n.inputs) ++uses_left[static_cast<size_t>(v)];
  }
  for (ValueId v : graph.outputs) ++uses_left[static_cast<size_t>(v)];
  for (size_t i = 0; i < graph.inputs.size(); ++i) values[static_cast<size_t>(graph.inputs[i])] = inputs[i];
  auto tensor = [&](ValueId v) { return graph.value(v).constant ? graph.value(v).constant.get() : &values[static_cast<size_t>(v)]; };
  for (const Node& n : graph.nodes) {
    std::vector<const Tensor*> in;
    for (ValueId v : n.inputs) in.push_back(tensor(v));
    values[static_cast<size_t>(n.outputs[0])] = evaluate_node(graph, n, in);
    for (ValueId v : n.inputs) {
      if (--uses_left[static_cast<size_t>(v)] == 0) values[static_cast<size_t>(v)] = Tensor{};
    }
  }
  std::vector<Tensor> outputs;
  for (ValueId v : graph.outputs) outputs.push_back(*tensor(v));
  return outputs;
}

}  // namespace systole
