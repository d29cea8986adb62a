#include "train/loss.h"

#include <cmath>
#include <numeric>

#include "base/error.h"
#include "train/ctc.h"

namespace systole {
namespace {

void cross_entropy(Builder& b, ValueId y, int64_t axis, Loss& l) {
  const ValueId log_p = b.node("LogSoftmax", {y}, b.shape(y), {{"axis", axis}});
  const ValueId share = b.sum(l.targets, {axis}, true);  // 1; 0 for rows that are ignored
  l.losses = b.neg(b.sum(b.mul(l.targets, log_p), {axis}, true));
  l.gradient = b.mul(b.sub(b.mul(b.unary("Exp", log_p), share), l.targets), l.scale);
}
void mse(Builder& b, ValueId y, int64_t, Loss& l) {
  const ValueId d = b.sub(y, l.targets);
  l.losses = b.mul(d, d);
  l.gradient = b.mul(b.scale(d, 2), l.scale);
}
void mae(Builder& b, ValueId y, int64_t, Loss& l) {
  const ValueId d = b.sub(y, l.targets);
  l.losses = b.unary("Abs", d);
  l.gradient = b.mul(b.unary("Sign", d), l.scale);
}
/// c (d - c / 2) with c = d clamped to [-1, 1]
void huber(Builder& b, ValueId y, int64_t, Loss& l) {
  const ValueId d = b.sub(y, l.targets), c = b.node("Clip", {d, b.scalar(-1), b.scalar(1)}, b.shape(d));
  l.losses = b.mul(c, b.sub(d, b.scale(c, 0.5)));
  l.gradient = b.mul(c, l.scale);
}
/// max(y, 0) - y t + log(1 + exp(-|y|))
void bce(Builder& b, ValueId y, int64_t, Loss& l) {
  const ValueId tail = b.unary("Log", b.add(b.unary("Exp", b.neg(b.unary("Abs", y))), b.scalar(1)));
  l.losses = b.add(b.sub(b.unary("Relu", y), b.mul(y, l.targets)), tail);
  l.gradient = b.mul(b.sub(b.unary("Sigmoid", y), l.targets), l.scale);
}

/// With p = sigmoid(y), n = 2 sum p t + 1, d = sum p + sum t + 1 over a sample: 1 - n / d; its gradient (n / d - 2 t) / d p (1 - p).
void dice(Builder& b, ValueId y, int64_t, Loss& l) {
  std::vector<int64_t> axes(static_cast<size_t>(b.rank(y) - 1));
  std::iota(axes.begin(), axes.end(), int64_t{1});
  const ValueId p = b.unary("Sigmoid", y), one = b.scalar(1);
  const ValueId n = b.add(b.scale(b.sum(b.mul(p, l.targets), axes, true), 2), one), d = b.add(b.add(b.sum(p, axes, true), b.sum(l.targets, axes, true)), one);
  const ValueId ratio = b.div(n, d);
  l.losses = b.sub(one, ratio);
  const ValueId slope = b.div(b.sub(ratio, b.scale(l.targets, 2)), d);
  l.gradient = b.mul(b.mul(slope, b.mul(p, b.sub(one, p))), l.scale);
}

/// Deng et al. 2019: cosines c become s cos(angle + m) for the own class and s c for the others; then cross-entropy. Outputs are cosines.
void arcface(Builder& b, ValueId y, int64_t axis, Loss& l) {
  constexpr double kScale = 30, kMargin = 0.5;
  const double most = 1 - 1e-4;
  const ValueId one = b.scalar(1), c = b.node("Clip", {y, b.scalar(-most), b.scalar(most)}, b.shape(y));
  const ValueId sine = b.unary("Sqrt", b.sub(one, b.mul(c, c)));
  const ValueId turned = b.sub(b.scale(c, std::cos(kMargin)), b.scale(sine, std::sin(kMargin)));
  const ValueId slope = b.add(b.scale(b.div(c, sine), std::sin(kMargin)), b.scalar(std::cos(kMargin)));
  const ValueId z = b.scale(b.add(c, b.mul(l.targets, b.sub(turned, c))), kScale);
  const ValueId dz = b.scale(b.add(one, b.mul(l.targets, b.sub(slope, one))), kScale);
  cross_entropy(b, z, axis, l);
  l.gradient = b.mul(l.gradient, dz);
}

/// Batch-all triplets (Hermans et al. 2017, section 2) of squared distances, margin 0.2: for an anchor i, the mean over its own class's
/// others p and all strangers n of max(0, margin + d(i, p) - d(i, n)). Targets hold the class's number in every element of a row.
void triplet(Builder& b, ValueId y, int64_t, Loss& l) {
  constexpr double kMargin = 0.2;
  if (b.rank(y) != 2) fail(ErrorCode::kUnsupported, "--loss triplet", "an output of rank " + std::to_string(b.rank(y)), "[batch, embedding]");
  const int64_t n = b.shape(y)[0];
  const ValueId one = b.scalar(1), number = b.slice(l.targets, {1}, {0}, {1}, {1});
  Tensor other(DType::kF32, {n, n});
  for (int64_t i = 0; i < n * n; ++i) other.set(i, i / n != i % n);
  const ValueId same = b.equal(number, b.transpose(number, {1, 0}));
  const ValueId positive = b.mul(same, b.tensor(std::move(other))), negative = b.sub(one, same);
  const ValueId squares = b.sum(b.mul(y, y), {1}, true);
  const ValueId d = b.sub(b.add(squares, b.transpose(squares, {1, 0})), b.scale(b.matmul(y, b.transpose(y, {1, 0})), 2));
  // [anchor, positive, negative]
  const ValueId hinge = b.sub(b.add(b.reshape(d, {n, n, 1}), b.scalar(kMargin)), b.reshape(d, {n, 1, n}));
  const ValueId counted = b.mul(b.mul(b.reshape(positive, {n, n, 1}), b.reshape(negative, {n, 1, n})), b.greater(hinge, b.scalar(0)));
  const ValueId share = b.div(one, b.binary("Max", b.mul(b.sum(positive, {1}, true), b.sum(negative, {1}, true)), one));  // 1 / pairs of the anchor
  l.losses = b.mul(b.reshape(b.sum(b.mul(counted, hinge), {1, 2}, true), {n, 1}), share);
  const ValueId w = b.mul(b.sub(b.reshape(b.sum(counted, {2}, true), {n, n}), b.reshape(b.sum(counted, {1}, true), {n, n})), share);  // of d
  const ValueId both = b.add(w, b.transpose(w, {1, 0}));
  l.gradient = b.mul(b.scale(b.sub(b.mul(b.sum(both, {1}, true), y), b.matmul(both, y)), 2), l.scale);
}

constexpr struct { const char* name; void (*build)(Builder&, ValueId, int64_t, Loss&); } kLosses[] = {{"cross-entropy", cross_entropy}, {"mse", mse}, {"mae", mae}, {"huber", huber}, {"bce", bce}, {"dice", dice}, {"arcface", arcface}, {"triplet", triplet}, {"ctc", ctc_loss}};

}  // namespace

bool takes_classes(const std::string& loss) { return loss == "cross-entropy" || loss == "arcface"; }

std::vector<std::string> loss_names() {
  std::vector<std::string> names;
  for (const auto& l : kLosses) names.emplace_back(l.name);
  return names;
}

Loss build_loss(Builder& b, const std::string& name, ValueId output, LossOptions options) {
  std::string names;
  for (const auto& l : kLosses) {
    names += (names.empty() ? "" : ", ") + std::string(l.name);
    if (name != l.name) continue;
    if (b.rank(output) < 2) fail(ErrorCode::kUnsupported, "--loss " + name, "an output of rank " + std::to_string(b.rank(output)), "[batch, ...]");
    Loss loss;
    const Shape y = b.shape(output);
    if (name == "ctc" && y.size() != 3) fail(ErrorCode::kUnsupported, "--loss ctc", "an output " + to_string(y), "[batch, steps, classes]");
    loss.targets = b.input("targets", DType::kF32, name == "ctc" ? Shape{y[0], 2 * options.labels_each + 1, y[2]} : y), loss.scale = b.input("scale", DType::kF32, {1});
    l.build(b, output, options.class_axis, loss);
    return loss;
  }
  fail(ErrorCode::kBadInput, "--loss", "'" + name + "'", names);
}

}  // namespace systole
