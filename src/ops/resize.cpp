// Resize (10, 11, 13, 18, 19), Upsample (7, 9): nearest is a move; linear is two interpolation steps, rows then columns,
// each a pair of gathers and one fused multiply-add per element.
#include "ops/resize.h"

#include <algorithm>
#include <cmath>

#include "host/resize.h"
#include "ops/matrices.h"
#include "ops/operator.h"
#include "ops/window.h"

namespace systole {
namespace {

/// Rows of dimension `axis` of a dense value picked by `indices`: one region per run of equal steps, zero included.
ValueId gather_axis(Lowering& l, const std::string& name, ValueId id, size_t axis, const std::vector<int64_t>& indices) {
  const Value v = l.out.value(id);
  Shape shape = v.shape;
  shape[axis] = static_cast<int64_t>(indices.size());
  const auto src = row_major_strides(v.shape), dst = row_major_strides(shape);
  Move move;
  auto add = [&](size_t first, std::vector<int64_t> counts, std::vector<int64_t> src_steps, std::vector<int64_t> dst_steps) {
    CopyRegion r{0, {}, indices[first] * src[axis], static_cast<int64_t>(first) * dst[axis], {}, {}};
    for (size_t d = 0; d < shape.size(); ++d) {
      if (d != axis) {
        r.extents.push_back(shape[d]), r.src_strides.push_back(src[d]), r.dst_strides.push_back(dst[d]);
        continue;
      }
      for (size_t k = 0; k < counts.size(); ++k) r.extents.push_back(counts[k]), r.src_strides.push_back(src_steps[k] * src[d]), r.dst_strides.push_back(dst_steps[k] * dst[d]);
    }
    move.regions.push_back(std::move(r));
  };
  // Integer upscaling by f: indices 0 x f, 1 x f, ...: one region with a repeating loop.
  const int64_t n = static_cast<int64_t>(indices.size()), f = n / v.shape[axis];
  bool integral = f >= 1 && f * v.shape[axis] == n;
  for (int64_t i = 0; i < n && integral; ++i) integral = indices[static_cast<size_t>(i)] == i / f;
  if (integral) {
    add(0, {v.shape[axis], f}, {1, 0}, {f, 1});
  } else {
    for (size_t i = 0; i < indices.size();) {
      size_t end = i + 1;
      const int64_t step = end < indices.size() ? indices[end] - indices[i] : 1;
      while (end < indices.size() && indices[end] - indices[end - 1] == step) ++end;
      add(i, {static_cast<int64_t>(end - i)}, {step}, {1});
      i = end;
    }
  }
  return l.emit(name, std::move(move), {id}, v.type, shape);
}

ValueId interpolate_axis(Lowering& l, const Node& node, ValueId id, size_t axis, const AxisSamples& a) {
  const ValueId lo = gather_axis(l, node.name + ".lo", id, axis, a.lo), hi = gather_axis(l, node.name + ".hi", id, axis, a.hi);
  const Shape shape = l.out.value(lo).shape;
  MapBuilder m(l, node.name, shape);
  const Operand x = m.input(lo, direct_access(shape.size())), y = m.input(hi, direct_access(shape.size()));
  const ValueId w = l.add_constant(node.name + ".weight", Tensor::from_floats(a.weight, {static_cast<int64_t>(a.weight.size())}));
  const Operand weight = m.input(w, Access{{{0, {{static_cast<int>(axis), 1}}}}, false, 0});
  m.op(isa::Micro::kFma, {m.op(isa::Micro::kSub, {y, x}), weight, x});
  return m.finish(l.store_type(DType::kF32));
}

void resize(Lowering& l, const Node& node, const ResizeRequest& r) {
  const ValueId v = node.inputs[0];
  const Shape in = l.shape(v), &shape = r.shape;
  if (shape == in) return l.alias(node.outputs[0], v);
  const auto best = l.best(v);
  ValueId id = best.id;
  for (size_t p = 0; p < best.perm.size(); ++p) {
    const size_t d = static_cast<size_t>(best.perm[p]);
    if (shape[d] == in[d]) continue;
    if (in[d] < 1) Lowering::malformed(node, "an empty axis", "a positive extent");
    const AxisSamples a = sample_axis(r, d, in[d]);
    id = r.mode == "nearest" ? gather_axis(l, node.name, id, p, a.lo) : interpolate_axis(l, node, id, p, a);
  }
  l.define(node.outputs[0], shape, best.perm, id);
}

void lower_resize(Lowering& l, const Node& node) {
  resize(l, node, ResizeRequest(node, l.shape(node.inputs[0]), [&](size_t k, const char* name) { return l.need_constant(node, k, name); }));
}

/// Cubic kernels, antialiasing and crops are products with one matrix per axis.
bool expand_resize(Expander& x) {
  const OnnxOp& op = x.op();
  if (op.text("mode", "nearest") != "cubic" && !op.integer("antialias", 0) && op.text("coordinate_transformation_mode", "") != "tf_crop_and_resize") return false;
  const Shape in = x.shape(0);
  const ResizeRequest r(x.node, in, [&](size_t k, const char* name) {
    const TensorPtr t = x.constant(k);
    if (!t) unsupported(x.node, std::string("input '") + name + "' is computed at run time; it must be a constant");
    return t;
  });
  if (r.mode == "nearest" && r.antialias) unsupported(x.node, "antialias with nearest");
  ValueId v = x.in(0);
  Shape shape = in;
  Tensor inside(DType::kBool, r.shape);
  std::fill(inside.bytes.begin(), inside.bytes.end(), uint8_t{1});
  bool crops = false;
  for (size_t d = 0; d < in.size(); ++d) {
    std::vector<bool> outside;
    if (r.keeps(d, in[d])) continue;
    v = multiply_axis(x, v, shape, d, axis_matrix(r, d, in[d], outside));
    shape[d] = r.shape[d];
    const int64_t inner = row_major_strides(r.shape)[d];
    for (int64_t i = 0; i < inside.count(); ++i) {
      if (outside[static_cast<size_t>(i / inner % shape[d])]) inside.set_int(i, 0), crops = true;
    }
  }
  if (crops) v = x.call("Where", {x.constant_tensor(inside), v, x.scalar(r.extrapolation)});
  x.result(0, v);
  return true;
}

constexpr Operator kOperators[] = {
    {"", "Resize", lower_resize, "DMA", 1, expand_resize},
    {"", "Upsample", lower_resize, "DMA"},
};

}  // namespace

std::vector<Tensor> resize_weights(const Node& node, const Shape& in, const std::function<TensorPtr(size_t)>& constant) {
  const ResizeRequest r(node, in, [&](size_t k, const char* name) {
    TensorPtr t = constant(k);
    if (!t) unsupported(node, std::string("input '") + name + "' is computed at run time; it must be a constant");
    return t;
  });
  if (r.is_crop()) unsupported(node, "weights of a crop");
  std::vector<Tensor> list(in.size());
  for (size_t d = 0; d < in.size(); ++d) {
    if (r.keeps(d, in[d])) continue;
    std::vector<bool> outside;
    list[d] = r.is_product() ? axis_matrix(r, d, in[d], outside) : sample_matrix(sample_axis(r, d, in[d]), in[d]);
  }
  return list;
}

std::span<const Operator> resize_operators() { return kOperators; }

}  // namespace systole
