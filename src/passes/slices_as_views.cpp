// A slice that is one run of its input's bytes needs no copy: samples of a batch, steps of a sequence.
#include <algorithm>

#include "passes/blocks.h"
#include "passes/passes.h"

namespace systole {
namespace {

/// Offset in elements of the run that the move copies whole, or -1.
int64_t run_of(const Graph& g, const Node& n) {
  const auto* move = std::get_if<Move>(&n.op);
  if (!move || move->regions.size() != 1 || move->regions[0].input != 0 || n.inputs.size() != 1 || g.value(n.inputs[0]).constant) return -1;
  const CopyRegion& r = move->regions[0];
  const Shape& out = g.value(n.outputs[0]).shape;
  if (r.extents != out || r.dst_offset || r.dst_strides != row_major_strides(out)) return -1;
  for (size_t d = 0; d < out.size(); ++d) {
    if (out[d] != 1 && r.src_strides[d] != r.dst_strides[d]) return -1;
  }
  return element_count(out) ? r.src_offset : -1;
}

/// As it is or through views: an output has bytes of its own.
bool is_output(const Graph& g, const Uses& uses, ValueId v) {
  const auto& readers = uses.readers[static_cast<size_t>(v)];
  return uses.is_output[static_cast<size_t>(v)] || std::any_of(readers.begin(), readers.end(), [&](int r) {
           const Node& reader = g.nodes[static_cast<size_t>(r)];
           return std::holds_alternative<View>(reader.op) && is_output(g, uses, reader.outputs[0]);
         });
}

}  // namespace

void slices_as_views(Graph& graph) {
  const Uses uses(graph);
  for (Node& n : graph.nodes) {
    const int64_t offset = run_of(graph, n);
    if (offset < 0 || is_output(graph, uses, n.outputs[0])) continue;
    const Value& v = graph.value(n.outputs[0]);
    // A smaller one that is read often may be worth a place in the scratchpad.
    const int64_t bytes = element_count(v.shape) * bytes_of(v.type);
    if (uses.readers[static_cast<size_t>(n.outputs[0])].size() == 1 || bytes >= kNeverResident) n.op = View{offset * bytes_of(v.type)};
  }
}

}  // namespace systole
