// Reductions, arg-reductions, cumulative sums, TopK, Hardmax and Det.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "host/host.h"

namespace systole {
namespace {

/// Axes of a Reduce operator: an attribute, or an input; absent means all, or none with noop_with_empty_axes.
std::vector<bool> reduced_axes(const HostCall& c, size_t rank, bool* noop) {
  std::vector<int64_t> axes = c.has(1) ? c.ints(1) : c.op().integers("axes");
  *noop = axes.empty() && c.op().integer("noop_with_empty_axes", 0) != 0;
  std::vector<bool> reduced(rank, axes.empty() && !*noop);
  for (int64_t a : axes) reduced[static_cast<size_t>(normalise_axis(c.node, a, rank))] = true;
  return reduced;
}

struct Accumulator {
  double sum = 0, squares = 0, absolute = 0, product = 1, exponentials = 0, lo = INFINITY, hi = -INFINITY;
  int64_t n = 0, isum = 0, iproduct = 1, ilo = INT64_MAX, ihi = INT64_MIN, isquares = 0, iabsolute = 0;
};

using Finish = double (*)(const Accumulator&);
struct Reduction {
  const char* name;
  Finish real;
  int64_t (*integer)(const Accumulator&);
};
constexpr Reduction kReductions[] = {
    {"ReduceSum", [](const Accumulator& a) { return a.sum; }, [](const Accumulator& a) { return a.isum; }},
    {"ReduceMean", [](const Accumulator& a) { return a.sum / static_cast<double>(a.n); }, [](const Accumulator& a) { return a.n ? a.isum / a.n : 0; }},
    {"ReduceProd", [](const Accumulator& a) { return a.product; }, [](const Accumulator& a) { return a.iproduct; }},
    {"ReduceMax", [](const Accumulator& a) { return a.hi; }, [](const Accumulator& a) { return a.ihi; }},
    {"ReduceMin", [](const Accumulator& a) { return a.lo; }, [](const Accumulator& a) { return a.ilo; }},
    {"ReduceSumSquare", [](const Accumulator& a) { return a.squares; }, [](const Accumulator& a) { return a.isquares; }},
    {"ReduceL1", [](const Accumulator& a) { return a.absolute; }, [](const Accumulator& a) { return a.iabsolute; }},
    {"ReduceL2", [](const Accumulator& a) { return std::sqrt(a.squares); }, [](const Accumulator& a) { return static_cast<int64_t>(std::sqrt(static_cast<double>(a.isquares))); }},
    {"ReduceLogSum", [](const Accumulator& a) { return std::log(a.sum); }, [](const Accumulator& a) { return static_cast<int64_t>(std::log(static_cast<double>(a.isum))); }},
    {"ReduceLogSumExp", [](const Accumulator& a) { return a.n ? a.hi + std::log(a.exponentials) : -INFINITY; }, nullptr},
};

void add(Accumulator& a, double v) {
  if (std::isnan(v)) a.hi = a.lo = v;
  // exponentials are relative to the greatest value so far
  if (v > a.hi) a.exponentials *= std::isinf(a.hi) ? 0 : std::exp(a.hi - v);
  a.lo = v < a.lo ? v : a.lo, a.hi = v > a.hi ? v : a.hi;
  a.exponentials += std::exp(v - a.hi);
  a.sum += v, a.squares += v * v, a.absolute += std::fabs(v), a.product *= v, ++a.n;
}
void add(Accumulator& a, int64_t v) {
  auto wrap = [](uint64_t x) { return static_cast<int64_t>(x); };
  a.isum = wrap(static_cast<uint64_t>(a.isum) + static_cast<uint64_t>(v)), a.iproduct = wrap(static_cast<uint64_t>(a.iproduct) * static_cast<uint64_t>(v));
  a.isquares = wrap(static_cast<uint64_t>(a.isquares) + static_cast<uint64_t>(v) * static_cast<uint64_t>(v)), a.iabsolute = wrap(static_cast<uint64_t>(a.iabsolute) + static_cast<uint64_t>(v < 0 ? -v : v));
  a.ilo = std::min(a.ilo, v), a.ihi = std::max(a.ihi, v), ++a.n;
}

void run_reduce(HostCall& c) {
  const Tensor& x = c.in(0);
  const size_t rank = x.shape.size();
  bool noop = false;
  const auto reduced = reduced_axes(c, rank, &noop);
  const bool keep = c.op().integer("keepdims", 1) != 0;
  Shape kept, shape;
  for (size_t d = 0; d < rank; ++d) {
    kept.push_back(reduced[d] ? 1 : x.shape[d]);
    if (!reduced[d] || keep) shape.push_back(kept.back());
  }
  const auto& r = *std::find_if(std::begin(kReductions), std::end(kReductions), [&](const Reduction& k) { return c.op().type == k.name; });
  Tensor& y = c.make(0, x.type, shape);
  if (noop && c.op().type != "ReduceSumSquare" && c.op().type != "ReduceL1" && c.op().type != "ReduceL2" && !c.op().type.starts_with("ReduceLog")) {
    y.bytes = x.bytes;
    return;
  }
  const bool real = is_float(x.type);
  if (!real && !r.integer) unsupported(c.node, "integers");
  std::vector<Accumulator> sums(static_cast<size_t>(y.count()));
  const auto strides = broadcast_strides(kept, x.shape);
  Odometer at(x.shape);
  for (int64_t i = 0, n = x.count(); i < n; ++i, at.next()) {
    Accumulator& a = sums[static_cast<size_t>(offset_of(at.index, strides))];
    real ? add(a, x.at(i)) : add(a, x.int_at(i));
  }
  for (int64_t i = 0; i < y.count(); ++i) real ? y.set(i, r.real(sums[static_cast<size_t>(i)])) : y.set_int(i, x.type == DType::kBool && !sums[static_cast<size_t>(i)].n ? c.op().type == "ReduceMin" : r.integer(sums[static_cast<size_t>(i)]));
}

/// The lines of a tensor along one axis: outer x inner lines of `extent` elements, `inner` apart.
struct Lines {
  int64_t outer = 1, extent, inner = 1;
  Lines(const Shape& s, int64_t axis) : extent(s[static_cast<size_t>(axis)]) {
    for (size_t d = 0; d < s.size(); ++d) (static_cast<int64_t>(d) < axis ? outer : static_cast<int64_t>(d) > axis ? inner : extent) *= static_cast<int64_t>(d) == axis ? 1 : s[d];
  }
  int64_t start(int64_t line) const { return line / inner * extent * inner + line % inner; }
  int64_t count() const { return outer * inner; }
};

void run_arg(HostCall& c) {
  const Tensor& x = c.in(0);
  const int64_t axis = normalise_axis(c.node, c.op().integer("axis", 0), x.shape.size());
  const bool most = c.op().type == "ArgMax", last = c.op().integer("select_last_index", 0) != 0;
  Shape shape = x.shape;
  if (c.op().integer("keepdims", 1)) shape[static_cast<size_t>(axis)] = 1;
  else shape.erase(shape.begin() + axis);
  const Lines lines(x.shape, axis);
  if (lines.extent == 0) malformed(c.node, "an axis of extent 0", "one element or more");
  Tensor& y = c.make(0, DType::kI64, shape);
  for (int64_t line = 0; line < lines.count(); ++line) {
    int64_t best = 0;
    for (int64_t k = 1; k < lines.extent; ++k) {
      const double v = x.at(lines.start(line) + k * lines.inner), b = x.at(lines.start(line) + best * lines.inner);
      if ((most ? v > b : v < b) || (last && v == b)) best = k;
    }
    y.set_int(line, best);
  }
}

void run_cumulative(HostCall& c) {
  const Tensor& x = c.in(0);
  const int64_t axis = normalise_axis(c.node, c.in(1).int_at(0), x.shape.size());
  const bool product = c.op().type == "CumProd", reverse = c.op().integer("reverse", 0) != 0, exclusive = c.op().integer("exclusive", 0) != 0;
  const Lines lines(x.shape, axis);
  Tensor& y = c.make(0, x.type, x.shape);
  for (int64_t line = 0; line < lines.count(); ++line) {
    double sum = product;
    int64_t isum = product;
    for (int64_t k = 0; k < lines.extent; ++k) {
      const int64_t at = lines.start(line) + (reverse ? lines.extent - 1 - k : k) * lines.inner;
      auto store = [&] { is_float(x.type) ? y.set(at, sum) : y.set_int(at, isum); };
      if (exclusive) store();
      if (is_float(x.type)) sum = product ? sum * x.at(at) : sum + x.at(at);
      else isum = product ? isum * x.int_at(at) : isum + x.int_at(at);
      if (!exclusive) store();
    }
  }
}

/// Equal values keep the order of their indices.
void run_top_k(HostCall& c) {
  const Tensor& x = c.in(0);
  const int64_t axis = normalise_axis(c.node, c.op().integer("axis", -1), x.shape.size()), k = c.has(1) ? c.in(1).int_at(0) : c.op().integer("k", 1);
  const bool largest = c.op().integer("largest", 1) != 0;
  const Lines lines(x.shape, axis);
  if (k < 0 || k > lines.extent) malformed(c.node, "k = " + std::to_string(k), "0 to " + std::to_string(lines.extent));
  Shape shape = x.shape;
  shape[static_cast<size_t>(axis)] = k;
  const Lines out_lines(shape, axis);
  Tensor values = blank(x.type, shape), indices(DType::kI64, shape);
  std::vector<int64_t> order(static_cast<size_t>(lines.extent));
  for (int64_t line = 0; line < lines.count(); ++line) {
    std::iota(order.begin(), order.end(), 0);
    auto value = [&](int64_t i) { return lines.start(line) + i * lines.inner; };
    auto before = [&](int64_t a, int64_t b) {
      if (!is_float(x.type)) return largest ? x.int_at(value(a)) > x.int_at(value(b)) : x.int_at(value(a)) < x.int_at(value(b));
      auto key = [&](int64_t i) { return std::isnan(x.at(value(i))) ? INFINITY : x.at(value(i)); };  // NaN counts as greatest
      return largest ? key(a) > key(b) : key(a) < key(b);
    };
    std::stable_sort(order.begin(), order.end(), before);
    for (int64_t i = 0; i < k; ++i) {
      const int64_t to = out_lines.start(line) + i * out_lines.inner;
      copy_element(values, to, x, value(order[static_cast<size_t>(i)]));
      indices.set_int(to, order[static_cast<size_t>(i)]);
    }
  }
  c.give(0, std::move(values));
  c.give(1, std::move(indices));
}

/// 1 at the first greatest element along the axis, 0 elsewhere. Before opset 13 the trailing axes count as one.
void run_hardmax(HostCall& c) {
  const Tensor& x = c.in(0);
  const bool flatten = c.op().opset < 13;
  const int64_t axis = normalise_axis(c.node, c.op().integer("axis", flatten ? 1 : -1), x.shape.size());
  Shape flat = x.shape;
  if (flatten) {
    flat = {1, 1};
    for (size_t d = 0; d < x.shape.size(); ++d) flat[static_cast<int64_t>(d) < axis ? 0 : 1] *= x.shape[d];
  }
  const Lines lines(flat, flatten ? 1 : axis);
  Tensor& y = c.make(0, x.type, x.shape);
  for (int64_t line = 0; line < lines.count() && lines.extent; ++line) {
    int64_t best = lines.start(line);
    for (int64_t k = 1; k < lines.extent; ++k) {
      if (x.at(lines.start(line) + k * lines.inner) > x.at(best)) best = lines.start(line) + k * lines.inner;
    }
    y.set(best, 1);
  }
}

constexpr HostOperator kScans[] = {
    {"", "ArgMax", run_arg}, {"", "ArgMin", run_arg}, {"", "CumSum", run_cumulative, 2, true, true}, {"", "CumProd", run_cumulative}, {"", "TopK", run_top_k, 2, true, true}, {"", "Hardmax", run_hardmax},
};

}  // namespace

std::span<const HostOperator> host_reductions() {
  static const std::vector<HostOperator> list = [] {
    std::vector<HostOperator> l;
    for (const Reduction& r : kReductions) l.push_back({"", r.name, run_reduce, 2, true, true});
    return l;
  }();
  return list;
}
std::span<const HostOperator> host_scans() { return kScans; }

}  // namespace systole
