// Movement whose indices are known when the compiler runs: Gather and Scatter by elements or tuples, Trilu, Compress,
// ReverseSequence and others become moves. Which element goes where is found by running the host's operator on element
// numbers in place of data, so the rule is stated once.
#include <algorithm>

#include "host/host.h"
#include "ops/operator.h"

namespace systole {
namespace {

constexpr int64_t kMostElements = int64_t{1} << 20;
constexpr size_t kMostRegions = 4096;

/// Element numbers from `first`; 0 stands for the zero that an operator fills in.
Tensor numbers(const Shape& shape, int64_t first) {
  Tensor t(DType::kI64, shape);
  for (int64_t i = 0, n = t.count(); i < n; ++i) t.set_int(i, first + i);
  return t;
}

struct Source {
  int input;      ///< -1: fill
  int64_t offset;
};

/// Runs of output elements whose sources are equally spaced in one input become regions.
Move move_of(const Node& node, const std::vector<Source>& sources) {
  Move move;
  const size_t n = sources.size();
  for (size_t i = 0; i < n;) {
    size_t end = i + 1;
    const int64_t step = end < n && sources[end].input == sources[i].input ? sources[end].offset - sources[i].offset : 0;
    while (end < n && sources[end].input == sources[i].input && (sources[i].input < 0 || sources[end].offset - sources[end - 1].offset == step)) ++end;
    const int64_t count = static_cast<int64_t>(end - i);
    move.regions.push_back({sources[i].input, {count}, sources[i].input < 0 ? 0 : sources[i].offset, static_cast<int64_t>(i), {sources[i].input < 0 ? 0 : step}, {1}});
    if (move.regions.size() > kMostRegions) Lowering::unsupported(node, "more than " + std::to_string(kMostRegions) + " runs of elements");
    i = end;
  }
  return move;
}

/// `data`: positions of the inputs that are moved; all others must be constants.
template <size_t... data>
void lower_indexed(Lowering& l, const Node& node) {
  std::vector<HostValue> inputs;
  std::vector<ValueId> moved;
  std::vector<int64_t> first;
  int64_t next = 1;
  if (std::get<OnnxOp>(node.op).text("reduction", "none") != "none") Lowering::unsupported(node, "a reduction");
  for (size_t k = 0; k < node.inputs.size(); ++k) {
    const ValueId v = node.inputs[k];
    if (v == kNoValue) {
      inputs.emplace_back();
    } else if (((k == data) || ...)) {
      inputs.emplace_back(numbers(l.shape(v), next));
      moved.push_back(l.logical(v));
      first.push_back(next);
      next += element_count(l.shape(v));
    } else {
      inputs.emplace_back(l.need_constant(node, k, "indices"));
    }
  }
  if (next > kMostElements) Lowering::unsupported(node, "more than 2^20 elements");
  const DType type = l.out.value(moved[0]).type;
  for (ValueId& id : moved) id = l.in_type_of_move(node, id, type);
  const auto outputs = run_host(node, inputs, {});
  const Tensor& result = *outputs.at(0).tensor;
  if (result.count() == 0 || result.count() > kMostElements) Lowering::unsupported(node, "a result of " + std::to_string(result.count()) + " elements");
  std::vector<Source> sources;
  for (int64_t i = 0, n = result.count(); i < n; ++i) {
    const int64_t number = result.int_at(i);
    const auto owner = std::upper_bound(first.begin(), first.end(), number);
    const int input = static_cast<int>(owner - first.begin()) - 1;
    sources.push_back({number == 0 ? -1 : input, number == 0 ? 0 : number - first[static_cast<size_t>(input)]});
  }
  const ValueId flat = l.emit(node.name, move_of(node, sources), moved, type, {result.count()});
  l.define_logical(node.outputs[0], l.emit_view(node.name, flat, result.shape));
}

constexpr Operator kOperators[] = {
    {"", "GatherElements", lower_indexed<0>, "DMA", 2}, {"", "GatherND", lower_indexed<0>, "DMA", 2}, {"", "ScatterElements", lower_indexed<0, 2>, "DMA", 3}, {"", "Scatter", lower_indexed<0, 2>, "DMA", 3},
    {"", "ScatterND", lower_indexed<0, 2>, "DMA", 3}, {"", "TensorScatter", lower_indexed<0, 1>, "DMA", 2}, {"", "Compress", lower_indexed<0>, "DMA", 2}, {"", "ReverseSequence", lower_indexed<0>, "DMA", 2},
    {"ai.onnx.ml", "ArrayFeatureExtractor", lower_indexed<0>, "DMA", 2}, {"", "Trilu", lower_indexed<0>, "DMA", 1}, {"", "MaxUnpool", lower_indexed<0>, "DMA", 2},
};

}  // namespace

std::span<const Operator> indexed_operators() { return kOperators; }

}  // namespace systole
