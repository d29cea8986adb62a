// Gradients of movement and reductions.
#include <algorithm>
#include <numeric>

#include "graph/checks.h"
#include "ops/resize.h"
#include "train/gradients.h"

namespace systole {
namespace {

void reshape(GradientCall& c) { c.inputs[0] = c.b.reshape(c.dy(), c.shape(0)); }

void transpose(GradientCall& c) {
  std::vector<int64_t> perm = c.op().integers("perm"), inverse(c.shape(0).size());
  if (perm.empty()) {
    perm.resize(inverse.size());
    std::iota(perm.rbegin(), perm.rend(), 0);
  }
  for (size_t i = 0; i < perm.size(); ++i) inverse[static_cast<size_t>(perm[i])] = static_cast<int64_t>(i);
  c.inputs[0] = c.b.transpose(c.dy(), inverse);
}

void concat(GradientCall& c) {
  const int64_t axis = normalise_axis(c.node, c.op().integer("axis", 0), c.b.rank(c.dy()));
  int64_t at = 0;
  for (size_t k = 0; k < c.node.inputs.size(); ++k) {
    const int64_t n = c.shape(k)[static_cast<size_t>(axis)];
    if (c.wants(k)) c.inputs[k] = c.b.slice(c.dy(), {axis}, {at}, {at + n}, {1});
    at += n;
  }
}

void split(GradientCall& c) {
  const int64_t axis = normalise_axis(c.node, c.op().integer("axis", 0), c.b.rank(c.in(0)));
  std::vector<ValueId> parts;
  for (size_t k = 0; k < c.outputs.size(); ++k) {
    const Shape s = c.b.shape(c.node.outputs[k]);
    parts.push_back(c.outputs[k] != kNoValue ? c.outputs[k] : c.b.expand(c.b.scalar(0), s));
  }
  c.inputs[0] = c.b.concat(parts, axis);
}

/// Axis d with so many elements from each to the next, zeros between.
ValueId spread(Builder& b, ValueId v, size_t d, int64_t apart) {
  Shape s = b.shape(v), split = s;
  split.insert(split.begin() + static_cast<long>(d) + 1, 1);
  std::vector<int64_t> none(split.size(), 0), behind = none;
  behind[d + 1] = apart - 1;
  const int64_t n = s[d];
  s[d] *= apart;
  return b.slice_to(b.reshape(b.pad(b.reshape(v, split), none, behind), s), {static_cast<int64_t>(d)}, {(n - 1) * apart + 1});
}

/// Zeros around the gradient, and between its elements where steps left some out; backwards for negative steps.
void slice(GradientCall& c) {
  Builder& b = c.b;
  const Shape x = c.shape(0), y = b.shape(c.dy());
  const TensorPtr starts = c.constant(1), ends = c.constant(2), axes = c.constant(3), steps = c.constant(4);
  if (!starts || !ends || (c.in(3) != kNoValue && !axes) || (c.in(4) != kNoValue && !steps)) unsupported(c.node, "the gradient of a slice whose bounds come at run time");
  std::vector<int64_t> begin(x.size(), 0), end(x.size(), 0);
  ValueId v = c.dy();
  for (int64_t i = 0; i < starts->count(); ++i) {
    const size_t d = static_cast<size_t>(normalise_axis(c.node, axes ? axes->int_at(i) : i, static_cast<int64_t>(x.size())));
    const int64_t step = steps ? steps->int_at(i) : 1, from = starts->int_at(i) < 0 ? starts->int_at(i) + x[d] : starts->int_at(i);
    begin[d] = step > 0 ? std::clamp<int64_t>(from, 0, x[d]) : std::clamp<int64_t>(from, -1, x[d] - 1);
    const int64_t apart = std::abs(step), span = (y[d] - 1) * apart + 1;
    if (step < 0) v = b.slice(v, {static_cast<int64_t>(d)}, {y[d] - 1}, {-1}, {-1}), begin[d] -= span - 1;
    if (apart > 1) v = spread(b, v, d, apart);
    end[d] = x[d] - begin[d] - span;
  }
  c.inputs[0] = b.pad(v, begin, end);
}

/// dy with each axis multiplied by its weights [extent of x, extent of y], the way back; empty weights leave an axis alone.
ValueId gathered_back(GradientCall& c, const std::vector<Tensor>& weights) {
  Shape shape = c.b.shape(c.out());
  ValueId v = c.dy();
  for (size_t d = shape.size(); d-- > 0;) {
    if (weights[d].bytes.empty()) continue;
    const int64_t outer = element_count({shape.begin(), shape.begin() + static_cast<long>(d)}), inner = element_count({shape.begin() + static_cast<long>(d) + 1, shape.end()});
    v = inner == 1 ? c.b.matmul(c.b.reshape(v, {outer, shape[d]}), c.b.tensor(transpose(weights[d], {1, 0}))) : c.b.matmul(c.b.tensor(weights[d]), c.b.reshape(v, {outer, shape[d], inner}));
    shape[d] = weights[d].shape[0];
    v = c.b.reshape(v, shape);
  }
  return v;
}

/// Whether an axis repeats each element a whole number of times, in place.
bool repeats(const Tensor& weights) {
  const int64_t in = weights.shape[0], out = weights.shape[1];
  if (out % in != 0) return false;
  for (int64_t i = 0; i < in * out; ++i) {
    if (weights.load<float>(i) != (i / out == i % out / (out / in) ? 1.0f : 0.0f)) return false;
  }
  return true;
}

/// The sum over what an element became.
void resize(GradientCall& c) {
  const Shape x = c.shape(0), y = c.b.shape(c.out());
  const std::vector<Tensor> weights = resize_weights(c.node, x, [&](size_t k) { return c.constant(k); });
  if (!std::all_of(weights.begin(), weights.end(), [](const Tensor& w) { return w.bytes.empty() || repeats(w); })) {
    c.inputs[0] = gathered_back(c, weights);
    return;
  }
  Shape split;
  std::vector<int64_t> axes;
  for (size_t d = 0; d < x.size(); ++d) {
    split.push_back(x[d]), split.push_back(y[d] / x[d]);
    axes.push_back(static_cast<int64_t>(2 * d + 1));
  }
  c.inputs[0] = c.b.reshape(c.b.sum(c.b.reshape(c.dy(), split), axes, false), x);
}

/// Which element of an axis of n a padded one is, -1: none (Pad 19: constant, reflect, edge, wrap).
int64_t source_of(const std::string& mode, int64_t i, int64_t n) {
  if (i >= 0 && i < n) return i;
  if (mode == "edge") return std::clamp<int64_t>(i, 0, n - 1);
  if (mode == "wrap") return (i % n + n) % n;
  if (mode != "reflect") return -1;
  const int64_t period = std::max<int64_t>(1, 2 * (n - 1)), at = (i % period + period) % period;
  return std::min(at, period - at);
}

/// The part inside; with other modes, and what they put around it.
void pad(GradientCall& c) {
  const auto written = c.op().has("pads") ? c.op().integers("pads") : c.op().integers("paddings");  // before opset 11
  const TensorPtr pads = c.op().has("pads") || c.op().has("paddings") ? std::make_shared<const Tensor>(Tensor::from_ints(written, {static_cast<int64_t>(written.size())})) : c.constant(1);
  const std::string mode = c.op().text("mode", "constant");
  if (!pads || (c.in(3) != kNoValue && !c.constant(3))) unsupported(c.node, "the gradient of a pad by what only a run knows");
  const Shape x = c.shape(0), y = c.b.shape(c.out());
  std::vector<int64_t> axes(x.size()), begin(x.size(), 0);
  std::iota(axes.begin(), axes.end(), 0);
  if (c.in(3) != kNoValue) axes = c.constant(3)->to_ints();
  for (size_t i = 0; i < axes.size(); ++i) begin[static_cast<size_t>(normalise_axis(c.node, axes[i], x.size()))] = pads->int_at(static_cast<int64_t>(i));
  bool inside = mode == "constant";
  std::vector<int64_t> all(x.size()), ends;
  std::iota(all.begin(), all.end(), 0);
  for (size_t d = 0; d < x.size(); ++d) ends.push_back(begin[d] + x[d]), inside = inside && begin[d] >= 0 && ends[d] <= y[d];
  if (inside) {
    c.inputs[0] = c.b.slice(c.dy(), all, begin, ends, std::vector<int64_t>(x.size(), 1));
    if (c.in(2) != kNoValue && c.wants(2)) c.inputs[2] = c.b.reshape(c.b.sub(c.b.sum(c.dy(), all, false), c.b.sum(c.inputs[0], all, false)), c.shape(2));
    return;
  }
  if (c.in(2) != kNoValue && c.wants(2)) unsupported(c.node, "the gradient of a value that is put around a part");
  std::vector<Tensor> weights(x.size());
  for (size_t d = 0; d < x.size(); ++d) {
    if (begin[d] == 0 && x[d] == y[d]) continue;
    weights[d] = Tensor(DType::kF32, {x[d], y[d]});
    for (int64_t o = 0; o < y[d]; ++o) {
      if (const int64_t i = source_of(mode, o - begin[d], x[d]); i >= 0) weights[d].set(i * y[d] + o, 1);
    }
  }
  c.inputs[0] = gathered_back(c, weights);
}

/// The sum over the copies (Tile 1, 6, 13).
void tile(GradientCall& c) {
  const Shape x = c.shape(0), y = c.b.shape(c.out());
  Shape split;
  std::vector<int64_t> copies;
  for (size_t d = 0; d < x.size(); ++d) copies.push_back(static_cast<int64_t>(split.size())), split.push_back(x[d] ? y[d] / x[d] : 1), split.push_back(x[d]);
  c.inputs[0] = c.b.reshape(c.b.sum(c.b.reshape(c.dy(), split), copies, false), x);
}

/// Blocks of b x b pixels and channels, the one as the other (DepthToSpace 1, 11, 13; SpaceToDepth 1, 13).
void depth_to_space(GradientCall& c) {
  const Shape x = c.shape(0);
  const int64_t s = c.op().integer("blocksize", 1), n = x[0], depth = x[1] / (s * s), h = x[2], w = x[3];
  const bool columns_first = c.op().text("mode", "DCR") == std::string("CRD");
  const ValueId v = c.b.reshape(c.dy(), {n, depth, h, s, w, s});
  c.inputs[0] = c.b.reshape(c.b.transpose(v, columns_first ? std::vector<int64_t>{0, 1, 3, 5, 2, 4} : std::vector<int64_t>{0, 3, 5, 1, 2, 4}), x);
}
void space_to_depth(GradientCall& c) {
  const Shape x = c.shape(0);
  const int64_t s = c.op().integer("blocksize", 1);
  const ValueId v = c.b.reshape(c.dy(), {x[0], s, s, x[1], x[2] / s, x[3] / s});
  c.inputs[0] = c.b.reshape(c.b.transpose(v, {0, 3, 4, 1, 5, 2}), x);
}

void expand(GradientCall& c) { c.inputs[0] = c.b.sum_to(c.dy(), c.shape(0)); }

/// The axes of a reduction: input 1 or the attribute; all of them when absent.
std::vector<int64_t> axes_of(const GradientCall& c) {
  if (c.in(1) != kNoValue && !c.constant(1)) unsupported(c.node, "the gradient of a reduction over axes that only a run knows");
  std::vector<int64_t> axes = c.constant(1) ? c.constant(1)->to_ints() : c.op().integers("axes");
  for (int64_t& a : axes) a = normalise_axis(c.node, a, c.b.rank(c.in(0)));
  if (axes.empty() && !c.op().integer("noop_with_empty_axes", 0)) {
    axes.resize(c.shape(0).size());
    std::iota(axes.begin(), axes.end(), 0);
  }
  return axes;
}

/// The gradient with the reduced axes as extents of 1.
ValueId kept(GradientCall& c, ValueId v, const std::vector<int64_t>& axes) {
  Shape s = c.shape(0);
  for (int64_t a : axes) s[static_cast<size_t>(a)] = 1;
  return c.b.reshape(v, s);
}

void reduce_sum(GradientCall& c) { c.inputs[0] = c.b.expand(kept(c, c.dy(), axes_of(c)), c.shape(0)); }

void reduce_mean(GradientCall& c) {
  const auto axes = axes_of(c);
  double n = 1;
  for (int64_t a : axes) n *= static_cast<double>(c.shape(0)[static_cast<size_t>(a)]);
  c.inputs[0] = c.b.expand(c.b.scale(kept(c, c.dy(), axes), 1 / n), c.shape(0));
}

void reduce_sum_square(GradientCall& c) { c.inputs[0] = c.b.mul(kept(c, c.dy(), axes_of(c)), c.b.scale(c.in(0), 2)); }
void reduce_l1(GradientCall& c) { c.inputs[0] = c.b.mul(kept(c, c.dy(), axes_of(c)), c.b.unary("Sign", c.in(0))); }
void reduce_l2(GradientCall& c) {
  const auto axes = axes_of(c);
  c.inputs[0] = c.b.mul(c.in(0), kept(c, c.b.div(c.dy(), c.out()), axes));
}
/// dy / sum
void reduce_log_sum(GradientCall& c) {
  const auto axes = axes_of(c);
  c.inputs[0] = c.b.expand(kept(c, c.b.div(c.dy(), c.b.unary("Exp", c.out())), axes), c.shape(0));
}
/// dy times the softmax
void reduce_log_sum_exp(GradientCall& c) {
  const auto axes = axes_of(c);
  c.inputs[0] = c.b.mul(kept(c, c.dy(), axes), c.b.unary("Exp", c.b.sub(c.in(0), kept(c, c.out(), axes))));
}

/// Equals share the gradient.
void reduce_extreme(GradientCall& c) {
  const auto axes = axes_of(c);
  const ValueId mask = c.b.equal(c.in(0), kept(c, c.out(), axes));
  c.inputs[0] = c.b.mul(mask, c.b.div(kept(c, c.dy(), axes), c.b.sum(mask, axes, true)));
}

/// x over its norm along an axis (LpNormalization 1, 22): what lies along x leaves the norm as it is.
void lp_normalization(GradientCall& c) {
  const int64_t axis = normalise_axis(c.node, c.op().integer("axis", -1), c.b.rank(c.in(0))), p = c.op().integer("p", 2);
  const ValueId norm = p == 1 ? c.b.sum(c.b.unary("Abs", c.in(0)), {axis}, true) : c.b.unary("Sqrt", c.b.sum(c.b.mul(c.in(0), c.in(0)), {axis}, true));
  const ValueId along = c.b.sum(c.b.mul(c.dy(), c.out()), {axis}, true), of_norm = p == 1 ? c.b.unary("Sign", c.in(0)) : c.out();
  c.inputs[0] = c.b.div(c.b.sub(c.dy(), c.b.mul(of_norm, along)), norm);
}

constexpr GradientRule kRules[] = {{"Reshape", reshape}, {"Flatten", reshape}, {"Squeeze", reshape}, {"Unsqueeze", reshape}, {"Transpose", transpose}, {"Concat", concat}, {"Split", split}, {"Slice", slice}, {"Pad", pad}, {"Tile", tile}, {"DepthToSpace", depth_to_space}, {"SpaceToDepth", space_to_depth}, {"Resize", resize}, {"Upsample", resize},
                                   {"Expand", expand}, {"ReduceSum", reduce_sum}, {"ReduceMean", reduce_mean}, {"ReduceMax", reduce_extreme}, {"ReduceMin", reduce_extreme}, {"ReduceSumSquare", reduce_sum_square}, {"ReduceL1", reduce_l1}, {"ReduceL2", reduce_l2}, {"ReduceLogSum", reduce_log_sum}, {"ReduceLogSumExp", reduce_log_sum_exp}, {"LpNormalization", lp_normalization}};

}  // namespace

std::span<const GradientRule> layout_gradients() { return kRules; }

}  // namespace systole
