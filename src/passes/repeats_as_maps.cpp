// A copy that repeats its input along some dimensions, as the gradient of a mean does, is work for the DMA only if somebody needs the
// copy. Maps can read the input itself.
#include <algorithm>
#include <optional>

#include "passes/passes.h"

namespace systole {
namespace {

/// How a map over the output's elements reads the input, if the move only repeats it.
std::optional<Access> repeated_access(const Graph& g, const Node& n) {
  const auto* move = std::get_if<Move>(&n.op);
  if (!move || move->regions.size() != 1 || move->regions[0].input != 0 || n.inputs.size() != 1) return {};
  const CopyRegion& r = move->regions[0];
  const Value &in = g.value(n.inputs[0]), &out = g.value(n.outputs[0]);
  if (!is_float(in.type) || element_count(in.shape) == element_count(out.shape)) return {};
  if (r.extents != out.shape || r.src_offset || r.dst_offset || r.dst_strides != row_major_strides(out.shape)) return {};
  const auto own = row_major_strides(in.shape);
  Access a;
  std::vector<bool> named(r.extents.size(), false);
  size_t next = 0;
  for (size_t d = 0; d < in.shape.size(); ++d) {
    a.index.push_back({});
    if (in.shape[d] == 1) continue;
    while (next < r.extents.size() && (r.src_strides[next] != own[d] || r.extents[next] != in.shape[d])) ++next;
    if (next == r.extents.size()) return {};
    named[next] = true;
    a.index.back().terms.push_back({static_cast<int>(next++), 1});
  }
  for (size_t l = 0; l < r.extents.size(); ++l) {
    if (!named[l] && r.extents[l] != 1 && r.src_strides[l] != 0) return {};
  }
  return a;
}

/// Through views too.
bool read_by_maps_alone(const Graph& g, const Uses& uses, ValueId v) {
  const auto& readers = uses.readers[static_cast<size_t>(v)];
  return !uses.is_output[static_cast<size_t>(v)] && std::all_of(readers.begin(), readers.end(), [&](int r) {
    const Node& reader = g.nodes[static_cast<size_t>(r)];
    return std::holds_alternative<Map>(reader.op) || (std::holds_alternative<View>(reader.op) && read_by_maps_alone(g, uses, reader.outputs[0]));
  });
}

}  // namespace

void repeats_as_maps(Graph& graph) {
  const Uses uses(graph);
  for (Node& n : graph.nodes) {
    auto access = repeated_access(graph, n);
    if (!access || !read_by_maps_alone(graph, uses, n.outputs[0])) continue;
    Map m;
    m.extents = graph.value(n.outputs[0]).shape;
    m.pre = {{isa::Micro::kMove, {Operand::input(0)}}};
    m.accesses = {std::move(*access)};
    n.op = std::move(m);
  }
}

}  // namespace systole
