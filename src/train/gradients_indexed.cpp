// Gradients of movement by indices: Gather, and what only moves elements to places that are known when the compiler runs.
#include <algorithm>
#include <numeric>

#include "graph/checks.h"
#include "host/host.h"
#include "train/gradients.h"

namespace systole {
namespace {

constexpr size_t kMostPlaces = 256;  ///< that one element went to, each a gather of its own

/// Every element goes back where it came from: a product with a matrix of ones at the indices, since several may have come
/// from one place.
void gather(GradientCall& c) {
  const Shape x = c.shape(0), ids = c.b.shape(c.in(1));
  const int64_t rank = static_cast<int64_t>(x.size()), axis = normalise_axis(c.node, c.op().integer("axis", 0), rank), n = x[static_cast<size_t>(axis)], m = element_count(ids);
  std::vector<float> numbers(static_cast<size_t>(n));
  std::iota(numbers.begin(), numbers.end(), 0.0f);
  ValueId at = c.b.reshape(c.b.node("Cast", {c.in(1)}, ids, {{"systole_to", static_cast<int64_t>(DType::kF32)}}), {m, 1});
  at = c.b.add(at, c.b.scale(c.b.greater(c.b.scalar(0), at), static_cast<double>(n)));  // negative indices count from the end
  const ValueId ones = c.b.equal(at, c.b.tensor(Tensor::from_floats(numbers, {1, n})));
  // dy [before, ids, after] as [ids, before x after]
  const int64_t before = element_count(Shape(x.begin(), x.begin() + axis)), after = element_count(Shape(x.begin() + axis + 1, x.end()));
  ValueId dy = c.b.transpose(c.b.reshape(c.dy(), {before, m, after}), {1, 0, 2});
  ValueId dx = c.b.matmul(c.b.transpose(ones, {1, 0}), c.b.reshape(dy, {m, before * after}));
  dx = c.b.transpose(c.b.reshape(dx, {n, before, after}), {1, 0, 2});
  c.inputs[0] = c.b.reshape(dx, x);
}

/// Which element of the data inputs each output element is, as the host's operator moves numbers: those of input data[k] begin at first[k], 0 is none.
struct Movement {
  std::vector<size_t> data;
  std::vector<int64_t> first;
  Tensor sources;
};

Movement movement_of(GradientCall& c, const std::vector<size_t>& data) {
  Movement m{data, {}, {}};
  std::vector<HostValue> inputs;
  int64_t next = 1;
  for (size_t k = 0; k < c.node.inputs.size(); ++k) {
    if (c.in(k) == kNoValue) {
      inputs.emplace_back();
    } else if (std::count(data.begin(), data.end(), k)) {
      Tensor numbers(DType::kI64, c.shape(k));
      for (int64_t i = 0, n = numbers.count(); i < n; ++i) numbers.set_int(i, next + i);
      m.first.push_back(next), next += numbers.count();
      inputs.emplace_back(std::move(numbers));
    } else {
      if (!c.constant(k)) unsupported(c.node, "the gradient of a movement by indices that only a run knows");
      inputs.emplace_back(c.constant(k));
    }
  }
  m.first.push_back(next);
  m.sources = *run_host(c.node, inputs, {}).at(0).tensor;
  return m;
}

/// The sum over the places that each element went to: as many gathers as one went to at most.
ValueId moved_back(GradientCall& c, const Movement& m, size_t which) {
  const Shape shape = c.shape(m.data[which]);
  std::vector<std::vector<int64_t>> places(static_cast<size_t>(element_count(shape)));
  size_t most = 0;
  for (int64_t i = 0, n = m.sources.count(); i < n; ++i) {
    const int64_t number = m.sources.int_at(i);
    if (number < m.first[which] || number >= m.first[which + 1]) continue;
    auto& list = places[static_cast<size_t>(number - m.first[which])];
    list.push_back(i), most = std::max(most, list.size());
  }
  if (most > kMostPlaces) unsupported(c.node, "the gradient of a movement of one element to more than " + std::to_string(kMostPlaces) + " places");
  if (most == 0) return c.b.expand(c.b.scalar(0), shape);
  const int64_t count = m.sources.count();
  const ValueId flat = c.b.concat({c.b.reshape(c.dy(), {count}), c.b.tensor(Tensor::from_floats({0}, {1}))}, 0);
  ValueId sum = kNoValue;
  for (size_t k = 0; k < most; ++k) {
    std::vector<int64_t> from;
    for (const auto& list : places) from.push_back(k < list.size() ? list[k] : count);
    const ValueId part = c.b.node("GatherElements", {flat, c.b.ints(from)}, {static_cast<int64_t>(from.size())}, {{"axis", int64_t{0}}});
    sum = sum == kNoValue ? part : c.b.add(sum, part);
  }
  return c.b.reshape(sum, shape);
}

template <size_t... data>
void moved(GradientCall& c) {
  const Movement m = movement_of(c, {data...});
  for (size_t k = 0; k < m.data.size(); ++k) {
    if (c.wants(m.data[k])) c.inputs[m.data[k]] = moved_back(c, m, k);
  }
}

/// Updates that are added get the gradient of the place that they went to.
void scatter(GradientCall& c) {
  const std::string reduction = c.op().text("reduction", "none");
  if (reduction == "none") return moved<0, 2>(c);
  if (reduction != "add") unsupported(c.node, "the gradient of a scatter that reduces by " + reduction);
  if (c.wants(0)) c.inputs[0] = c.dy();
  if (!c.wants(2)) return;
  const bool elements = c.op().type == "ScatterElements";
  c.inputs[2] = elements ? c.b.node("GatherElements", {c.dy(), c.in(1)}, c.shape(2), {{"axis", c.op().integer("axis", 0)}}) : c.b.node("GatherND", {c.dy(), c.in(1)}, c.shape(2));
}

constexpr GradientRule kRules[] = {{"Gather", gather}, {"GatherElements", moved<0>}, {"GatherND", moved<0>}, {"ScatterElements", scatter}, {"Scatter", moved<0, 2>}, {"ScatterND", scatter}, {"TensorScatter", moved<0, 1>},
                                   {"Compress", moved<0>}, {"ReverseSequence", moved<0>}, {"Trilu", moved<0>}, {"MaxUnpool", moved<0>}};

}  // namespace

std::span<const GradientRule> indexed_gradients() { return kRules; }

}  // namespace systole
