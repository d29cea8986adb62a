// systole.MaxPoolGradient(x, y, dy) with MaxPool's attributes: dx. It stands in training graphs: each place within a stride has windows of
// its own that reach it, and is one map over them. Large batches go in groups of images, whose smaller tensors stay in a scratchpad.
#include <algorithm>
#include <cmath>

#include "ops/chunk.h"
#include "ops/operator.h"
#include "ops/window.h"

namespace systole {
namespace {

/// One dimension of the input positions at `place` behind multiples of the stride, `count` of them: position t is reached by the windows
/// t + first ... t + first + windows - 1.
struct Places {
  int64_t place, count, first, windows;
  Places(const Window& w, size_t d, int64_t at) : place(at), count((w.in[d] - at + w.stride[d] - 1) / w.stride[d]) {
    const int64_t tap = (at + w.pad_begin[d]) % w.stride[d];  // of the last window that reaches it
    windows = std::max<int64_t>(0, (w.kernel[d] - tap + w.stride[d] - 1) / w.stride[d]);
    first = (at + w.pad_begin[d]) / w.stride[d] - (windows - 1);
  }
};

/// Windows that positions of the input name before the first and behind the last one there is.
struct Margin {
  int64_t before = 0, behind = 0;
  Margin(const Window& w, size_t d) {
    for (int64_t at = 0; at < std::min(w.stride[d], w.in[d]); ++at) {
      const Places p(w, d, at);
      if (p.windows) before = std::max(before, -p.first), behind = std::max(behind, p.count - 1 + p.first + p.windows - w.out[d]);
    }
  }
};

/// [N, OH, OW, C] with zeros around it.
ValueId with_margins(Lowering& l, const Node& node, ValueId v, const Margin (&m)[2]) {
  const Value from = l.out.value(v);
  const Shape to = {from.shape[0], m[0].before + from.shape[1] + m[0].behind, m[1].before + from.shape[2] + m[1].behind, from.shape[3]};
  if (to == from.shape) return v;
  const auto strides = row_major_strides(to);
  const CopyRegion zeros{-1, to, 0, 0, std::vector<int64_t>(4, 0), strides};
  const CopyRegion inside{0, from.shape, 0, m[0].before * strides[1] + m[1].before * strides[2], row_major_strides(from.shape), strides};
  return l.emit(node.name + ".margins", Move{{zeros, inside}, 0}, {v}, from.type, to);
}

/// dy over the number of maxima in the window: equal ones share it.
ValueId shares(Lowering& l, const Node& node, const Window& w, ValueId x, ValueId y, ValueId dy) {
  const Shape s = l.out.value(y).shape;
  MapBuilder m(l, node.name + ".share", {s[0], s[1], s[2], s[3], w.kernel[0], w.kernel[1]});
  m.map.fill = -INFINITY;
  const Access window{{{0, {{0, 1}}}, {-w.pad_begin[0], {{1, w.stride[0]}, {4, 1}}}, {-w.pad_begin[1], {{2, w.stride[1]}, {5, 1}}}, {0, {{3, 1}}}}, true, 0};
  m.op(isa::Micro::kEqual, {m.input(x, window), m.input(y, direct_access(4))});
  const Operand count = m.reduce(isa::Reduce::kSum, 2);
  m.op(isa::Micro::kDivide, {m.input(dy, direct_access(4)), count});
  return m.finish(l.policy.store);
}

/// x as its places read it: [N, H / stride, stride, W / stride, stride, C] where strides divide its extents, so that a place reads its own pixels and not
/// the rows between them.
struct Pixels {
  ValueId value;
  bool by_places;
  Pixels(Lowering& l, const Node& node, const Window& w, ValueId x) : value(x), by_places(w.in[0] % w.stride[0] == 0 && w.in[1] % w.stride[1] == 0 && w.stride[0] * w.stride[1] > 1) {
    const Value from = l.out.value(x);
    if (by_places) value = l.emit(node.name + ".places", View{}, {x}, from.type, {from.shape[0], w.in[0] / w.stride[0], w.stride[0], w.in[1] / w.stride[1], w.stride[1], from.shape[3]});
  }
  Access at(const Window& w, int64_t h, int64_t v) const {
    if (by_places) return {{{0, {{0, 1}}}, {0, {{1, 1}}}, {h, {}}, {0, {{2, 1}}}, {v, {}}, {0, {{3, 1}}}}, false, 0};
    return {{{0, {{0, 1}}}, {h, {{1, w.stride[0]}}}, {v, {{2, w.stride[1]}}}, {0, {{3, 1}}}}, false, 0};
  }
};

/// Images [first, first + count) of a tensor.
struct Images {
  int64_t first, count;
  ValueId of(Lowering& l, const Node& node, ValueId v) const {
    const Value from = l.out.value(v);
    Shape shape = from.shape;
    if (count == shape[0]) return v;
    shape[0] = count;
    return l.emit(node.name + ".images", View{first * element_count(from.shape) / from.shape[0] * bytes_of(from.type)}, {v}, from.type, shape);
  }
};

/// Adds the gradient's places of some images, and where they go in the whole, to `together` and `parts`.
void add_places(Lowering& l, const Node& node, const Window& w, const Images& images, ValueId whole_x, ValueId whole_y, ValueId whole_dy, Move& together, std::vector<ValueId>& parts) {
  const ValueId x = images.of(l, node, whole_x), y = images.of(l, node, whole_y), dy = images.of(l, node, whole_dy);
  const Shape s = l.out.value(x).shape;
  const Margin margins[2] = {Margin(w, 0), Margin(w, 1)};
  const ValueId most = with_margins(l, node, y, margins), share = with_margins(l, node, shares(l, node, w, x, y, dy), margins);
  const Pixels pixels(l, node, w, x);
  const auto strides = row_major_strides(s);
  for (int64_t h = 0; h < std::min(w.stride[0], w.in[0]); ++h) {
    for (int64_t v = 0; v < std::min(w.stride[1], w.in[1]); ++v) {
      const Places a(w, 0, h), b(w, 1, v);
      CopyRegion region{-1, {s[0], a.count, b.count, s[3]}, 0, images.first * strides[0] + h * strides[1] + v * strides[2], {0, 0, 0, 0}, {strides[0], w.stride[0] * strides[1], w.stride[1] * strides[2], 1}};
      if (a.windows && b.windows) {
        MapBuilder m(l, node.name + "." + std::to_string(h) + "." + std::to_string(v), {s[0], a.count, b.count, s[3], a.windows, b.windows});
        const Access window{{{0, {{0, 1}}}, {a.first + margins[0].before, {{1, 1}, {4, 1}}}, {b.first + margins[1].before, {{2, 1}, {5, 1}}}, {0, {{3, 1}}}}, false, 0};
        m.op(isa::Micro::kMul, {m.op(isa::Micro::kEqual, {m.input(pixels.value, pixels.at(w, h, v)), m.input(most, window)}), m.input(share, window)});
        m.reduce(isa::Reduce::kSum, 2);
        region.input = static_cast<int>(parts.size()), region.src_strides = row_major_strides(region.extents);
        parts.push_back(m.finish(l.policy.store));
      }
      together.regions.push_back(std::move(region));
    }
  }
}

void lower_max_pool_gradient(Lowering& l, const Node& node) {
  const auto& op = std::get<OnnxOp>(node.op);
  const Shape logical = l.shape(node.inputs[0]);
  const Window w = read_window(node, op, logical, op.integers("kernel_shape"), op.integer("ceil_mode", 0) != 0);
  if (w.dilation[0] != 1 || w.dilation[1] != 1) Lowering::unsupported(node, "dilations");
  const DType type = l.policy.store;
  const ValueId x = image_form_as(l, node.inputs[0], type), y = image_form_as(l, node.inputs[1], type), dy = image_form_as(l, node.inputs[2], type);
  const Shape s = l.out.value(x).shape, out = l.out.value(y).shape;
  if (out != Shape{s[0], w.out[0], w.out[1], s[3]} || l.out.value(dy).shape != out) Lowering::malformed(node, "y and dy of shapes " + to_string(l.shape(node.inputs[1])) + " and " + to_string(l.shape(node.inputs[2])), "the pool's output");
  const int64_t elements = element_count(s), at_once = elements <= kChunkElements ? s[0] : std::max<int64_t>(1, kChunkElements / (elements / s[0]));
  Move together;
  std::vector<ValueId> parts;
  for (int64_t n = 0; n < s[0]; n += at_once) add_places(l, node, w, {n, std::min(at_once, s[0] - n)}, x, y, dy, together, parts);
  const ValueId dx = l.emit(node.name, std::move(together), std::move(parts), type, s);
  define_image(l, node, node.outputs[0], dx, logical.size());
}

constexpr Operator kOperators[] = {{"systole", "MaxPoolGradient", lower_max_pool_gradient, "VX", 3}};

}  // namespace

std::span<const Operator> pooling_gradient_operators() { return kOperators; }

}  // namespace systole
