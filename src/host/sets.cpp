// Unique.
#include <algorithm>
#include <map>
#include <numeric>
#include <string>

#include "host/host.h"

namespace systole {
namespace {

/// Slices along an axis (or single elements), sorted or in order of first appearance, with indices, inverse and counts.
void run_unique(HostCall& c) {
  const Tensor& x = c.in(0);
  const bool flat = !c.op().has("axis");
  const Shape own = flat ? Shape{x.count()} : x.shape;
  const size_t axis = flat ? 0 : static_cast<size_t>(normalise_axis(c.node, c.op().integer("axis", 0), own.size()));
  int64_t outer = 1, inner = 1;
  for (size_t d = 0; d < own.size(); ++d) (d < axis ? outer : inner) *= d == axis ? 1 : own[d];
  const int64_t n = own.empty() ? 1 : own[axis];
  auto element = [&](int64_t k, int64_t j) { return (j / inner * n + k) * inner + j % inner; };
  auto compare = [&](int64_t a, int64_t b) {
    for (int64_t j = 0; j < outer * inner; ++j) {
      const int64_t p = element(a, j), q = element(b, j);
      if (x.type == DType::kString) {
        if (const int r = x.strings[static_cast<size_t>(p)].compare(x.strings[static_cast<size_t>(q)])) return r;
      } else if (is_float(x.type)) {
        if (x.at(p) != x.at(q)) return x.at(p) < x.at(q) ? -1 : 1;
      } else if (x.int_at(p) != x.int_at(q)) {
        return x.int_at(p) < x.int_at(q) ? -1 : 1;
      }
    }
    return 0;
  };
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return compare(a, b) < 0; });
  std::vector<int64_t> first, counts, inverse(static_cast<size_t>(n)), group(static_cast<size_t>(n));
  for (size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || compare(order[i - 1], order[i]) != 0) first.push_back(order[i]), counts.push_back(0);
    ++counts.back();
    group[static_cast<size_t>(order[i])] = static_cast<int64_t>(first.size()) - 1;
  }
  std::vector<int64_t> rank(first.size());
  std::iota(rank.begin(), rank.end(), 0);
  if (!c.op().integer("sorted", 1)) std::sort(rank.begin(), rank.end(), [&](int64_t a, int64_t b) { return first[static_cast<size_t>(a)] < first[static_cast<size_t>(b)]; });
  std::vector<int64_t> place(first.size()), indices, sizes;
  for (size_t i = 0; i < rank.size(); ++i) place[static_cast<size_t>(rank[i])] = static_cast<int64_t>(i), indices.push_back(first[static_cast<size_t>(rank[i])]), sizes.push_back(counts[static_cast<size_t>(rank[i])]);
  for (size_t k = 0; k < inverse.size(); ++k) inverse[k] = place[static_cast<size_t>(group[k])];
  const int64_t m = static_cast<int64_t>(indices.size());
  Shape shape = own;
  if (shape.empty()) shape = {1};
  shape[axis] = m;
  Tensor& y = c.make(0, x.type, shape);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < outer * inner; ++j) copy_element(y, (j / inner * m + i) * inner + j % inner, x, element(indices[static_cast<size_t>(i)], j));
  }
  c.give(1, Tensor::from_ints(indices, {m}));
  c.give(2, Tensor::from_ints(inverse, {n}));
  c.give(3, Tensor::from_ints(sizes, {m}));
}

constexpr HostOperator kOperators[] = {{"", "Unique", run_unique, kAllInputs}};

}  // namespace

std::span<const HostOperator> host_sets() { return kOperators; }

}  // namespace systole
