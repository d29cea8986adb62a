#include "train/ctc.h"

#include <algorithm>

namespace systole {
namespace {

constexpr double kNever = -1e5;  ///< a logarithm of nothing that can be added up

/// log(e^a + e^b + ...), of values that are kNever or greater.
ValueId log_sum(Builder& b, const std::vector<ValueId>& list) {
  ValueId most = list[0], sum = kNoValue;
  for (size_t i = 1; i < list.size(); ++i) most = b.binary("Max", most, list[i]);
  for (ValueId v : list) {
    const ValueId e = b.unary("Exp", b.sub(v, most));
    sum = sum == kNoValue ? e : b.add(sum, e);
  }
  return b.add(most, b.unary("Log", sum));
}

/// [N, S] from `by` places before (or behind, where negative).
ValueId moved(Builder& b, ValueId v, int64_t by, double fill) {
  const int64_t s = b.shape(v)[1], n = std::min(std::abs(by), s);
  if (n == s) return b.expand(b.scalar(fill), b.shape(v));
  if (by > 0) return b.pad(b.slice(v, {1}, {0}, {s - n}, {1}), {0, n}, {0, 0}, fill);
  return b.pad(b.slice(v, {1}, {n}, {s}, {1}), {0, 0}, {0, n}, fill);
}

struct Lattice {
  Builder& b;
  int64_t batch, steps, places;
  ValueId emissions;  ///< [N, T, S]: log p of each place's class
  ValueId barred;     ///< [N, S]: kNever where a place cannot be entered from two before it

  ValueId at(int64_t t) { return b.reshape(b.slice(emissions, {1}, {t}, {t + 1}, {1}), {batch, places}); }

  /// Log probabilities of all beginnings that are at place s at step t, one tensor a step; of all ends, where `back`.
  std::vector<ValueId> walk(ValueId start, bool back) {
    std::vector<ValueId> all(static_cast<size_t>(steps));
    const int64_t way = back ? -1 : 1;
    for (int64_t i = 0; i < steps; ++i) {
      const int64_t t = back ? steps - 1 - i : i;
      ValueId here = start;
      if (i > 0) {
        const ValueId v = all[static_cast<size_t>(t - way)];
        // Two places on: the place that is entered decides, which lies behind where the walk goes back.
        const ValueId skip = back ? moved(b, b.add(v, barred), -2, kNever) : b.add(moved(b, v, 2, kNever), barred);
        here = log_sum(b, {v, moved(b, v, way, kNever), skip});
      }
      all[static_cast<size_t>(t)] = b.binary("Max", b.add(here, at(t)), b.scalar(kNever));
    }
    return all;
  }
};

ValueId joined(Builder& b, const std::vector<ValueId>& list, const Shape& shape) {
  std::vector<ValueId> steps;
  for (ValueId v : list) steps.push_back(b.reshape(v, {shape[0], 1, shape[2]}));
  return steps.size() == 1 ? steps[0] : b.concat(steps, 1);
}

}  // namespace

void ctc_loss(Builder& b, ValueId y, int64_t, Loss& l) {
  const Shape s = b.shape(y);
  const int64_t n = s[0], places = b.shape(l.targets)[1];
  const ValueId one = b.scalar(1), log_p = b.node("LogSoftmax", {y}, s, {{"axis", int64_t{2}}});
  auto never = [&](ValueId share) { return b.scale(b.sub(one, share), kNever); };  // 0 where share is 1
  const ValueId valid = b.reshape(b.sum(l.targets, {2}, true), {n, places});
  ValueId other = b.expand(b.scalar(0), {n, places});  // 1 where the class two before is another (and not the blank: those are the same)
  if (places > 2) {
    const ValueId same = b.reshape(b.sum(b.mul(b.slice(l.targets, {1}, {2}, {places}, {1}), b.slice(l.targets, {1}, {0}, {places - 2}, {1})), {2}, true), {n, places - 2});
    other = b.pad(b.sub(b.slice(valid, {1}, {2}, {places}, {1}), same), {0, 2}, {0, 0});
  }
  const ValueId spoken = b.add(b.matmul(log_p, b.transpose(l.targets, {0, 2, 1})), b.reshape(never(valid), {n, 1, places}));
  Lattice lattice{b, n, s[1], places, spoken, never(other)};
  Tensor first(DType::kF32, {1, places});
  for (int64_t i = 0; i < std::min<int64_t>(2, places); ++i) first.set(i, 1);
  const ValueId last = b.mul(valid, b.sub(one, moved(b, valid, -2, 0)));  // the two places where a label may end
  const auto alpha = lattice.walk(never(b.tensor(std::move(first))), false), beta = lattice.walk(never(last), true);
  // log P = log sum over the last step's ends.
  const ValueId ends = b.add(alpha.back(), never(last)), most = b.max(ends, {1}, true);
  const ValueId whole = b.add(most, b.unary("Log", b.sum(b.unary("Exp", b.sub(ends, most)), {1}, true)));  // [N, 1]
  l.losses = b.neg(whole);
  // Shares of the places at each step, alpha beta / (p P); those of a class are what the softmax is compared with.
  const Shape grid = {n, s[1], places};
  const ValueId both = b.sub(b.add(joined(b, alpha, grid), joined(b, beta, grid)), spoken);
  const ValueId shares = b.mul(b.unary("Exp", b.binary("Min", b.sub(both, b.reshape(whole, {n, 1, 1})), b.scalar(0))), b.reshape(valid, {n, 1, places}));
  l.gradient = b.mul(b.sub(b.unary("Exp", log_p), b.matmul(shares, l.targets)), l.scale);
}

}  // namespace systole
